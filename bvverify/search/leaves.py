"""The leaves that bounds closed: their row weights and multipliers, kept in the batches in which they came.

A search can have millions; one by one each would be several arrays and a dictionary, larger than what they hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bvverify.model.types import Int64Array


class Leaves:
    """Leaves by number, in the order in which they came."""

    def __init__(self) -> None:
        self.weights: list[Int64Array] = []
        self.multipliers: list[dict[int, Any]] = []
        self.count = 0

    def add(self, weights: Int64Array, multipliers: dict[int, Any]) -> range:
        """A batch: weights (leaves, rows of a conjunction), multipliers by operation, int32 (leaves, kept units). Returns their numbers."""
        first = self.count
        if len(weights):
            self.weights.append(weights)
            self.multipliers.append(multipliers)
            self.count += len(weights)
        return range(first, self.count)

    def extend(self, other: Leaves) -> int:
        """The leaves of another search; what has to be added to their numbers."""
        first = self.count
        for weights, multipliers in zip(other.weights, other.multipliers, strict=True):
            self.add(weights, multipliers)
        return first

    def at(self, numbers: Sequence[int]) -> tuple[Int64Array, dict[int, Any]]:
        """The weights and multipliers of some leaves, at least one, in that order."""
        rows = np.asarray(numbers)
        size = np.array([len(w) for w in self.weights])
        end = np.cumsum(size)
        batch = np.searchsorted(end, rows, side="right")
        used = np.unique(batch)
        # Where the batches in use begin, once they stand one after the other.
        begin = np.zeros(len(size), np.int64)
        begin[used] = np.cumsum(size[used]) - size[used]
        place = rows - (end - size)[batch] + begin[batch]
        weights = np.concatenate([self.weights[k] for k in used])[place]
        multipliers = {op: np.concatenate([self.multipliers[k][op] for k in used])[place] for op in self.multipliers[used[0]]}
        return weights, multipliers
