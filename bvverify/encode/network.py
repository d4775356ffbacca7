"""A whole question as bit-vectors: inputs, every tensor, and the violation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
import z3

from bvverify.bounds.interval import Bounds
from bvverify.encode import add, linear, pool, table
from bvverify.encode.linear import Side
from bvverify.encode.values import Value, at_width, const, weighted_sum, width
from bvverify.model.ops import Add, AvgPool, Clamp, Concat, Conv2d, Dense, Lookup, MaxPool, Op, Reshape, Transpose, inputs
from bvverify.model.query import Linear, Query
from bvverify.model.types import AnyArray, Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """``tensors[t]`` is an object array of ``Value`` of tensor ``t``'s shape; ``constraints`` bound the inputs.

    ``violation`` holds exactly when the property is violated; input ``i`` (flat) is the variable ``in<i>`` unless it is constant.
    """

    tensors: list[AnyArray]
    constraints: list[Any]
    violation: Any


def encode(query: Query, bounds: Bounds, *, part: bool = False) -> Encoding:
    """Encode a question; ``bounds`` give the widths and are sound for its box.

    With ``part`` they describe a part of the box instead: dense layers and convolutions are constrained to their ranges, and the question
    is about the inputs that meet them.
    """
    network = query.network
    lo, hi = query.box.lo.ravel(), query.box.hi.ravel()
    first, constraints = np.empty(lo.size, object), []
    for i, (low, high) in enumerate(zip(lo.tolist(), hi.tolist(), strict=True)):
        if low == high:
            first[i] = const(low)
            continue
        bits = width(low, high)
        variable = z3.BitVec(f"in{i}", bits)
        first[i] = Value(variable, low, high)
        constraints += [variable >= z3.BitVecVal(low, bits), variable <= z3.BitVecVal(high, bits)]
    tensors = [first.reshape(query.box.lo.shape)]
    side: Side = constraints if part else None
    for index, op in enumerate(network.ops):
        made = _operation(op, [tensors[i] for i in inputs(op)], bounds.acc_lo[index], bounds.acc_hi[index], side)
        tensors.append(made)
    x, y = list(tensors[0].flat), list(tensors[network.output.tensor].flat)
    cases = [_joined(z3.And, [_row(row, x, y) for row in conjunction], True) for conjunction in query.property.violation]
    return Encoding(tensors, constraints, _joined(z3.Or, cases, False))


def _joined(connective: Callable[..., Any], parts: list[Any], of_none: bool) -> Any:
    """A connective of two parts or more: SMT-LIB has none of fewer, though Z3 prints and reads them."""
    return connective(*parts) if len(parts) > 1 else parts[0] if parts else z3.BoolVal(of_none)


def _operation(op: Op, xs: list[AnyArray], acc_lo: Int64Array | None, acc_hi: Int64Array | None, side: Side) -> AnyArray:
    x = xs[0]
    match op:
        case Dense():
            assert acc_lo is not None
            assert acc_hi is not None
            return linear.dense(op, x, acc_lo, acc_hi, side)
        case Conv2d():
            assert acc_lo is not None
            assert acc_hi is not None
            return linear.conv2d(op, x, acc_lo, acc_hi, side)
        case Add():
            return add.add(op, xs[0], xs[1])
        case AvgPool():
            return pool.avg_pool(op, x)
        case MaxPool():
            return pool.max_pool(op, x)
        case Clamp():
            return table.clamp(op, x)
        case Lookup():
            return table.lookup(op, x)
        case Concat():
            return np.concatenate(xs, axis=op.axis)
        case Reshape():
            return x.reshape(op.shape)
        case Transpose():
            return x.transpose(op.axes)
        case _:
            assert_never(op)


def _row(row: Linear, x: list[Value], y: list[Value]) -> Any:
    """``outputs . y + inputs . x <= bound``, at a width that no value of it leaves."""
    pairs = [(int(c), v) for c, v in zip(row.outputs.tolist(), y, strict=True) if c]
    if row.inputs is not None:
        pairs += [(int(c), v) for c, v in zip(row.inputs.tolist(), x, strict=True) if c]
    lo = sum(min(c * v.lo, c * v.hi) for c, v in pairs)
    hi = sum(max(c * v.lo, c * v.hi) for c, v in pairs)
    if hi <= row.bound or lo > row.bound:
        return z3.BoolVal(hi <= row.bound)
    total = weighted_sum([c for c, _ in pairs], [v for _, v in pairs], 0, lo, hi)
    bits = width(lo, hi)
    return at_width(total, bits) <= z3.BitVecVal(row.bound, bits)
