"""Stairs: what a linear bound has to know of a non-decreasing step function on an interval.

A bound replaces ``c * z`` by ``lambda * a`` plus the smallest value of ``c * z - lambda * a`` over all points (a, z) that the operation can
produce with ``a`` in ``[l, u]``; any lambda is sound, the minimum is what has to be right. The points lie between two sets of corners: the
last accumulator before a step (``late[k] - 1``, level k - 1) and the first one on it (``early[k]``, level k).

For an exact staircase ``early == late ==`` its thresholds. Where the step depends on more than the integer ``a`` (float32 additions
round, so that two inputs of one integer sum may come out differently), ``early[k]`` is the smallest ``a`` that can reach level k and
``late[k]`` the smallest from which every input reaches it.

Steps of one staircase are nearly equal, so that the corners between the first and the last lie nearly on a line. With more than three
levels the corners that are looked at are those on that line, moved out as far as the farthest of all corners is from it (``left``,
``right``): what is between is then no less than the line, a linear function on a line is least at an end, and six corners do. Rounded
thresholds are moved by 0.5 to 0.9 accumulators so, on average over a layer of the zoo's CNN or 3x100; worst cases of both ends together
(the straight line through two true corners, less ``|lambda|`` times the largest distance) gave away two. On the line, bounds in narrower
ranges are never lower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bvverify.bounds.interval import Range, rounded_sum
from bvverify.model.ops import Add, Clamp
from bvverify.model.staircase import ACC_LIMIT, Staircase
from bvverify.model.types import AnyArray, Int64Array, QType

_MOST_PAIRS = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Stairs:
    """Step functions, one for each channel: ``early`` and ``late``, int64 (channels or 1, levels), and what lies beyond them on a line.

    Level ``j`` of the arrays is the step from output ``lo + j`` to ``lo + j + 1``. ``left`` are at or below ``early``, ``right`` at or
    above ``late - 1``, integers times ``2^-bits`` (big ones where int64 does not hold them).
    """

    lo: int
    early: Int64Array
    late: Int64Array
    left: AnyArray
    right: AnyArray
    bits: int


@dataclass(frozen=True, slots=True, eq=False)
class Corners:
    """The six corners over ``[l, u]``, elementwise: ``a`` and ``z`` are int64 of shape (6, *shape).

    In order: the left end at its lowest and the right end at its highest; the last point before the first step and
    before the last one; the first point on the first step and on the last one. With more than three levels the last four are on the
    lines, rounded outwards to integers.
    """

    a: Int64Array
    z: Int64Array


def of_staircase(staircase: Staircase) -> Stairs:
    """The stairs of an exact staircase."""
    return _with_lines(staircase.lo, staircase.thresholds, staircase.thresholds)


def of_clamp(op: Clamp) -> Stairs:
    """A clamp is a staircase of step 1."""
    steps = np.arange(op.lo + 1, op.hi + 1, dtype=np.int64)[None]
    return _with_lines(op.lo, steps, steps)


def of_relu(most: int) -> Stairs:
    """``max(0, a)`` for ``a`` up to ``most``."""
    steps = np.arange(1, most + 1, dtype=np.int64)[None]
    return _with_lines(0, steps, steps)


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
    return AddStairs(ma, mb, _with_lines(low, early[None], late[None]))


def corners(stairs: Stairs, acc: Range) -> Corners:
    """The corners over accumulators in ``[acc.lo, acc.hi]`` (shape (channels, ...) or any shape for one channel)."""
    zl = _count(stairs.late, acc.lo)  # the lowest level at the left end, counted from stairs.lo
    zu = _count(stairs.early, acc.hi)  # the highest level at the right end
    flat = zu <= zl
    first, last = np.minimum(zl, stairs.early.shape[1] - 1), np.maximum(zu - 1, 0)  # the first and the last step on the way
    # Not cut off at the ends of the range: where early < late a corner may lie just outside, and the line through the
    # corners holds for the corners as they are, not for clipped ones.
    left, right = stairs.left >> stairs.bits, -(-stairs.right >> stairs.bits)
    many = zu - zl > 2
    before = [np.where(flat, acc.lo, np.where(many, _pick(right, step), _pick(stairs.late, step) - 1)) for step in (first, last)]
    on = [np.where(flat, acc.lo, np.where(many, _pick(left, step), _pick(stairs.early, step))) for step in (first, last)]
    a = np.stack([acc.lo, acc.hi, *before, *on]).astype(np.int64)
    z = np.stack([zl, zu, zl, np.maximum(zu - 1, zl), np.minimum(zl + 1, zu), zu]) + stairs.lo
    return Corners(a, z)


def _with_lines(lo: int, early: Int64Array, late: Int64Array) -> Stairs:
    levels = early.shape[1]
    bits = levels.bit_length() + 4
    left, right = (_outwards(t, bits, side) for t, side in ((early, -1), (late, 1)))
    return Stairs(lo, early, late, left, right - (1 << bits), bits)


def _outwards(t: Int64Array, bits: int, side: int) -> AnyArray:
    """Thresholds (channels, levels) on lines, down for side -1, up for 1, times ``2^bits``.

    Levels that no accumulator reaches are left out, channel by channel: their corners are never inside a range.
    """
    levels, within = t.shape[1], np.abs(t) < ACC_LIMIT
    reached = np.where(within, t, 0)
    fits = int(np.abs(reached).max(initial=0)) * levels < 1 << 60 - bits
    scaled = reached.astype(np.int64 if fits else object) << bits
    if levels < 2:
        return np.asarray(scaled)
    channel, first, runs = np.arange(len(t)), within.argmax(axis=1), np.maximum(within.sum(axis=1) - 1, 0)
    slope = (scaled[channel, first + runs] - scaled[channel, first]) // np.maximum(runs, 1)
    line = slope[:, None] * np.arange(levels)
    beyond = side * (scaled - line)
    beyond = np.where(within, beyond, beyond[channel, first][:, None])
    return np.asarray(line + side * beyond.max(axis=1, keepdims=True))


def _count(thresholds: Int64Array, a: Int64Array) -> Int64Array:
    """How many thresholds of its channel each accumulator has reached."""
    if len(thresholds) == 1:
        return np.asarray(np.searchsorted(thresholds[0], a, side="right"), np.int64)
    if a.ndim == 1:
        return (thresholds <= a[:, None]).sum(axis=1)
    return np.stack([np.searchsorted(row, part, side="right") for row, part in zip(thresholds, a, strict=True)]).astype(np.int64)


def _pick(thresholds: AnyArray, index: Int64Array) -> AnyArray:
    """``thresholds[channel, index]``; zeros where there are no levels at all."""
    if thresholds.shape[1] == 0:
        return np.zeros(index.shape, np.int64)
    if len(thresholds) == 1:
        return np.asarray(thresholds[0][index])
    channel = np.arange(len(thresholds)).reshape((-1,) + (1,) * (index.ndim - 1))
    return np.asarray(thresholds[channel, index])
