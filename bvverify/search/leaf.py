"""The bit-vector solver for parts of the box in which no neuron is left to split; a few seconds each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bvverify.bounds.interval import Bounds
from bvverify.model.query import Box, Query
from bvverify.model.types import Int64Array

if TYPE_CHECKING:
    from bvverify.solve import Solver

_SECONDS = 5.0


@dataclass(slots=True)
class LeafSolver:
    """Asks about a conjunction on a part of the box. ``deadline`` is in ``time.monotonic()`` seconds of this process."""

    query: Query
    solver: Solver
    memory_mb: int
    seed: int
    deadline: float | None = None

    def __call__(self, conjunction: int, bounds: Bounds, part: Box) -> Literal["unsat"] | Int64Array | None:
        """Refuted, an input, or nothing."""
        from bvverify.solve import solve

        limit = _SECONDS if self.deadline is None else max(min(_SECONDS, (self.deadline - time.monotonic()) / 4), 0.1)
        narrowed = Query(self.query.network, part, self.query.property.only([conjunction]))
        answer = solve(narrowed, bounds, solver=self.solver, timeout=limit, memory_mb=self.memory_mb, seed=self.seed, part=True)
        if answer.status == "sat":
            return answer.x
        return "unsat" if answer.status == "unsat" else None
