"""Integers as bits: a base and an unsigned number above it, with what is known of the range.

Every construction keeps one promise: whatever values the bits of its arguments take, the result's bits can take those of the true result,
as long as each value lies in its word's range. So an input that the clauses forget does not exist.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from bvverify.proofs.gates import FALSE, TRUE, Gates


@dataclass(frozen=True, slots=True)
class Word:
    """The integer ``base + sum bits[i] * 2^i``, which lies in ``lo .. hi``; no bits where that is one value."""

    base: int
    bits: tuple[int, ...]
    lo: int
    hi: int

    @property
    def constant(self) -> bool:
        """Whether there is one value only."""
        return self.lo == self.hi

    def value(self, true: Collection[int]) -> int:
        """The integer under an assignment, given by its true variables."""
        return self.base + sum(((abs(bit) in true) == (bit > 0)) << i for i, bit in enumerate(self.bits))

    def plus(self, offset: int) -> Word:
        """The word and a constant."""
        return Word(self.base + offset, self.bits, self.lo + offset, self.hi + offset)


def const(value: int) -> Word:
    """A constant."""
    return Word(value, (), value, value)


def free(gates: Gates, lo: int, hi: int) -> Word:
    """Any integer of ``lo .. hi``."""
    bits = tuple(gates.variable() for _ in range((hi - lo).bit_length()))
    return restrict(gates, Word(lo, bits, lo, lo + (1 << len(bits)) - 1), lo, hi)


def total(gates: Gates, terms: Sequence[tuple[int, Word]], offset: int, base: int | None = None) -> Word:
    """``sum c * x + offset``, above ``base`` (at most the least value, which it is by default)."""
    lo = offset + sum(min(c * x.lo, c * x.hi) for c, x in terms)
    hi = offset + sum(max(c * x.lo, c * x.hi) for c, x in terms)
    if lo == hi:
        return const(lo)
    base = lo if base is None else base
    return Word(base, modulo(gates, terms, offset - base, (hi - base).bit_length()), lo, hi)


def modulo(gates: Gates, terms: Sequence[tuple[int, Word]], offset: int, width: int) -> tuple[int, ...]:
    """``sum c * x + offset`` modulo ``2^width``: columns of bits of one weight each, three at a time made a sum and a carry.

    A bit of negative weight ``-w`` is its negation of weight ``w``, less ``w``.
    """
    columns: list[list[int]] = [[] for _ in range(width + 1)]
    for c, x in terms:
        offset += c * x.base
        for position, sign in _digits(c):
            for place, bit in enumerate(x.bits, position):
                columns[min(place, width)].append(sign * bit)
                offset -= (1 << place) if sign < 0 else 0
    out = []
    for place in range(width):
        column = columns[place] + [TRUE] * ((offset >> place) & 1)
        start = 0
        while len(column) - start > 1:
            taken = column[start : start + 3]
            start += len(taken)
            bit, carry = gates.add(*taken, *[FALSE] * (3 - len(taken)))
            column.append(bit)
            if carry != FALSE:
                columns[place + 1].append(carry)
        out.append(column[start] if column else FALSE)
    return tuple(out)


def _digits(c: int) -> list[tuple[int, int]]:
    """``c`` as ``sum sign * 2^position``, no two positions next to each other: the fewest terms (the non-adjacent form)."""
    out, position = [], 0
    while c:
        if c & 1:
            sign = 2 - (c & 3)
            out.append((position, sign))
            c -= sign
        c >>= 1
        position += 1
    return out


def at_least(gates: Gates, x: Word, threshold: int) -> int:
    """The literal ``x >= threshold``."""
    if threshold <= x.lo or threshold > x.hi:
        return TRUE if threshold <= x.lo else FALSE
    need, out = threshold - x.base, TRUE
    # With the bits below alike, the number with the larger bit is the larger.
    for place, bit in enumerate(x.bits):
        out = gates.both(bit, out) if (need >> place) & 1 else gates.either(bit, out)
    return out


def restrict(gates: Gates, x: Word, lo: int, hi: int) -> Word:
    """Require that ``x`` lies in ``lo .. hi``, and know it."""
    gates_lo, gates_hi = at_least(gates, x, lo), -at_least(gates, x, hi + 1)
    for literal in (gates_lo, gates_hi):
        if literal != TRUE:
            gates.require(literal)
    lo, hi = max(lo, x.lo), min(hi, x.hi)
    if lo >= hi:  # beyond: nothing is left, and a constant is as good as anything
        return const(lo)
    return Word(x.base, x.bits[: (hi - x.base).bit_length()], lo, hi)


def choose(gates: Gates, condition: int, a: Word, b: Word) -> Word:
    """``a`` where the condition holds, else ``b``."""
    if abs(condition) == TRUE:
        return a if condition == TRUE else b
    lo, hi = min(a.lo, b.lo), max(a.hi, b.hi)
    if lo == hi:
        return const(lo)
    a, b = (x if x.base == lo else total(gates, [(1, x)], 0, lo) if not x.constant else _above(x.lo, lo) for x in (a, b))
    width = max(len(a.bits), len(b.bits))
    pairs = zip(*((*x.bits, *[FALSE] * (width - len(x.bits))) for x in (a, b)), strict=True)
    return Word(lo, tuple(gates.choose(condition, p, q) for p, q in pairs), lo, hi)


def _above(value: int, base: int) -> Word:
    """A constant as bits above a base."""
    bits = tuple(TRUE if (value - base) >> i & 1 else FALSE for i in range((value - base).bit_length()))
    return Word(base, bits, value, value)


def maximum(gates: Gates, xs: Sequence[Word]) -> Word:
    """The largest of several."""
    best = xs[0]
    for x in xs[1:]:
        lo = max(x.lo, best.lo)
        larger = at_least(gates, total(gates, [(1, x), (-1, best)], 0), 1)
        best = choose(gates, larger, x, best)
        best = const(best.hi) if lo == best.hi else replace(best, lo=lo)
    return best


def clamp(gates: Gates, x: Word, lo: int, hi: int) -> Word:
    """``min(max(x, lo), hi)``."""
    if x.hi <= lo or x.lo >= hi or lo == hi:
        return const(lo if x.hi <= lo else hi)
    first, last = max(x.lo, lo), min(x.hi, hi)
    x = choose(gates, at_least(gates, x, lo), x, const(lo))
    x = choose(gates, at_least(gates, x, hi + 1), const(hi), x)
    return replace(x, lo=first, hi=last, bits=x.bits[: (last - x.base).bit_length()])


def piecewise(gates: Gates, x: Word, borders: Sequence[int], values: Sequence[int]) -> Word:
    """``values[k]`` where ``k`` of the increasing ``borders`` are at or below ``x``: a tree of choices between constants."""
    lo, hi = min(values), max(values)
    if lo == hi:
        return const(lo)
    width = (hi - lo).bit_length()

    def tree(first: int, last: int) -> tuple[int, ...]:
        if first == last:
            return tuple(TRUE if (values[first] - lo) >> i & 1 else FALSE for i in range(width))
        # At a power of two, where the values count upwards, all leaves of a side share their upper bits.
        middle = first + (1 << ((last - first).bit_length() - 1))
        condition = at_least(gates, x, borders[middle - 1])
        return tuple(gates.choose(condition, p, q) for p, q in zip(tree(middle, last), tree(first, middle - 1), strict=True))

    return Word(lo, tree(0, len(borders)), lo, hi)


def steps(gates: Gates, x: Word, first: int, thresholds: Sequence[int]) -> Word:
    """``first`` and the number of the non-decreasing ``thresholds`` at or below ``x``."""
    below = sum(t <= x.lo for t in thresholds)
    within = [int(t) for t in thresholds[below:] if t <= x.hi]
    first += below
    stride = within[1] - within[0] if len(within) > 1 else 0
    even = all(b - a == stride for a, b in pairwise(within))
    if stride and even and stride & (stride - 1) == 0:
        return _shifted(gates, x, within[0], stride.bit_length() - 1, len(within)).plus(first)
    borders, counts = np.unique(np.array(within, np.int64), return_counts=True)
    return piecewise(gates, x, borders.tolist(), [first, *(first + np.cumsum(counts)).tolist()])


def _shifted(gates: Gates, x: Word, threshold: int, shift: int, most: int) -> Word:
    """How many of ``threshold + k * 2^shift``, k from 0 to ``most - 1``, are at or below ``x``: bits that stand there already."""
    behind = max(0, -((x.lo - threshold) >> shift))
    high = total(gates, [(1, x)], 0, threshold - (behind << shift)).bits[shift:]
    lo, hi = (((end - threshold) >> shift) + 1 for end in (x.lo, x.hi))
    return clamp(gates, Word(1 - behind, high, lo, hi), 0, most)
