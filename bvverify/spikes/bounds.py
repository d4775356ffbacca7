"""Bounds on the spike times of a part: a potential's greatest and least value at every step, exact in the first layer.

At a step, an input of a group counts or does not; to make it change sides costs so many steps of the budget. What a potential can gain is a
knapsack with few costs and a small budget: for each cost the best gains are sorted, and the budget is shared among the costs. Behind the
first layer an interval of spike times makes each input of a sum certain, impossible or either at each step.
"""

from __future__ import annotations

import numpy as np

from bvverify.model.types import Int64Array
from bvverify.spikes.ask import Question
from bvverify.spikes.network import Spiking, product
from bvverify.spikes.node import Node


def layers(question: Question, node: Node) -> list[tuple[Int64Array, Int64Array]]:
    """The earliest and latest spike times of every layer, the inputs first, for every input of a part."""
    network = question.network
    found = [(node.lo, node.hi)]
    least, most = first_layer(question, node)
    for number in range(len(network.weights)):
        if number:
            least, most = _intervals(network, number, *found[-1])
        found.append((_first(network, most), _first(network, least)))
    return found


def first_layer(question: Question, node: Node) -> tuple[Int64Array, Int64Array]:
    """Least and greatest potentials (steps - 2, neurons) of the first layer at the steps 1 … steps - 2: each is attained."""
    network = question.network
    lo, hi = node.lo.copy(), node.hi.copy()
    for indices, _ in node.groups:
        lo[indices] = hi[indices] = question.times[indices]
    least, most = _intervals(network, 0, lo, hi)
    for indices, budget in node.groups:
        weight = network.weights[0][:, indices].T  # (n, neurons)
        times, earliest, latest = question.times[indices], node.lo[indices], node.hi[indices]
        for t in range(max(1, int(earliest.min()) + 1), min(network.steps - 2, int(latest.max())) + 1):
            on = times <= t - 1
            cost = np.where(on, t - times, times - t + 1)
            cost[np.where(on, latest < t, earliest > t - 1)] = budget + 1  # cannot change sides
            gain, loss = _knapsack(cost, np.where(on, -1, 1)[:, None] * weight, budget)
            most[t - 1] += gain
            least[t - 1] -= loss
    return least, most


def open_classes(question: Question, outputs: tuple[Int64Array, Int64Array]) -> list[int]:
    """The classes that may win against the label, by the bounds on the outputs' times."""
    lo, hi = outputs
    own = int(hi[question.label])
    return [k for k in range(len(lo)) if k != question.label and (lo[k] <= own if question.ties or k < question.label else lo[k] < own)]


def _knapsack(cost: Int64Array, change: Int64Array, budget: int) -> tuple[Int64Array, Int64Array]:
    """The greatest rise and the greatest fall (neurons,) of the changes (n, neurons) that a budget pays for."""
    best = np.zeros((2, budget + 1, change.shape[1]), np.int64)
    for price in range(1, budget + 1):
        some = change[cost == price]
        if not len(some):
            continue
        count = min(budget // price, len(some))
        for sign, worth in enumerate((some, -some)):
            top = -np.sort(np.partition(-worth, count - 1, axis=0)[:count], axis=0) if count < len(worth) else -np.sort(-worth, axis=0)
            sums = np.cumsum(np.maximum(top, 0), axis=0)
            now = best[sign].copy()
            for number in range(1, count + 1):
                spent = number * price
                now[spent:] = np.maximum(now[spent:], best[sign][: budget + 1 - spent] + sums[number - 1])
            best[sign] = now
    return best[0, -1], best[1, -1]


def _intervals(network: Spiking, number: int, lo: Int64Array, hi: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Least and greatest potentials (steps - 2, neurons) of a layer whose inputs spike within intervals."""
    weight = network.weights[number]
    before = np.arange(network.steps - 2)[:, None]  # the last step that counts at 1 … steps - 2
    certain = product(network, hi <= before, weight)
    either = (lo <= before) & (hi > before)
    return certain + product(network, either, np.minimum(weight, 0)), certain + product(network, either, np.maximum(weight, 0))


def _first(network: Spiking, potentials: Int64Array) -> Int64Array:
    """The first step at which potentials (steps - 2, neurons) pass, the last step where none does."""
    passed = potentials >= network.passes
    return np.where(passed.any(axis=0), passed.argmax(axis=0) + 1, network.steps - 1)
