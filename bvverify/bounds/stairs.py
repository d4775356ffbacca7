"""Stairs: what a linear bound has to know of a non-decreasing step function on an interval.

A bound replaces ``c * z`` by ``lambda * a`` plus the smallest value of ``c * z - lambda * a`` over all points (a, z) that the operation can
produce with ``a`` in ``[l, u]``; any lambda is sound, the minimum is what has to be right. The points lie between two sets of corners: the
last accumulator before a step (``late[k] - 1``, level k - 1) and the first one on it (``early[k]``, level k).

For an exact staircase ``early == late ==`` its thresholds. Where the step depends on more than the integer ``a`` (float32 additions
round, so that two inputs of one integer sum may come out differently), ``early[k]`` is the smallest ``a`` that can reach level k and
``late[k]`` the smallest from which every input reaches it.

Steps of one staircase are nearly equal, so that the corners between the first and the last lie nearly on a line: within ``spread``
accumulator units of it. Six corners and ``|lambda| * spread`` then bound the minimum over all of them:
with ``T[k] = alpha*k + r[k]`` and ``spread = max r - min r``, the linear interpolation between two corners differs from
any corner between them by at most ``spread`` in ``a``, and a linear function is smallest at an end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bvverify.bounds.interval import Range, rounded_sum
from bvverify.model.ops import Add, Clamp
from bvverify.model.staircase import ACC_LIMIT, Staircase
from bvverify.model.types import Int64Array, QType

_MOST_PAIRS = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Stairs:
    """Step functions, one for each channel: int64 ``early`` and ``late`` of shape (channels or 1, levels), ``spread`` (channels or 1,).

    Level ``j`` of the arrays is the step from output ``lo + j`` to ``lo + j + 1``.
    """

    lo: int
    early: Int64Array
    late: Int64Array
    spread: Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class Corners:
    """The six corners over ``[l, u]``, elementwise: ``a`` and ``z`` are int64 of shape (6, *shape), ``spread`` of shape (*shape).

    In order: the left end at its lowest and the right end at its highest; the last point before the first step and
    before the last one; the first point on the first step and on the last one.
    """

    a: Int64Array
    z: Int64Array
    spread: Int64Array


def of_staircase(staircase: Staircase) -> Stairs:
    """The stairs of an exact staircase."""
    return _with_spread(staircase.lo, staircase.thresholds, staircase.thresholds)


def of_clamp(op: Clamp) -> Stairs:
    """A clamp is a staircase of step 1."""
    steps = np.arange(op.lo + 1, op.hi + 1, dtype=np.int64)[None]
    return _with_spread(op.lo, steps, steps)


def of_relu(most: int) -> Stairs:
    """``max(0, a)`` for ``a`` up to ``most``."""
    steps = np.arange(1, most + 1, dtype=np.int64)[None]
    return _with_spread(0, steps, steps)


@dataclass(frozen=True, slots=True, eq=False)
class AddStairs:
    """A rounded sum as stairs over the integer accumulator ``ma * a + mb * b``."""

    ma: int
    mb: int
    stairs: Stairs


def of_add(op: Add, a: QType, b: QType) -> AddStairs | None:
    """The stairs of a rounded sum, by running it on every pair of values of the two types; None beyond 2^20 pairs.

    The multipliers are scaled to integers of some 30 bits; what the scaling and the additions round away is between
    ``early`` and ``late``, which are read off all pairs, not derived.
    """
    ma, mb = op.rule.weights
    va = np.arange(a.lo, a.hi + 1)[:, None]
    vb = np.arange(b.lo, b.hi + 1)[None, :]
    if va.size * vb.size > _MOST_PAIRS:
        return None
    out, acc = rounded_sum(op, va, vb).reshape(-1), (ma * va + mb * vb).reshape(-1)
    low, high = int(out.min()), int(out.max())
    # early[k]: the smallest accumulator of any pair at level k or above; late[k]: one past the largest of any pair below it.
    smallest = np.full(high - low + 1, np.iinfo(np.int64).max)
    largest = np.full(high - low + 1, np.iinfo(np.int64).min)
    np.minimum.at(smallest, out - low, acc)
    np.maximum.at(largest, out - low, acc)
    early = np.minimum.accumulate(smallest[::-1])[::-1][1:]
    late = np.maximum.accumulate(largest)[:-1] + 1
    return AddStairs(ma, mb, _with_spread(low, early[None], late[None]))


def corners(stairs: Stairs, acc: Range) -> Corners:
    """The corners over accumulators in ``[acc.lo, acc.hi]`` (shape (channels, ...) or any shape for one channel)."""
    zl = _count(stairs.late, acc.lo)  # the lowest level at the left end, counted from stairs.lo
    zu = _count(stairs.early, acc.hi)  # the highest level at the right end
    flat = zu <= zl
    first, last = np.minimum(zl, stairs.early.shape[1] - 1), np.maximum(zu - 1, 0)  # the first and the last step on the way
    # Not cut off at the ends of the range: where early < late a corner may lie just outside, and the line through the
    # corners holds for the corners as they are, not for clipped ones.
    before = [np.where(flat, acc.lo, _pick(stairs.late, step) - 1) for step in (first, last)]
    on = [np.where(flat, acc.lo, _pick(stairs.early, step)) for step in (first, last)]
    a = np.stack([acc.lo, acc.hi, *before, *on])
    z = np.stack([zl, zu, zl, np.maximum(zu - 1, zl), np.minimum(zl + 1, zu), zu]) + stairs.lo
    spread = stairs.spread.reshape((-1,) + (1,) * (acc.lo.ndim - 1)) if len(stairs.spread) > 1 else stairs.spread[0]
    # Between two steps next to each other, or on one, there are no corners to interpolate.
    return Corners(a, z, np.where(zu - zl > 2, spread, 0))


def _with_spread(lo: int, early: Int64Array, late: Int64Array) -> Stairs:
    levels = early.shape[1]
    if levels < 2:
        return Stairs(lo, early, late, np.zeros(len(early), np.int64))
    # r[k] = T[k] - alpha*k, times the number of steps so that it stays an integer; the largest spread of the two sets of corners. Levels
    # that no accumulator reaches are left out, channel by channel: their corners are never inside a range.
    spread = np.zeros(len(early), np.int64)
    for t in (early, late):
        within = np.abs(t) < ACC_LIMIT
        first, count = within.argmax(axis=1), within.sum(axis=1)
        channel, last = np.arange(len(t)), np.maximum(first + count - 1, 0)
        steps, index = np.maximum(count - 1, 1)[:, None], np.arange(levels) - first[:, None]
        residual = np.where(within, t * steps - (t[channel, last] - t[channel, first])[:, None] * index, 0)
        spread = np.maximum(spread, -((residual.min(axis=1) - residual.max(axis=1)) // steps[:, 0]))
    return Stairs(lo, early, late, spread)


def _count(thresholds: Int64Array, a: Int64Array) -> Int64Array:
    """How many thresholds of its channel each accumulator has reached."""
    if len(thresholds) == 1:
        return np.asarray(np.searchsorted(thresholds[0], a, side="right"), np.int64)
    if a.ndim == 1:
        return (thresholds <= a[:, None]).sum(axis=1)
    return np.stack([np.searchsorted(row, part, side="right") for row, part in zip(thresholds, a, strict=True)]).astype(np.int64)


def _pick(thresholds: Int64Array, index: Int64Array) -> Int64Array:
    """``thresholds[channel, index]``; zeros where there are no levels at all."""
    if thresholds.shape[1] == 0:
        return np.zeros(index.shape, np.int64)
    if len(thresholds) == 1:
        return np.asarray(thresholds[0][index])
    channel = np.arange(len(thresholds)).reshape((-1,) + (1,) * (index.ndim - 1))
    return np.asarray(thresholds[channel, index])
