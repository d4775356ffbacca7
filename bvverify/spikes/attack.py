"""Looks for a violation: a beam of inputs, each step towards making one neuron of the first layer spike earlier or later."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from bvverify.model.types import Int64Array
from bvverify.spikes.ask import Question
from bvverify.spikes.near import Near

_BEAM = 6
_MOST = 8000


def attack(question: Question, near: Near, hidden: tuple[Int64Array, Int64Array], deadline: float) -> Int64Array | None:
    """An input (inputs,) that violates the question, or None; ``hidden`` bounds the first layer's spike times."""
    if question.violated(near.outputs(question.times[None]))[0]:
        return question.times
    beam, seen = [question.times], {question.times.tobytes()}
    for _ in range(question.total if question.total is not None else 4 * question.most):
        candidates = _new([x for start in beam for x in (*_single(question, start), *_towards(question, start, hidden))], seen)
        if not len(candidates) or time.monotonic() > deadline:
            return None
        layers = near.layers(candidates)
        hit = np.flatnonzero(question.violated(layers[-1]))
        if len(hit):
            return candidates[hit[0]]
        order = np.argsort(-near.margins(layers[-2], question.label), kind="stable")
        beam = list(candidates[order[:_BEAM]])
    return None


def _new(inputs: list[Int64Array], seen: set[bytes]) -> Int64Array:
    """Those that were not tried before, and are remembered now."""
    found: list[Int64Array] = []
    for x in inputs:
        if (key := x.tobytes()) not in seen and len(found) < _MOST:
            seen.add(key)
            found.append(x)
    return np.array(found, np.int64)


def _left(question: Question, times: Int64Array) -> int:
    """What is left of the budget at an input."""
    return 64 if question.total is None else question.total - int(np.abs(times - question.times).sum())


def _single(question: Question, times: Int64Array) -> Iterator[Int64Array]:
    """The inputs that one more step of one spike, away from where it was, makes of ``times``."""
    if _left(question, times) < 1:
        return
    for step, limit in ((-1, question.lo), (1, question.hi)):
        for i in np.flatnonzero((times != limit) & ((times - question.times) * step >= 0)).tolist():
            made = times.copy()
            made[i] += step
            yield made


def _towards(question: Question, times: Int64Array, hidden: tuple[Int64Array, Int64Array]) -> Iterator[Int64Array]:
    """What the spikes that move a potential most for their cost make of ``times``, one after another, for undecided neurons and steps."""
    left, weight = _left(question, times), question.network.weights[0]
    undecided = np.flatnonzero(hidden[0] < hidden[1])
    if left < 2 or not len(undecided):
        return
    for t in range(max(1, int(hidden[0][undecided].min())), min(question.network.steps - 2, int(hidden[1][undecided].max())) + 1):
        neurons = undecided[(hidden[0][undecided] <= t) & (hidden[1][undecided] >= t)]
        on = times < t
        target = np.where(on, t, t - 1)
        cost = np.abs(target - times)
        can = np.flatnonzero((target >= question.lo) & (target <= question.hi) & (cost <= left))
        if not len(can):
            continue
        gain = np.where(on[can], -1, 1)[:, None] * weight[neurons][:, can].T / cost[can][:, None]
        for sign in (1, -1):
            order = np.argsort(-sign * gain, axis=0)[: 2 * left]
            for column in range(len(neurons)):
                made, budget = times.copy(), left
                for row in order[:, column].tolist():
                    i = can[row]
                    if sign * gain[row, column] > 0 and cost[i] <= budget:
                        made[i], budget = target[i], budget - int(cost[i])
                        if budget < left - 1 and question.allows(made):
                            yield made.copy()
