"""Projected gradient search with a straight-through estimator, batched over restarts; untargeted and targeted.

The first restarts pull towards whichever conjunction is nearest, the others each towards one of those still open. Steps are signs of the
gradient on the integer grid, on a random part of the elements that shrinks as the search goes on: with integer inputs and rounding
layers, moving everything at once overshoots. Deterministic for a seed. Finds suggestions; the interpreter confirms them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bvverify.attack.objective import Objective, distance
from bvverify.attack.surrogate import Surrogate
from bvverify.model.query import Query
from bvverify.model.types import Int64Array, QType
from bvverify.run.replay import violates


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The outcome of a search: a violating input, or None, and the best inputs seen (batch, *shape), nearest first."""

    x: Int64Array | None
    best: Int64Array


def search(
    query: Query, conjunctions: Sequence[int], *, seed: int = 0, restarts: int = 24, steps: int = 60, deadline: float | None = None
) -> Found:
    """Look for an input of the box that satisfies one of ``conjunctions`` (indices into the property's violation).

    ``deadline`` is in ``time.monotonic()`` seconds. Results depend on the seed alone unless the deadline strikes.
    """
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    surrogate, objective = Surrogate(query.network), Objective.of(query, conjunctions)
    lo, hi = (torch.tensor(side, dtype=torch.float32) for side in (query.box.lo, query.box.hi))
    x = _starts(query, lo, hi, restarts, generator)
    goals = _goals(len(objective.starts), restarts)
    reach = float((hi - lo).max())
    best_value = torch.full((restarts,), float("inf"))
    best = x.clone()
    for step in range(steps):
        x.requires_grad_(True)
        smooth, hard = surrogate(x)
        far = _distance(objective, x, smooth, goals, query.network.output_tensor.qtype)
        with torch.no_grad():
            nearer = far < best_value
            best_value = torch.where(nearer, far, best_value)
            best[nearer] = x.detach()[nearer]
            promising = np.flatnonzero(
                objective.by_conjunction(x.detach().flatten(1).numpy().astype(np.float64), hard.numpy().astype(np.float64)).min(axis=1) <= 0
            )
        hit = _confirmed(query, x.detach()[torch.from_numpy(promising)]) if len(promising) else None
        if hit is not None or (deadline is not None and time.monotonic() > deadline):
            return Found(hit, _as_integers(best))
        (gradient,) = torch.autograd.grad(far.sum(), x)
        remaining = 1 - step / steps
        stride = max(1.0, 0.5 * reach * remaining)
        moved = torch.rand(x.shape, generator=generator) < 0.3 + 0.7 * remaining
        x = (x.detach() - (gradient.sign() * moved * stride).round()).clamp(min=lo, max=hi)
    order = best_value.argsort()
    candidates = best[order]
    hit = _confirmed(query, torch.cat([candidates, x.detach()]))
    return Found(hit, _as_integers(candidates))


def _starts(query: Query, lo: torch.Tensor, hi: torch.Tensor, restarts: int, generator: torch.Generator) -> torch.Tensor:
    """The nominal input (or the middle), then random points and random corners of the box in turn."""
    uniform = torch.rand((restarts, *lo.shape), generator=generator)
    corners = torch.where(torch.arange(restarts).reshape(-1, *([1] * lo.dim())) % 2 == 0, uniform, uniform.round())
    x = (lo + (hi - lo) * corners).round()
    nominal = query.nominal if query.nominal is not None else (query.box.lo + query.box.hi) // 2
    x[0] = torch.tensor(nominal, dtype=torch.float32).clamp(min=lo, max=hi)
    return x


def _goals(conjunctions: int, restarts: int) -> torch.Tensor:
    """For each restart the conjunction it aims at, or -1 for the nearest."""
    goals = torch.full((restarts,), -1)
    targeted = torch.arange(restarts // 3, restarts)
    goals[targeted] = (targeted - restarts // 3) % conjunctions
    return goals


def _distance(objective: Objective, x: torch.Tensor, y: torch.Tensor, goals: torch.Tensor, qtype: QType) -> torch.Tensor:
    """The objective on smooth outputs, differentiable: (batch,)."""
    bound = torch.tensor(objective.bound, dtype=torch.float32)
    value = distance(y, torch.tensor(objective.outputs.T, dtype=torch.float32), bound, qtype) - bound
    if objective.inputs is not None:
        value = value + x.flatten(1) @ torch.tensor(objective.inputs.T, dtype=torch.float32)
    parts = torch.tensor_split(value, [int(s) for s in objective.starts[1:]], dim=1)
    by_conjunction = torch.stack([part.amax(dim=1) for part in parts], dim=1)
    aimed = by_conjunction.gather(1, goals.clamp(min=0)[:, None])[:, 0]
    return torch.where(goals < 0, by_conjunction.amin(dim=1), aimed)


def _confirmed(query: Query, candidates: torch.Tensor) -> Int64Array | None:
    """The first candidate that the interpreter confirms."""
    x = _as_integers(candidates)
    hits = np.flatnonzero(violates(query, x))
    return x[hits[0]] if len(hits) else None


def _as_integers(x: torch.Tensor) -> Int64Array:
    return x.detach().round().numpy().astype(np.int64)
