"""Witnesses near the minimisers of a search's subproblems: which of them are worth a local search, and the local searches.

A minimiser is a point of the relaxation; near it lie witnesses that gradients miss. Nearly all of its elements are integers already. It
is rounded, rated on the float stand-in, and the nearest to a violation are polished; where that ends, the most promising are searched
level by level (``bvverify.attack.levels``). Everything found is confirmed by the interpreter.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from bvverify.attack.levels import LevelSearch
from bvverify.attack.local import Polisher
from bvverify.attack.surrogate import Surrogate
from bvverify.model.query import Query
from bvverify.model.types import AnyArray, Int64Array
from bvverify.run.replay import violates

_ROUNDS = 30
_SUGGESTED = 4
"""Suggested inputs that are taken for a conjunction."""


class NodeAttack:
    """For one query; deterministic for the same calls. ``deadline`` is in ``time.monotonic()`` seconds."""

    def __init__(self, query: Query, deadline: float | None) -> None:
        self.query, self.deadline = query, deadline
        self.surrogate = Surrogate(query.network)
        self.polishers: dict[int, Polisher] = {}
        self.polished: set[bytes] = set()
        self.levels: dict[int, LevelSearch] = {}
        self.starts: dict[int, list[tuple[bool, float, int, Int64Array]]] = {}
        """Flat inputs to search in levels from, by conjunction, as heaps: whether from a minimiser, rank or score, a running number."""
        self.suggested = 0
        self.reached: dict[int, float] = {}
        self.deepened: Counter[int] = Counter()

    def suggest(self, conjunctions: Sequence[int], points: Int64Array) -> None:
        """Inputs (batch, *input shape) to search in levels from before any other: those of an aimless attack have more room around them."""
        flat = points.reshape(len(points), -1)
        for conjunction in conjunctions if self.surrogate.first_dense() is not None else ():
            scores, _ = self._polisher(conjunction).score_points(flat)
            for rank, row in enumerate(np.argsort(scores, kind="stable")[:_SUGGESTED].tolist()):
                self.suggested += 1
                heapq.heappush(self.starts.setdefault(conjunction, []), (False, rank, self.suggested, flat[row]))
                self._reach(conjunction, float(scores[row]))

    def _reach(self, conjunction: int, score: float) -> None:
        self.reached[conjunction] = max(min(score, self.reached.get(conjunction, np.inf)), 0.0)

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
        polisher = self._polisher(conjunction)
        found, score, end = polisher.polish(x, rounds=_ROUNDS, deadline=self.deadline)
        if found is None and polisher.dense is not None:
            heapq.heappush(self.starts.setdefault(conjunction, []), (True, score, len(self.polished), end))
            self._reach(conjunction, score)
        return found

    @property
    def deepens(self) -> bool:
        """Whether ``deepen`` has anything to start from."""
        return bool(self.starts)

    def deepen(self) -> Int64Array | None:
        """A witness some levels away from where another search ended, or None; conjunctions that came nearer to a violation more often."""
        conjunction = min(self.starts, key=lambda i: (1 + self.deepened[i]) * self.reached[i])
        start = heapq.heappop(self.starts[conjunction])[-1]
        if not self.starts[conjunction]:
            del self.starts[conjunction]
        self.deepened[conjunction] += 1
        if conjunction not in self.levels:
            self.levels[conjunction] = LevelSearch(self._polisher(conjunction))
        found, score = self.levels[conjunction].search(start, deadline=self.deadline)
        self._reach(conjunction, score)
        return found

    def _polisher(self, conjunction: int) -> Polisher:
        if conjunction not in self.polishers:
            self.polishers[conjunction] = Polisher(self.query, [conjunction], self.surrogate)
        return self.polishers[conjunction]
