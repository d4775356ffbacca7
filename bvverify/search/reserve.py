"""What a search keeps back of its time, so that the kernel can still check the proof before the limit.

The check takes a few percent of what the search took, but after it: with minutes of search, seconds beyond the limit. What it will take
is measured, on the proof so far with most of its leaves left out, which costs what a few leaves cost.
"""

from __future__ import annotations

import time
from typing import Protocol

from bvverify.certify import kernel
from bvverify.errors import InternalError
from bvverify.model.certificate import Forest, Tightening
from bvverify.model.query import Query
from bvverify.search import proof

_SAMPLES = 32, 256
"""Leaves of a measurement: few, and, where they take next to no time, as many as the kernel takes together."""
_SHORT = 0.01
_FROM, _AGAIN = 0.5, 4
"""The share of the time that passes before the first measurement, and by how much the proof has to grow for the next one."""


class Growing(Protocol):
    """A proof under way."""

    @property
    def closed(self) -> int:
        """Leaves so far."""

    def sample(self, most: int) -> dict[int, Forest]:
        """The trees of some conjunctions, with at most so many of their leaves; solver leaves stand for the others."""


class Reserve:
    """For one search of a query whose root has claims ``tightenings``; ``deadline`` is in ``time.monotonic()`` seconds."""

    def __init__(self, query: Query, tightenings: list[Tightening], deadline: float) -> None:
        self.query, self.tightenings, self.deadline = query, tightenings, deadline
        self.started = time.monotonic()
        self.measured = 0
        self.claims, self.leaf = 0.0, 0.0

    def seconds(self, growing: Growing) -> float:
        """About how long the check of what is closed so far takes; 0 in the first half of the time."""
        total, closed = self.deadline - self.started, growing.closed
        if closed and time.monotonic() > self.started + _FROM * total and closed >= _AGAIN * self.measured:
            self.measured = closed
            self.claims = self._check(growing, 0)
            for most in _SAMPLES:
                spent = self._check(growing, most)
                self.leaf = max(spent - self.claims, 0.0) / min(most, closed)
                if spent > _SHORT * total or most >= closed:
                    break
        return self.claims + closed * self.leaf

    def _check(self, growing: Growing, most: int) -> float:
        begun = time.monotonic()
        trees = {i: proof.solver_leaf() for i in range(len(self.query.property.violation))} | growing.sample(most)
        made = proof.certificate(self.query, self.tightenings, [trees[i] for i in sorted(trees)])
        try:
            kernel.check(made, self.query)
        except kernel.Rejected as rejected:
            raise InternalError(f"the kernel rejects our own certificate: {rejected}; please report this") from None
        return time.monotonic() - begun
