"""Integer local search: move single elements of an input, several at once where that helps, until nothing improves.

It starts from an input that a gradient search or a bound suggests. Moves are scored on the float32 stand-in, where a dense first layer
lets a move change its accumulator by one column instead of running the network again; whatever looks like a violation is confirmed by the
interpreter, so that ties and saturated ties count as they do for the verdict. Outputs are compared before their last rounding and
saturation: whole plateaus of rounded outputs are flat.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from bvverify.attack.objective import Objective, distance
from bvverify.attack.surrogate import Surrogate
from bvverify.model.query import Query
from bvverify.model.types import Int64Array
from bvverify.run.replay import violates

_CHUNK = 256
"""Inputs that are scored together: with more, what is computed for them leaves the cache."""
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)


def polish(
    query: Query, conjunctions: Sequence[int], start: Int64Array, *, rounds: int = 40, deadline: float | None = None
) -> Int64Array | None:
    """A violating input near ``start`` (the input tensor's shape, inside the box), or None. Deterministic."""
    found, _, _ = Polisher(query, conjunctions).polish(start, rounds=rounds, deadline=deadline)
    return found


class Polisher:
    """Local search for some conjunctions (indices into the property's violation) of a query; what it prepares serves many starts."""

    def __init__(self, query: Query, conjunctions: Sequence[int], surrogate: Surrogate | None = None) -> None:
        self.query = query
        self.surrogate = surrogate or Surrogate(query.network)
        self.objective = Objective.of(query, conjunctions)
        self.rows = torch.tensor(self.objective.outputs.T, dtype=torch.float32)
        self.over = None if self.objective.inputs is None else torch.tensor(self.objective.inputs.T, dtype=torch.float32)
        self.bound = torch.tensor(self.objective.bound, dtype=torch.float32)
        self.starts = [int(s) for s in self.objective.starts[1:]]
        self.dense = self.surrogate.first_dense() if self.over is None else None
        self.lo, self.hi = query.box.lo.reshape(-1), query.box.hi.reshape(-1)
        self.free = np.flatnonzero(self.lo < self.hi)
        self.shape = query.network.input.tensor.shape

    def polish(self, start: Int64Array, *, rounds: int = 40, deadline: float | None = None) -> tuple[Int64Array | None, float, Int64Array]:
        """A violating input near ``start``, or None; and where the search ended: its score and the flat input."""
        x = np.clip(start.reshape(-1), self.lo, self.hi)
        current, found = float(self.score_points(x[None])[0][0]), self.confirmed(x[None])
        for _ in range(rounds if found is None else 0):
            index, value = self._moves(x)
            if not len(index):
                break
            scores, found = self._score(x, index, value, deadline)
            together = _combine(x, index, value, scores, current)
            if found is not None or not len(together):
                break
            combined, hits = self.score_points(together)
            found = self.confirmed(together[hits])
            best = int(combined.argmin())
            if found is not None or combined[best] >= current - 1e-6 or (deadline is not None and time.monotonic() > deadline):
                break
            x, current = together[best], float(combined[best])
        return found, current, x

    def _moves(self, x: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Each free element to either end of its range, and by one step either way."""
        free = self.free
        index = np.tile(free, 4)
        value = np.concatenate(
            [self.lo[free], self.hi[free], np.minimum(x[free] + 1, self.hi[free]), np.maximum(x[free] - 1, self.lo[free])]
        )
        changes = value != x[index]
        return index[changes], value[changes]

    def _score(
        self, x: Int64Array, index: Int64Array, value: Int64Array, deadline: float | None = None
    ) -> tuple[np.ndarray, Int64Array | None]:
        """The score of every move (element ``index[i]`` to ``value[i]``), and the first one that violates."""
        scores = np.full(len(index), np.inf)
        base = None if self.dense is None else self.surrogate.accumulate(self.dense, torch.tensor(x[None], dtype=torch.float32))
        for start in range(0, len(index), _CHUNK):
            part = slice(start, start + _CHUNK)
            if base is not None and self.dense is not None:
                moved = torch.tensor(value[part] - x[index[part]], dtype=torch.float32)
                acc = base + moved[:, None] * self.surrogate.columns(self.dense)[torch.from_numpy(index[part])]
                scores[part], hits = self.rate(*self.surrogate.after(self.dense, acc), None)
            else:
                scores[part], hits = self.score_points(self._moved(x, index[part], value[part]))
            if hits.any():
                hit = self.confirmed(self._moved(x, index[part][hits], value[part][hits]))
                if hit is not None:
                    return scores, hit
            if deadline is not None and time.monotonic() > deadline:
                break
        return scores, None

    def _moved(self, x: Int64Array, index: Int64Array, value: Int64Array) -> Int64Array:
        candidates = np.repeat(x[None], len(index), axis=0)
        candidates[np.arange(len(candidates)), index] = value
        return candidates

    def score_points(self, x: Int64Array) -> tuple[np.ndarray, np.ndarray]:
        """Scores of flat inputs, and which seem to violate."""
        tensor = torch.tensor(x, dtype=torch.float32)
        with torch.no_grad():
            return self.rate(*self.surrogate(tensor.reshape(-1, *self.shape)), tensor)

    def rate(self, smooth: torch.Tensor, hard: torch.Tensor, x: torch.Tensor | None) -> tuple[np.ndarray, np.ndarray]:
        """How far outputs are from violating (small is near), and whether the rounded ones do."""
        score, exact = (
            self._by_conjunction(distance(smooth, self.rows, self.bound, self.query.network.output_tensor.qtype), x),
            self._by_conjunction(hard @ self.rows, x),
        )
        return score.amin(1).double().numpy(), (exact.amin(1) <= 0).numpy()

    def _by_conjunction(self, value: torch.Tensor, x: torch.Tensor | None) -> torch.Tensor:
        value = value - self.bound
        if self.over is not None and x is not None:
            value = value + x @ self.over
        if not self.starts:
            return value.amax(1, keepdim=True)
        if len(self.starts) == value.shape[1] - 1:
            return value
        return torch.stack([part.amax(1) for part in torch.tensor_split(value, self.starts, dim=1)], 1)

    def confirmed(self, candidates: Int64Array) -> Int64Array | None:
        """The first of some flat inputs (rows, inputs) that violates, by the interpreter, in the input tensor's shape; None without one."""
        if not len(candidates):
            return None
        shaped = candidates.reshape(-1, *self.shape)
        hits = np.flatnonzero(violates(self.query, shaped))
        return shaped[hits[0]] if len(hits) else None


def _combine(x: Int64Array, index: Int64Array, value: Int64Array, scores: np.ndarray, current: float) -> Int64Array:
    """Inputs that make the best one, two, four, ... of the moves that help, each element at most once."""
    order = np.argsort(scores, kind="stable")
    order = order[scores[order] < current][:256]
    _, first = np.unique(index[order], return_index=True)
    order = order[np.sort(first)]
    counts = sorted({n for n in (*_SIZES, len(order)) if 0 < n <= len(order)})
    together = np.repeat(x[None], len(counts), axis=0)
    for row, count in enumerate(counts):
        together[row, index[order[:count]]] = value[order[:count]]
    return together
