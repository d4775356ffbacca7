"""The rounded sum of two tensors, exactly.

ONNX Runtime adds with two float32 fused multiply-adds, TFLite's built-in kernels with three multiplies that round twice each, which no
integer comparison need reproduce: two pairs with the same exact sum may round apart. The encoding compares the integer ``ma*a + mb*b``
(the multipliers scaled to some 30 bits) with thresholds, and names every pair of values for which that is wrong: there are few, often
none, and all pairs are tried when the formula is built.
"""

from __future__ import annotations

from typing import assert_never

import numpy as np
import z3

from bvverify.encode.values import Value, at_width, const, steps, weighted_sum, width
from bvverify.model.float32 import fma
from bvverify.model.ops import Add, FmaAdd, Q31Add, ShiftAdd
from bvverify.model.types import AnyArray, Int64Array


def add(op: Add, a: AnyArray, b: AnyArray) -> AnyArray:
    """Elementwise over object arrays of ``Value``."""
    rule = _Rule(op, min(v.lo for v in a.flat), max(v.hi for v in a.flat), min(v.lo for v in b.flat), max(v.hi for v in b.flat))
    out = np.empty(a.shape, object)
    for index in np.ndindex(a.shape):
        left: Value = a[index]  # type: ignore[assignment]
        right: Value = b[index]  # type: ignore[assignment]
        out[index] = rule.encode(left, right, same=op.a == op.b)
    return out


class _Rule:
    """All pairs of one addition: what comes out, the thresholds over the scaled sum, and the pairs that they get wrong."""

    def __init__(self, op: Add, a_lo: int, a_hi: int, b_lo: int, b_hi: int) -> None:
        self.a_lo, self.b_lo = a_lo, b_lo
        va, vb = np.arange(a_lo, a_hi + 1)[:, None], np.arange(b_lo, b_hi + 1)[None, :]
        match op.rule:
            case FmaAdd(ra=ra, rb=rb, offset=offset):
                exponent = 30 - int(np.frexp(max(ra, rb))[1])
                self.ma, self.mb = round(ra * 2.0**exponent), round(rb * 2.0**exponent)
                total = np.rint(fma(va, np.float32(ra), fma(vb, np.float32(rb), np.float32(offset))))
            case ShiftAdd(ma=ma, mb=mb):
                self.ma, self.mb = ma, mb
                total = np.floor_divide(op.rule.bias + ma * va + mb * vb, 2**op.rule.shift) + op.rule.zero_point
            case Q31Add(qa=qa, qb=qb, qo=qo, single=single):
                lowest = min(qa[1], qb[1])
                # The real multipliers over a common power of two, some 30 bits of them.
                drop = max(0, max(qa[1], qb[1]) - lowest)
                self.ma, self.mb = (max(1, mantissa >> (drop - shift + lowest)) for mantissa, shift in (qa, qb))
                scaled = _rounded(va - op.rule.za << 20, qa, single) + _rounded(vb - op.rule.zb << 20, qb, single)
                total = _rounded(scaled, qo, single) + op.rule.zero_point
            case _:
                assert_never(op.rule)
        self.out: Int64Array = np.clip(total, op.lo, op.hi).astype(np.int64)
        acc = self.ma * va + self.mb * vb
        self.lo, hi = int(self.out.min()), int(self.out.max())
        # The smallest sum of any pair at a level or above; wrong for a pair below the level whose sum is as large.
        flat, values = self.out.ravel(), acc.ravel()
        smallest = np.full(hi - self.lo + 1, np.iinfo(np.int64).max)
        np.minimum.at(smallest, flat - self.lo, values)
        self.thresholds = np.minimum.accumulate(smallest[::-1])[::-1][1:]
        guessed = self.lo + np.searchsorted(self.thresholds, values, side="right")
        wrong = np.flatnonzero(guessed != flat)
        self.exceptions = [(int(i // vb.size) + a_lo, int(i % vb.size) + b_lo) for i in wrong]

    def result(self, a: int, b: int) -> int:
        return int(self.out[a - self.a_lo, b - self.b_lo])

    def encode(self, a: Value, b: Value, *, same: bool) -> Value:
        # Non-decreasing in both.
        lo, hi = self.result(a.lo, b.lo), self.result(a.hi, b.hi)
        if lo == hi:
            return const(lo)
        ends = (self.ma * a.lo + self.mb * b.lo, self.ma * a.hi + self.mb * b.hi)
        acc = weighted_sum((self.ma, self.mb), (a, b), 0, *ends)
        first, last = (self.lo + int(np.searchsorted(self.thresholds, end, side="right")) for end in ends)
        guess = steps(acc, lambda k: int(self.thresholds[k - self.lo - 1]), first, last)
        hits = [(p, q) for p, q in self.exceptions if a.lo <= p <= a.hi and b.lo <= q <= b.hi and (not same or p == q)]
        if not hits:
            # The guess holds for every pair that occurs, so that its range is the true one at both ends.
            return guess
        low = min([first, *(self.result(*pair) for pair in hits)])
        high = max([last, *(self.result(*pair) for pair in hits)])
        bits = width(low, high)
        term = at_width(guess, bits)
        for p, q in hits:
            at_pair = z3.And(*(v.term == z3.BitVecVal(w, v.term.size()) for v, w in ((a, p), (b, q)) if not v.constant))
            term = z3.If(at_pair, z3.BitVecVal(self.result(p, q), bits), term)
        return Value(term, low, high)


def _rounded(x: Int64Array, q: tuple[int, int], single: bool) -> Int64Array:
    """``x * mantissa * 2^(shift - 31)``, shift at most 0: rounded half up at once, or after 31 bits and then half away from zero."""
    mantissa, shift = q
    if single:
        return (x * mantissa + (1 << (30 - shift))) >> (31 - shift)
    high, half = (x * mantissa + (1 << 30)) >> 31, (1 << -shift) >> 1
    # Half away from zero is half up, less one unit before the shift for what is negative.
    return (high + half - (high < 0) * (half > 0)) >> -shift
