"""Where two operations can begin to differ: given the same inputs, and ranges for them, for which output elements.

Two staircases of one accumulator differ exactly on the accumulators between the two thresholds of a level. An element whose accumulator's
range meets none of these cannot be where two networks part. If no element of any operation can, the networks are equal on the box, by
induction over the operations: the first pair of tensors to differ would be made of equal tensors, by operations that differ on them.
The ranges may be those of either network: up to the first difference they are the same.
"""

from __future__ import annotations

from typing import assert_never

import numpy as np

from bvverify.bounds.interval import Bounds, Range
from bvverify.model.network import Network
from bvverify.model.ops import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv2d,
    Dense,
    Lookup,
    MaxPool,
    Op,
    Reshape,
    SequentialFloat32,
    SumThenRequantise,
    Transpose,
    inputs,
)
from bvverify.model.staircase import ACC_LIMIT, Staircase
from bvverify.model.types import AnyArray, Int64Array
from bvverify.run import interpreter


def gaps(a: Staircase, b: Staircase) -> tuple[Int64Array, Int64Array]:
    """First and last accumulator (inclusive; int64 (channels or 1, levels)) on which the staircases lie on two sides of a level.

    Where first exceeds last they agree on the level. The two differ on an accumulator exactly if it lies in one of its channel's gaps.
    """
    lo, hi = min(a.lo, b.lo), max(a.hi, b.hi)
    one, other = np.broadcast_arrays(*(_extended(s, lo, hi) for s in (a, b)))
    return np.minimum(one, other), np.maximum(one, other) - 1


def _extended(s: Staircase, lo: int, hi: int) -> Int64Array:
    """The thresholds of the levels ``lo + 1 .. hi``: those below the staircase are always reached, those above it never."""
    below, above = np.full((len(s.thresholds), s.lo - lo), -ACC_LIMIT), np.full((len(s.thresholds), hi - s.hi), ACC_LIMIT + 1)
    return np.concatenate([below, s.thresholds, above], axis=1).astype(np.int64)


def may_part(a: Network, b: Network, index: int, bounds: Bounds) -> AnyArray:
    """For which output elements operation ``index`` of the two networks can differ, on equal inputs within ``bounds`` (those of ``a``)."""
    one, other = a.ops[index], b.ops[index]
    shape = a.tensors[index + 1].shape
    nowhere, everywhere = np.zeros(shape, bool), np.ones(shape, bool)
    if (shape, a.tensors[index + 1].qtype) != (b.tensors[index + 1].shape, b.tensors[index + 1].qtype) or inputs(one) != inputs(other):
        return everywhere
    lo, hi = bounds.acc_lo[index], bounds.acc_hi[index]
    acc = None if lo is None or hi is None else Range(lo, hi)
    xs = [Range(bounds.lo[t], bounds.hi[t]) for t in inputs(one)]
    match one:
        case Dense() | Conv2d() | AvgPool(rule=SumThenRequantise()):
            first, second = staircase_of(one), staircase_of(other)
            if first is None or second is None or acc is None or not same_accumulator(one, other):
                return everywhere
            return meets(first, second, _wrapped(acc, one.accumulator_bits if isinstance(one, Dense | Conv2d) else None))
        case AvgPool(window=window, rule=SequentialFloat32() as rule):
            match other:
                case AvgPool(window=w, rule=SequentialFloat32() as r) if w == window and _same_means(rule, r):
                    return nowhere
                case _:
                    return everywhere
        case AvgPool():
            return everywhere
        case Clamp() | Lookup():
            return _unary(one, other, xs[0]) if isinstance(other, Clamp | Lookup) else everywhere
        case Add():
            return _binary(one, other, *xs) if isinstance(other, Add) else everywhere
        case MaxPool():
            return nowhere if isinstance(other, MaxPool) and other.window == one.window else everywhere
        case Concat():
            return nowhere if isinstance(other, Concat) and other.axis == one.axis else everywhere
        case Reshape():
            return nowhere if isinstance(other, Reshape) else everywhere
        case Transpose():
            return nowhere if isinstance(other, Transpose) and other.axes == one.axes else everywhere
        case _:
            assert_never(one)


def staircase_of(op: Op) -> Staircase | None:
    """The staircase behind an operation's accumulator; None where it has no linear one."""
    match op:
        case Dense(staircase=staircase) | Conv2d(staircase=staircase) | AvgPool(rule=SumThenRequantise(staircase=staircase)):
            return staircase
        case _:
            return None


def same_accumulator(a: Op, b: Op) -> bool:
    """Whether the two make the same accumulator, its wrap included, of the same input."""
    match a, b:
        case (Dense(), Dense()) | (Conv2d(), Conv2d()):
            assert isinstance(a, Dense | Conv2d)
            assert isinstance(b, Dense | Conv2d)
            if isinstance(a, Conv2d) and isinstance(b, Conv2d) and (a.window, a.groups) != (b.window, b.groups):
                return False
            same = np.array_equal(a.centred, b.centred) and np.array_equal(a.bias, b.bias)
            return same and a.input_zero_point == b.input_zero_point and a.accumulator_bits == b.accumulator_bits
        case AvgPool(window=w, rule=SumThenRequantise(input_zero_point=z)), AvgPool(window=v, rule=SumThenRequantise(input_zero_point=y)):
            return (w, z) == (v, y)
        case _:
            return False


def meets(a: Staircase, b: Staircase, acc: Range) -> AnyArray:
    """Where the range of the accumulator (channels first) meets a gap between the staircases."""
    first, last = gaps(a, b)
    hit = np.zeros(acc.lo.shape, bool)
    for channel in range(len(hit)):
        row = channel if len(first) > 1 else 0
        for level in np.flatnonzero(first[row] <= last[row]):
            hit[channel] |= (acc.lo[channel] <= last[row, level]) & (first[row, level] <= acc.hi[channel])
    return hit


def _wrapped(acc: Range, bits: int | None) -> Range:
    """The range after the wrap: all of the width where the sum could leave it."""
    if bits is None:
        return acc
    half = 1 << (bits - 1)
    loose = (acc.lo < -half) | (acc.hi >= half)
    return Range(np.where(loose, -half, acc.lo), np.where(loose, half - 1, acc.hi))


def _same_means(a: SequentialFloat32, b: SequentialFloat32) -> bool:
    plain = (a.input_lo, a.output_scale, a.zero_point, a.count_padding, a.lo, a.hi)
    return plain == (b.input_lo, b.output_scale, b.zero_point, b.count_padding, b.lo, b.hi) and np.array_equal(a.values, b.values)


def _unary(a: Op, b: Op, x: Range) -> AnyArray:
    """Functions of one value: compared on every value that occurs."""
    values = np.arange(int(x.lo.min()), int(x.hi.max()) + 1)
    differ = (interpreter.evaluate(a, [values[None]]) != interpreter.evaluate(b, [values[None]]))[0]
    upto = np.concatenate([[0], np.cumsum(differ)])
    return np.asarray(upto[x.hi - values[0] + 1] > upto[x.lo - values[0]])


def _binary(a: Op, b: Op, x: Range, y: Range) -> AnyArray:
    """Functions of two values: compared on every pair of values that occurs."""
    first, second = (np.arange(int(v.lo.min()), int(v.hi.max()) + 1) for v in (x, y))
    if len(first) * len(second) > 1 << 22:
        return np.ones(x.lo.shape, bool)
    pairs = [np.ascontiguousarray(g)[None] for g in np.meshgrid(first, second, indexing="ij")]
    differ = (interpreter.evaluate(a, pairs) != interpreter.evaluate(b, pairs))[0]
    # Sums over rectangles, by inclusion and exclusion.
    upto = np.pad(differ.astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    (left, right), (low, high) = ((v.lo - axis[0], v.hi - axis[0] + 1) for v, axis in ((x, first), (y, second)))
    return np.asarray(upto[right, high] - upto[left, high] - upto[right, low] + upto[left, low] > 0)
