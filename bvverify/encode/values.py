"""Integers as the solver sees them: a term of the smallest signed width that holds its range, or a constant.

Arithmetic is two's complement modulo ``2^width``: a sum may wrap on the way, as long as its result lies in the range that the width was
chosen for. Stable values (range of one) are plain integers and cost the solver nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import z3

Term = Any
"""A ``z3.BitVecRef``; z3's objects carry no types."""


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A signed term of ``width(lo, hi)`` bits whose value lies in ``lo .. hi``; ``term`` is None where ``lo == hi``."""

    term: Term
    lo: int
    hi: int

    @property
    def constant(self) -> bool:
        """Whether there is one value only."""
        return self.lo == self.hi


def const(value: int) -> Value:
    """A constant."""
    return Value(None, value, value)


def width(lo: int, hi: int) -> int:
    """The smallest signed width that holds ``lo .. hi``."""
    return max((lo if lo >= 0 else ~lo).bit_length(), (hi if hi >= 0 else ~hi).bit_length()) + 1


def at_width(value: Value, bits: int) -> Term:
    """The value as a term of ``bits`` bits, modulo ``2^bits``."""
    if value.constant:
        return z3.BitVecVal(value.lo, bits)
    have = value.term.size()
    if have == bits:
        return value.term
    return z3.SignExt(bits - have, value.term) if have < bits else z3.Extract(bits - 1, 0, value.term)


def narrowed(term: Term, lo: int, hi: int) -> Value:
    """A term whose value is known to lie in ``lo .. hi``, cut to that width."""
    if lo == hi:
        return const(lo)
    bits = width(lo, hi)
    return Value(z3.Extract(bits - 1, 0, term) if term.size() > bits else at_width(Value(term, lo, hi), bits), lo, hi)


def clamped(x: Value, lo: int, hi: int) -> Value:
    """``min(max(x, lo), hi)``."""
    first, last = min(max(x.lo, lo), hi), min(max(x.hi, lo), hi)
    if first == last:
        return const(first)
    bits = width(min(x.lo, lo), max(x.hi, hi))
    term, low, high = at_width(x, bits), z3.BitVecVal(lo, bits), z3.BitVecVal(hi, bits)
    return narrowed(z3.If(term < low, low, z3.If(term > high, high, term)), first, last)


def weighted_sum(weights: Sequence[int], xs: Sequence[Value], offset: int, lo: int, hi: int) -> Value:
    """``sum w*x + offset``, known to lie in ``lo .. hi``."""
    if lo == hi:
        return const(lo)
    bits, terms = width(lo, hi), []
    for weight, x in zip(weights, xs, strict=True):
        if x.constant:
            offset += weight * x.lo
        elif weight == 1:
            terms.append(at_width(x, bits))
        elif weight:
            terms.append(z3.BitVecVal(weight, bits) * at_width(x, bits))
    total = z3.BitVecVal(offset, bits)
    for term in terms:
        total = total + term
    return Value(total, lo, hi)


def steps(x: Value, thresholds: Callable[[int], int], lo: int, hi: int) -> Value:
    """``k`` in ``lo .. hi`` with ``thresholds(k) <= x < thresholds(k + 1)``: a balanced tree of comparisons.

    ``thresholds(k)`` is asked for ``lo < k <= hi`` only and has to lie within the range of ``x``.
    """
    if lo == hi:
        return const(lo)
    bits = width(lo, hi)

    def tree(first: int, last: int) -> Term:
        if first == last:
            return z3.BitVecVal(first, bits)
        middle = (first + last + 1) // 2
        return z3.If(x.term >= z3.BitVecVal(thresholds(middle), x.term.size()), tree(middle, last), tree(first, middle - 1))

    return Value(tree(lo, hi), lo, hi)


def maximum(xs: Sequence[Value]) -> Value:
    """The largest of several values; those that can never be it take no part."""
    lo, hi = max(x.lo for x in xs), max(x.hi for x in xs)
    rivals = [x for x in xs if x.hi > lo or (x.constant and x.lo == lo)]
    rivals = [x for i, x in enumerate(rivals) if not (x.constant and any(y.constant for y in rivals[:i]))]
    if lo == hi or not rivals:
        return const(lo)
    bits = width(min(x.lo for x in rivals), hi)
    best = at_width(rivals[0], bits)
    for x in rivals[1:]:
        other = at_width(x, bits)
        best = z3.If(other > best, other, best)
    # Where every rival may lie below ``lo``, one of the others is at least ``lo`` and is a rival itself.
    return narrowed(best, lo, hi)
