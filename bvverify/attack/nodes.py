"""Witnesses near the minimisers of a search's subproblems: which of them are worth a local search, and the local search.

A minimiser is a point of the relaxation; near it lie witnesses that gradients miss. Nearly all of its elements are integers already. It
is rounded, rated on the float stand-in, and the nearest to a violation are polished; everything found is confirmed by the interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bvverify.attack.local import Polisher
from bvverify.attack.surrogate import Surrogate
from bvverify.model.query import Query
from bvverify.model.types import AnyArray, Int64Array
from bvverify.run.replay import violates

_ROUNDS = 30


class NodeAttack:
    """For one query; deterministic for the same calls. ``deadline`` is in ``time.monotonic()`` seconds."""

    def __init__(self, query: Query, deadline: float | None) -> None:
        self.query, self.deadline = query, deadline
        self.surrogate = Surrogate(query.network)
        self.polishers: dict[int, Polisher] = {}
        self.polished: set[bytes] = set()

    def candidates(self, conjunctions: Sequence[int], x: AnyArray) -> tuple[Int64Array | None, list[tuple[int, Int64Array]]]:
        """A witness among the rounded minimisers ``x`` (rows, *input shape, real), or None; and starts, the nearest first.

        ``conjunctions`` names one a row.
        """
        lo, hi = self.query.box.lo, self.query.box.hi
        points, about = np.clip(np.rint(x).astype(np.int64), lo, hi), np.asarray(conjunctions)
        scores, promising = np.empty(len(points)), np.zeros(len(points), bool)
        with torch.no_grad():
            smooth, hard = self.surrogate(torch.tensor(points, dtype=torch.float32))
        for conjunction in np.unique(about).tolist():
            rows = np.flatnonzero(about == conjunction)
            flat = torch.tensor(points[rows].reshape(len(rows), -1), dtype=torch.float32)
            scores[rows], promising[rows] = self._polisher(conjunction).rate(smooth[rows], hard[rows], flat)
        for row in np.flatnonzero(promising):
            if violates(self.query, points[row : row + 1])[0]:
                return points[row], []
        starts = {points[row].tobytes(): (int(about[row]), points[row]) for row in np.argsort(scores, kind="stable")[::-1].tolist()}
        return None, [start for key, start in reversed(starts.items()) if key not in self.polished]

    def polish(self, conjunction: int, x: Int64Array) -> Int64Array | None:
        """A witness for a conjunction near ``x``, or None."""
        self.polished.add(x.tobytes())
        return self._polisher(conjunction).polish(x, rounds=_ROUNDS, deadline=self.deadline)

    def _polisher(self, conjunction: int) -> Polisher:
        if conjunction not in self.polishers:
            self.polishers[conjunction] = Polisher(self.query, [conjunction], self.surrogate)
        return self.polishers[conjunction]
