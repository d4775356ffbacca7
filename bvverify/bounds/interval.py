"""Integer intervals through every operation: the cheapest sound reading of a network, and the one that the others start from.

Every tensor of every input of the box lies within ``lo .. hi``, elementwise. Sums of products are exact integers (float64 BLAS
where every partial sum stays below 2^53, int64 otherwise); staircases are non-decreasing, so that they map ends to
ends; tables that are not monotone take the smallest and largest entry of the range. Where an accumulator could leave its width,
the result of the wrap is unknown to an interval and becomes the staircase's whole range: sound, and said so in ``Bounds.wraps``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bvverify.errors import UnsupportedError
from bvverify.model.float32 import fma
from bvverify.model.network import Network
from bvverify.model.ops import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv2d,
    Dense,
    FmaAdd,
    Lookup,
    MaxPool,
    Op,
    Q31Add,
    Reshape,
    SequentialFloat32,
    ShiftAdd,
    SumThenRequantise,
    Transpose,
    Window,
    inputs,
)
from bvverify.model.query import Box
from bvverify.model.staircase import ACC_LIMIT, Staircase
from bvverify.model.types import AnyArray, Int64Array

_EXACT = 1 << 53


@dataclass(frozen=True, slots=True, eq=False)
class Range:
    """Inclusive integer ranges, elementwise; int64 arrays of one shape (no batch axis)."""

    lo: Int64Array
    hi: Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """Ranges of every tensor and of every accumulator.

    ``lo[t]``, ``hi[t]`` belong to tensor ``t``; ``acc_lo[i]``, ``acc_hi[i]`` to operation ``i``: the exact accumulator before any wrap,
    of the output's shape (None for operations without one).
    """

    lo: tuple[Int64Array, ...]
    hi: tuple[Int64Array, ...]
    acc_lo: tuple[Int64Array | None, ...]
    acc_hi: tuple[Int64Array | None, ...]

    def contains(self, tensors: Sequence[Int64Array]) -> bool:
        """Whether a batch of traced tensors lies inside, all of them."""
        return all(bool(((lo <= t) & (t <= hi)).all()) for lo, hi, t in zip(self.lo, self.hi, tensors, strict=True))


def propagate(network: Network, box: Box) -> Bounds:
    """Intervals of every tensor for the inputs of ``box`` (the input tensor's shape)."""
    values = [Range(box.lo, box.hi)]
    accumulators: list[Range | None] = []
    for op in network.ops:
        value, accumulator = step(op, [values[i] for i in inputs(op)])
        values.append(value)
        accumulators.append(accumulator)
    return Bounds(
        tuple(v.lo for v in values),
        tuple(v.hi for v in values),
        tuple(None if a is None else a.lo for a in accumulators),
        tuple(None if a is None else a.hi for a in accumulators),
    )


def wraps(op: Op, accumulator: Range | None) -> bool:
    """Whether the accumulator of an operation could leave its two's-complement width somewhere."""
    if not isinstance(op, Dense | Conv2d) or op.accumulator_bits is None or accumulator is None:
        return False
    half = 1 << (op.accumulator_bits - 1)
    return bool((accumulator.lo < -half).any() or (accumulator.hi >= half).any())


def step(op: Op, xs: list[Range], known: Range | None = None) -> tuple[Range, Range | None]:
    """The range of one operation's result, and of its accumulator if it has one.

    ``known`` is a range of the accumulator that is already proved by other means; the result uses the intersection.
    """
    x = xs[0]
    match op:
        case Dense() | Conv2d():
            acc = intersect(accumulator(op, x), known)
            return through(op.staircase, acc, op), acc
        case Add():
            return Range(rounded_sum(op, xs[0].lo, xs[1].lo), rounded_sum(op, xs[0].hi, xs[1].hi)), None
        case AvgPool(rule=rule):
            match rule:
                case SumThenRequantise(input_zero_point=zero, staircase=staircase):
                    acc = Range(*(windows(v - zero, op.window, 0).sum(axis=(-2, -1)) for v in (x.lo, x.hi)))
                    acc = intersect(acc, known)
                    return through(staircase, acc), acc
                case SequentialFloat32():
                    return Range(_float_mean(op.window, rule, x.lo), _float_mean(op.window, rule, x.hi)), None
                case _:
                    assert_never(rule)
        case MaxPool():
            return Range(*(windows(v, op.window, -(1 << 32)).max(axis=(-2, -1)) for v in (x.lo, x.hi))), None
        case Clamp():
            return Range(np.clip(x.lo, op.lo, op.hi), np.clip(x.hi, op.lo, op.hi)), None
        case Lookup():
            return table_range(op.table, x.lo - op.input_lo, x.hi - op.input_lo), None
        case Concat():
            return Range(np.concatenate([v.lo for v in xs], op.axis), np.concatenate([v.hi for v in xs], op.axis)), None
        case Reshape():
            return Range(x.lo.reshape(op.shape), x.hi.reshape(op.shape)), None
        case Transpose():
            return Range(x.lo.transpose(op.axes), x.hi.transpose(op.axes)), None
        case _:
            assert_never(op)


def intersect(a: Range, b: Range | None) -> Range:
    """The values that lie in both ranges; both are sound, so that there are some."""
    return a if b is None else Range(np.maximum(a.lo, b.lo), np.minimum(a.hi, b.hi))


def through(staircase: Staircase, acc: Range, op: Dense | Conv2d | None = None) -> Range:
    """The staircase over a range of accumulators; its whole range where the accumulator may wrap."""
    lo, hi = staircase.at(acc.lo[None])[0], staircase.at(acc.hi[None])[0]
    if op is not None and wraps(op, acc):
        half = 1 << ((op.accumulator_bits or 0) - 1)
        loose = (acc.lo < -half) | (acc.hi >= half)
        lo, hi = np.where(loose, staircase.lo, lo), np.where(loose, staircase.hi, hi)
    return Range(lo, hi)


def accumulator(op: Dense | Conv2d, x: Range) -> Range:
    """The exact range of the accumulator over the box ``x``, before any wrap; every end is attained."""
    lo, hi = x.lo - op.input_zero_point, x.hi - op.input_zero_point
    # centre and radius, doubled so that both are integers: acc = W (lo+hi)/2 -+ |W| (hi-lo)/2
    middle = linear(op, lo + hi, op.centred)
    radius = linear(op, hi - lo, np.abs(op.centred))
    bias = op.bias if isinstance(op, Dense) else op.bias[:, None, None]
    acc = Range(((middle - radius) >> 1) + bias, ((middle + radius) >> 1) + bias)
    if max(-int(acc.lo.min(initial=0)), int(acc.hi.max(initial=0))) > ACC_LIMIT:
        raise UnsupportedError(f"{op.name}: an accumulator could pass 2^48; bvverify models networks below that")
    return acc


def linear(op: Dense | Conv2d, x: Int64Array, weight: Int64Array) -> Int64Array:
    """``weight`` applied to ``x`` (no batch axis) in the geometry of ``op``, exactly; no bias, padding adds nothing."""
    largest = int(np.abs(x).max(initial=0)) * int(np.abs(weight).reshape(len(weight), -1).sum(axis=1).max(initial=0))
    if largest >= 1 << 62:
        raise UnsupportedError(f"{op.name}: a sum of products could reach {largest}; bvverify models networks below 2^48")
    kind: Any = np.float64 if largest < _EXACT else np.int64
    match op:
        case Dense():
            return np.asarray(weight.astype(kind) @ x.astype(kind)).astype(np.int64)
        case Conv2d():
            patches = windows(x.astype(kind), op.window, 0)
            rows, columns = patches.shape[1:3]
            # (groups, channels of a group x kernel, positions), one matrix product for each group
            columns_of = patches.transpose(0, 3, 4, 1, 2).reshape(op.groups, -1, rows * columns)
            kernels = weight.astype(kind).reshape(op.groups, len(weight) // op.groups, -1)
            product: AnyArray = np.matmul(kernels, columns_of)
            return product.reshape(len(weight), rows, columns).astype(np.int64)
        case _:
            assert_never(op)


def windows(x: AnyArray, window: Window, padding: int) -> AnyArray:
    """All windows of (C, H, W): a view (C, H', W', kernel height, kernel width), padded with ``padding``."""
    top, left, bottom, right = window.padding
    if any(window.padding):
        x = np.pad(x, ((0, 0), (top, bottom), (left, right)), constant_values=padding)
    reach = tuple(d * (k - 1) + 1 for k, d in zip(window.kernel, window.dilations, strict=True))
    view = sliding_window_view(x, reach, axis=(1, 2))
    return view[:, :: window.strides[0], :: window.strides[1], :: window.dilations[0], :: window.dilations[1]]


def table_range(table: Int64Array, first: Int64Array, last: Int64Array) -> Range:
    """Smallest and largest entry of ``table[first .. last]``, elementwise, by a sparse table of powers of two."""
    levels_min, levels_max = [table], [table]
    while 2 * len(levels_min[-1]) - len(table) >= 0 and (1 << len(levels_min)) <= len(table):
        half = 1 << (len(levels_min) - 1)
        levels_min.append(np.minimum(levels_min[-1][:-half], levels_min[-1][half:]))
        levels_max.append(np.maximum(levels_max[-1][:-half], levels_max[-1][half:]))
    lo, hi = np.empty(first.shape, np.int64), np.empty(first.shape, np.int64)
    level = np.frexp((last - first + 1).astype(np.float64))[1] - 1  # floor(log2(length))
    for k in np.unique(level):
        at, length = level == k, 1 << int(k)
        left, right = first[at], last[at] - length + 1
        lo[at] = np.minimum(levels_min[k][left], levels_min[k][right])
        hi[at] = np.maximum(levels_max[k][left], levels_max[k][right])
    return Range(lo, hi)


def rounded_sum(op: Add, a: Int64Array, b: Int64Array) -> Int64Array:
    """The rounded sum of values, broadcast, clamped: non-decreasing in both, so that the corners of a range are its ends."""
    match op.rule:
        case FmaAdd(ra=ra, rb=rb, offset=offset):
            total = np.rint(fma(a, np.float32(ra), fma(b, np.float32(rb), np.float32(offset)))).astype(np.int64)
        case ShiftAdd(ma=ma, mb=mb, bias=bias, shift=shift, zero_point=zero_point):
            total = zero_point + (ma * a + mb * b + bias) // (1 << shift)
        case Q31Add():
            scaled = _by_q31((a - op.rule.za) * (1 << 20), op.rule.qa, op.rule.single)
            scaled = scaled + _by_q31((b - op.rule.zb) * (1 << 20), op.rule.qb, op.rule.single)
            total = _by_q31(scaled, op.rule.qo, op.rule.single) + op.rule.zero_point
        case _:
            assert_never(op.rule)
    return np.clip(total, op.lo, op.hi)


def _by_q31(x: Int64Array, q: tuple[int, int], single: bool) -> Int64Array:
    """``x`` times a Q31 multiplier of shift at most 0: one rounding, half up; or two, the second half away from zero."""
    product, shift = x * q[0], q[1]
    if single:
        # Half up in the last place: floor((2p + 2^t) / 2^(t+1)).
        return (product // (1 << min(30 - shift, 62)) + 1) // 2
    high, divisor = (2 * product + (1 << 31)) // (1 << 32), 1 << -shift
    return np.where(high < 0, -((divisor // 2 - high) // divisor), (high + divisor // 2) // divisor)


def _float_mean(window: Window, rule: SequentialFloat32, x: Int64Array) -> Int64Array:
    """The float32 mean at one corner: rounding is non-decreasing, and so is every step of it."""
    parts = windows(rule.values[x - rule.input_lo], window, 0)
    total = np.zeros(parts.shape[:3], np.float32)
    for row in range(window.kernel[0]):
        for column in range(window.kernel[1]):
            total += parts[..., row, column]
    inside = windows(np.ones((1, *x.shape[1:]), np.float32), window, 1 if rule.count_padding else 0)
    mean = total / inside.sum(axis=(-2, -1), dtype=np.float32)
    scaled = mean / np.float32(rule.output_scale) + np.float32(rule.zero_point)
    return np.clip(np.rint(scaled), rule.lo, rule.hi).astype(np.int64)
