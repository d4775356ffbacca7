"""The inputs of a part, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from bvverify.model.types import Int64Array
from bvverify.spikes.ask import Question
from bvverify.spikes.node import Node


def count(question: Question, node: Node, enough: int) -> int:
    """How many inputs a part holds; counting ends beyond ``enough``."""
    grouped = np.zeros(len(node.lo), bool)
    total = 1
    for indices, budget in node.groups:
        grouped[indices] = True
        ways = [1] + [0] * budget
        for i in indices.tolist():
            ways = [sum(ways[b - c] * _ways(question, node, i, c) for c in range(b + 1)) for b in range(budget + 1)]
            if sum(ways) > enough:
                return enough + 1
        total *= sum(ways)
        if total > enough:
            return total
    for width in (node.hi - node.lo + 1)[~grouped & (node.hi > node.lo)].tolist():
        total *= width
        if total > enough:
            break
    return total


def points(question: Question, node: Node) -> Int64Array:
    """All inputs of a part (n, inputs)."""
    grouped = np.zeros(len(node.lo), bool)
    choices: list[list[dict[int, int]]] = []
    base = node.lo.copy()
    for indices, budget in node.groups:
        grouped[indices] = True
        base[indices] = question.times[indices]
        choices.append(list(_moves(question, node, indices.tolist(), budget)))
    alone = np.flatnonzero(~grouped & (node.hi > node.lo)).tolist()
    choices += [[{i: t} for t in range(int(node.lo[i]), int(node.hi[i]) + 1)] for i in alone]
    found = []
    for chosen in product(*choices):
        times = base.copy()
        for part in chosen:
            for i, t in part.items():
                times[i] = t
        found.append(times)
    return np.stack(found)


def _ways(question: Question, node: Node, index: int, cost: int) -> int:
    t = int(question.times[index])
    return sum(int(node.lo[index]) <= s <= int(node.hi[index]) for s in {t - cost, t + cost})


def _moves(question: Question, node: Node, indices: list[int], budget: int) -> Iterator[dict[int, int]]:
    """Every way to move some of the inputs within the budget."""
    yield {}
    for place, i in enumerate(indices):
        clean = int(question.times[i])
        for t in range(int(node.lo[i]), int(node.hi[i]) + 1):
            cost = abs(t - clean)
            if 0 < cost <= budget:
                for rest in _moves(question, node, indices[place + 1 :], budget - cost):
                    yield {i: t, **rest}
