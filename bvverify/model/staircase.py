"""The staircase: a requantisation and the clamp behind it, as thresholds.

``out >= k`` exactly when ``acc >= T[k]``, for every ``k`` in ``lo+1 .. hi``. Rounding, zero point, saturation and a fused ReLU together
are that one table; bounds, search and solver use nothing else. The thresholds are found by bisection over the
real operation (``requant.apply``), so that they are right by construction, not by a formula.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bvverify.model import requant as rq
from bvverify.model.requant import Requant
from bvverify.model.types import Int64Array

ACC_LIMIT = 1 << 48
"""Accumulators are searched for thresholds in ``[-ACC_LIMIT, ACC_LIMIT]``; beyond it a threshold is out of reach.

Networks are refused (``bounds.interval``) when an exact accumulator could leave that range; an int32 accumulator never does.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Staircase:
    """``acc -> clip(requant(acc), lo, hi)``, non-decreasing; ``lo`` and ``hi`` join saturation and a fused activation.

    ``thresholds`` has shape (channels or 1, hi - lo) and is non-decreasing along axis 1: column ``j`` belongs to level ``lo + 1 + j``.
    A level that no accumulator within ``ACC_LIMIT`` reaches has the threshold ``ACC_LIMIT + 1``; one that every
    accumulator reaches has ``-ACC_LIMIT``.
    """

    requant: Requant
    lo: int
    hi: int
    thresholds: Int64Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.lo > self.hi:
            raise ValueError(f"an empty clamp: [{self.lo}, {self.hi}]")
        object.__setattr__(self, "thresholds", _thresholds(self.requant, self.lo, self.hi))

    def apply(self, acc: Int64Array) -> Int64Array:
        """The staircase at ``acc`` (int64, shape (batch, channels, ...)), by the operation itself."""
        return rq.apply(self.requant, acc, self.lo, self.hi)

    def at(self, acc: Int64Array) -> Int64Array:
        """The staircase at ``acc`` (int64, shape (batch, channels, ...)), by the thresholds alone."""
        if len(self.thresholds) == 1:
            return self.lo + np.searchsorted(self.thresholds[0], acc, side="right").astype(np.int64)
        out = np.empty(acc.shape, np.int64)
        for channel, row in enumerate(self.thresholds):
            out[:, channel] = self.lo + np.searchsorted(row, acc[:, channel], side="right")
        return out


def _thresholds(requant: Requant, lo: int, hi: int) -> Int64Array:
    """Bisection over ``apply`` for all channels and levels at once: the smallest accumulator that reaches each level."""
    levels = np.arange(lo + 1, hi + 1, dtype=np.int64)
    shape = (rq.channels(requant), len(levels))
    below = np.full(shape, -ACC_LIMIT - 1, np.int64)  # invariant: below does not reach the level (or is out of range)
    reaches = np.full(shape, ACC_LIMIT + 1, np.int64)  # invariant: reaches does (or is out of range)
    while (reaches - below > 1).any():
        middle = (below + reaches) >> 1
        # apply() runs channels along axis 1: the levels take the batch's place.
        hit = levels <= rq.apply(requant, np.ascontiguousarray(middle.T), lo, hi).T
        reaches = np.where(hit, middle, reaches)
        below = np.where(hit, below, middle)
    # Where every accumulator reaches the level, the bisection ends on either side of the limit.
    reaches = np.maximum(reaches, -ACC_LIMIT)
    reaches.setflags(write=False)
    return reaches
