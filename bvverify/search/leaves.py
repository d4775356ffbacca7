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
        end = np.cumsum([len(w) for w in self.weights])
        batch = np.searchsorted(end, rows, side="right")
        inside = rows - np.concatenate([[0], end])[batch]
        # Batch by batch, each for its own rows alone; then back into the order that was asked for.
        order = np.argsort(batch, kind="stable")
        used, first = np.unique(batch[order], return_index=True)
        parts, back = [inside[part] for part in np.split(order, first[1:])], np.argsort(order)

        def of(batches: Sequence[Any]) -> Any:
            return np.concatenate([values[part] for values, part in zip(batches, parts, strict=True)])[back]

        weights = of([self.weights[k] for k in used])
        return weights, {op: of([self.multipliers[k][op] for k in used]) for op in self.multipliers[used[0]]}
