"""Functions of one value: clamps and tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import z3

from bvverify.encode.values import Term, Value, clamped, const, width
from bvverify.model.ops import Clamp, Lookup
from bvverify.model.types import AnyArray


def clamp(op: Clamp, x: AnyArray) -> AnyArray:
    """``min(max(x, lo), hi)``."""
    return _each(x, lambda v: clamped(v, op.lo, op.hi))


def lookup(op: Lookup, x: AnyArray) -> AnyArray:
    """``table[x - input_lo]``: comparisons between the runs of equal entries that the range of ``x`` reaches."""
    return _each(x, lambda v: _looked_up(op, v))


def _looked_up(op: Lookup, v: Value) -> Value:
    entries = op.table[v.lo - op.input_lo : v.hi - op.input_lo + 1]
    lo, hi = int(entries.min()), int(entries.max())
    if lo == hi:
        return const(lo)
    bits = width(lo, hi)
    starts = [0, *(np.flatnonzero(np.diff(entries)) + 1).tolist()]

    def tree(first: int, last: int) -> Term:
        if first == last:
            return z3.BitVecVal(int(entries[starts[first]]), bits)
        middle = (first + last + 1) // 2
        border = z3.BitVecVal(v.lo + starts[middle], v.term.size())
        return z3.If(v.term >= border, tree(middle, last), tree(first, middle - 1))

    return Value(tree(0, len(starts) - 1), lo, hi)


def _each(x: AnyArray, function: Callable[[Value], Value]) -> AnyArray:
    out = np.empty(x.shape, object)
    for index in np.ndindex(x.shape):
        out[index] = function(x[index])  # type: ignore[arg-type]
    return out
