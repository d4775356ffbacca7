"""Integer local search: move single elements of an input, several at once where that helps, until nothing improves.

It starts from an input that a gradient search or a bound suggests, and works on the network itself, so that ties and saturated ties
count as they do for the verdict. Outputs are compared before their last rounding where the last layer has an accumulator: whole
plateaus of rounded outputs are flat.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from bvverify.attack.objective import Objective
from bvverify.model.network import Network
from bvverify.model.ops import Conv2d, Dense, Reshape, inputs
from bvverify.model.query import Query
from bvverify.model.types import Int64Array
from bvverify.run import interpreter

_CHUNK = 1024
_TIE_BREAK = 1e-3


def polish(
    query: Query, conjunctions: Sequence[int], start: Int64Array, *, rounds: int = 40, deadline: float | None = None
) -> Int64Array | None:
    """A violating input near ``start`` (the input tensor's shape, inside the box), or None. Deterministic."""
    objective = Objective.of(query, conjunctions)
    lo, hi = query.box.lo.reshape(-1), query.box.hi.reshape(-1)
    free = np.flatnonzero(lo < hi)
    x = np.clip(start.reshape(-1), lo, hi)
    score, violating = _score(query, objective, x[None])
    if violating[0]:
        return x.reshape(start.shape)
    current = float(score[0])
    for _ in range(rounds):
        index, value = _moves(x, lo, hi, free)
        if not len(index):
            return None
        scores, hit = _score_moves(query, objective, x, index, value, deadline)
        if hit is not None:
            return hit.reshape(start.shape)
        together = _combine(x, index, value, scores, current)
        if not len(together):
            return None
        combined, violating = _score(query, objective, together)
        if violating.any():
            return together[int(violating.argmax())].reshape(start.shape)
        best = int(combined.argmin())
        if combined[best] >= current - 1e-9 or (deadline is not None and time.monotonic() > deadline):
            return None
        x, current = together[best], float(combined[best])
    return None


def _moves(x: Int64Array, lo: Int64Array, hi: Int64Array, free: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Each free element to either end of its range, and by one step either way."""
    index = np.tile(free, 4)
    value = np.concatenate([lo[free], hi[free], np.minimum(x[free] + 1, hi[free]), np.maximum(x[free] - 1, lo[free])])
    changes = value != x[index]
    return index[changes], value[changes]


def _score_moves(
    query: Query, objective: Objective, x: Int64Array, index: Int64Array, value: Int64Array, deadline: float | None
) -> tuple[np.ndarray, Int64Array | None]:
    """The score of every move, and the first input that violates."""
    scores = np.full(len(index), np.inf)
    for start in range(0, len(index), _CHUNK):
        part = slice(start, start + _CHUNK)
        candidates = np.repeat(x[None], len(index[part]), axis=0)
        candidates[np.arange(len(candidates)), index[part]] = value[part]
        scores[part], violating = _score(query, objective, candidates)
        if violating.any():
            return scores, candidates[int(violating.argmax())]
        if deadline is not None and time.monotonic() > deadline:
            break
    return scores, None


def _combine(x: Int64Array, index: Int64Array, value: Int64Array, scores: np.ndarray, current: float) -> Int64Array:
    """Inputs that make the best one, two, four, ... of the moves that help, each element at most once."""
    order = np.argsort(scores, kind="stable")
    order = order[scores[order] < current][:256]
    _, first = np.unique(index[order], return_index=True)
    order = order[np.sort(first)]
    counts = sorted({n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, len(order)) if 0 < n <= len(order)})
    together = np.repeat(x[None], len(counts), axis=0)
    for row, count in enumerate(counts):
        together[row, index[order[:count]]] = value[order[:count]]
    return together


def _score(query: Query, objective: Objective, x: Int64Array) -> tuple[np.ndarray, np.ndarray]:
    """How far each of a batch of flat inputs is from violating, and whether it does (exactly)."""
    smooth, y = _outputs(query.network, x)
    violating = query.property.violated(x, y)
    lo, hi = query.network.output_tensor.qtype.lo, query.network.output_tensor.qtype.hi
    clipped = objective.by_conjunction(x.astype(np.float64), np.clip(smooth, lo, hi))
    beyond = objective.by_conjunction(x.astype(np.float64), smooth)
    return (clipped + _TIE_BREAK * beyond).min(axis=1), violating


def _outputs(network: Network, x: Int64Array) -> tuple[np.ndarray, Int64Array]:
    """Outputs before the last rounding (float64) and after it, both (batch, outputs)."""
    tensors = interpreter.trace(network, x.reshape(len(x), *network.input.tensor.shape))
    y = tensors[network.output.tensor].reshape(len(x), -1)
    tensor = network.output.tensor
    while tensor > 0 and isinstance(network.ops[tensor - 1], Reshape):
        tensor = inputs(network.ops[tensor - 1])[0]
    op = network.ops[tensor - 1] if tensor > 0 else None
    if not isinstance(op, Dense | Conv2d) or op.staircase.thresholds.shape[1] < 2:
        return y.astype(np.float64), y
    acc = interpreter.accumulate(op, tensors[op.x]).astype(np.float64)
    t = op.staircase.thresholds.astype(np.float64)
    shape = (-1,) + (1,) * (acc.ndim - 2)
    step = ((t[:, -1] - t[:, 0]) / (t.shape[1] - 1)).reshape(shape)
    line = op.staircase.lo + 0.5 + (acc - t[:, 0].reshape(shape)) / np.maximum(step, 1e-9)
    return line.reshape(len(x), -1), y
