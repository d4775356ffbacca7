"""Moves of levels: a neuron of the first layer one level up or down, and an input that does just that.

Where levels are coarse (4 to 6 bits) a single input element moves no neuron over a threshold, and witnesses that differ from an input in a
few levels are out of reach of moves of elements. But whether some input of the box has given levels, or better ones, is a convex question
about accumulators: a dense first layer makes them linear in the input, and a threshold is thousands of times as coarse as a step of one
element, so that a real solution, rounded, nearly always remains one. Each round scores the network behind the first layer for every
neuron a level up and a level down, asks for several of the moves that help (alone, and the best together) that no other neuron moves
for the worse, and takes the best input that comes of it: projected accelerated gradient descent (Beck and Teboulle, 2009) on the
squared distance of the accumulators from what is asked, all moves at once.

On the 4-bit network of QVIP's table 3 this refutes in a second what gradients, moves of elements and 10^5 subproblems do not.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from bvverify.attack.local import Polisher
from bvverify.bounds.accelerated import Accelerated
from bvverify.model.ops import Dense
from bvverify.model.types import Int64Array

_ALONE, _TOGETHER = 24, (2, 3, 4, 6, 8, 12, 16)
"""Moves that are tried alone; how many of the best are tried together."""
_STEPS, _LOOK = 120, 10
_MARGIN = 0.3
"""How far inside what is asked the accumulators should lie, as a part of the weights' norm: for what rounding the input loses."""
_FAR = 1e9
_BETTER = 1e-6


class LevelSearch:
    """For one conjunction and a network whose input a dense operation alone reads; ``polisher`` scores and confirms."""

    def __init__(self, polisher: Polisher) -> None:
        assert polisher.dense is not None
        self.polisher, self.surrogate, self.index = polisher, polisher.surrogate, polisher.dense
        op = polisher.query.network.ops[self.index]
        assert isinstance(op, Dense)
        self.free = torch.from_numpy(polisher.free)
        self.weight = self.surrogate.columns(self.index)[self.free].T.contiguous()
        thresholds = torch.tensor(op.staircase.thresholds, dtype=torch.float32)
        self.thresholds = thresholds.clamp(-_FAR, _FAR).expand(len(self.weight), -1).contiguous()
        self.lo, self.hi = (torch.tensor(side[polisher.free], dtype=torch.float32) for side in (polisher.lo, polisher.hi))
        self.norm = self.weight.norm(dim=1).clamp(min=1e-6)
        self.curvature = max(float(torch.linalg.matrix_norm(self.weight, 2)) ** 2, 1e-6)

    def search(self, start: Int64Array, *, rounds: int = 30, deadline: float | None = None) -> tuple[Int64Array | None, float]:
        """A violating input some levels from ``start`` (any shape, inside the box), or None; and the score it ended at (small is near)."""
        x = torch.tensor(start.reshape(-1), dtype=torch.float32)
        acc = self.surrogate.accumulate(self.index, x[None])[0]
        score = float(self._score(acc[None])[0][0])
        for _ in range(rounds):
            asked = self._ask(acc, score)
            if asked is None or (deadline is not None and time.monotonic() > deadline):
                break
            points = self._meet(x, acc, *asked)
            accs = self.surrogate.accumulate(self.index, points)
            scores, hits = self._score(accs)
            found = self.polisher.confirmed(points[torch.from_numpy(hits)].numpy().astype(np.int64))
            best = int(scores.argmin())
            if found is not None or scores[best] > score - _BETTER:
                return found, score
            x, acc, score = points[best], accs[best], float(scores[best])
        return None, score

    def _score(self, acc: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        return self.polisher.rate(*self.surrogate.after(self.index, acc), None)

    def _ask(self, acc: torch.Tensor, score: float) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Ranges (moves, neurons) for the accumulators, one row a set of moves to try; None where no move helps."""
        neurons = len(acc)
        level = (acc[:, None] >= self.thresholds).sum(1, keepdim=True)
        end = torch.full((neurons, 1), _FAR)
        above = torch.cat([self.thresholds, end], 1).gather(1, level)[:, 0]
        below = torch.cat([-end, self.thresholds], 1).gather(1, level)[:, 0]
        can_rise, can_fall = above < _FAR, below > -_FAR
        trial, each = acc.repeat(2 * neurons, 1), torch.arange(neurons)
        trial[each, each] = torch.where(can_rise, above, acc)
        trial[neurons + each, each] = torch.where(can_fall, below - 1, acc)
        change = torch.from_numpy(self._score(trial)[0] - score)
        # No neuron may move for the worse; each may for the better.
        upper = torch.where(can_rise & (change[:neurons] > _BETTER), above - 1, _FAR)
        lower = torch.where(can_fall & (change[neurons:] > _BETTER), below, -_FAR)
        helps = (change < -_BETTER).nonzero()[:, 0]
        if not len(helps):
            return None
        effort = torch.cat([above - acc, acc - below + 1]) / self.norm.repeat(2)
        moves = helps[(change / (effort + 1))[helps].argsort()]
        sets = [*moves[:_ALONE, None], *(moves[:count] for count in _TOGETHER if count <= len(moves))]
        lower, upper = lower.repeat(len(sets), 1), upper.repeat(len(sets), 1)
        for row, chosen in enumerate(sets):
            rising, falling = chosen[chosen < neurons], chosen[chosen >= neurons] - neurons
            lower[row, rising] = above[rising]
            upper[row, falling] = below[falling] - 1
        return lower, upper

    def _meet(self, x: torch.Tensor, base: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
        """Inputs near ``x`` (flat, its accumulators ``base``), one a row, with accumulators in the ranges, or near; integers of the box."""
        lower, upper = lower + _MARGIN * self.norm, upper - _MARGIN * self.norm
        middle = (lower + upper) / 2
        lower, upper = torch.minimum(lower, middle), torch.maximum(upper, middle)
        origin = x[self.free]
        way = Accelerated(origin.repeat(len(lower), 1), self.lo, self.hi)
        for step in range(_STEPS):
            acc = base + (way.ahead - origin) @ self.weight.T
            outside = acc - torch.minimum(torch.maximum(acc, lower), upper)
            if step % _LOOK == _LOOK - 1 and not bool(outside.any()):
                break
            way.step(outside @ self.weight / self.curvature)
        points = x.repeat(len(lower), 1)
        points[:, self.free] = way.now.round()
        return points
