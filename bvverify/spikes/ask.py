"""What is asked of a spiking network: whether spikes of the input can move, within a budget, so that the class changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bvverify.model.types import Int64Array
from bvverify.spikes.network import Spiking, predicted, run


@dataclass(frozen=True, eq=False)
class Question:
    """Input spikes at ``times`` (inputs,) move by at most ``total`` steps taken together (None: no such limit), each by at most ``each``.

    Times stay within 0 … steps - 1. ``label`` is the class that has to stay; with ``ties`` another class that spikes in the same step
    violates it too (the authors' Z3 reading), without, only what changes the first index of the earliest spike.
    """

    network: Spiking
    times: Int64Array
    label: int
    total: int | None
    each: int | None
    ties: bool

    @property
    def lo(self) -> Int64Array:
        """The earliest time of each input."""
        return np.maximum(self.times - self.most, 0)

    @property
    def hi(self) -> Int64Array:
        """The latest time of each input."""
        return np.minimum(self.times + self.most, self.network.steps - 1)

    @property
    def most(self) -> int:
        """By how much one spike can move."""
        return min(limit for limit in (self.total, self.each, self.network.steps - 1) if limit is not None)

    def allows(self, times: Int64Array) -> bool:
        """Whether an input is one of those that the question is about."""
        within = bool(((times >= self.lo) & (times <= self.hi)).all())
        return within and (self.total is None or int(np.abs(times - self.times).sum()) <= self.total)

    def violated(self, outputs: Int64Array) -> np.ndarray:
        """Which rows of output spike times (n, classes) violate the property."""
        changed = predicted(outputs) != self.label
        if self.ties:
            others = np.delete(outputs, self.label, axis=1).min(axis=1, initial=self.network.steps)
            changed |= others <= outputs[:, self.label]
        return changed


def replays(question: Question, times: Int64Array) -> bool:
    """Whether an input is allowed and violates the property, run as a whole."""
    return question.allows(times) and bool(question.violated(run(question.network, times[None])[-1])[0])
