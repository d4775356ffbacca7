"""Parts of a question: some inputs within their intervals, others in groups that share a budget of steps.

A split of a group with budget b gives b + 1 parts: a steps at most for the one half, b - a for the other. Every input of the whole lies in
one of them, that of its own cost in the first half. So a budget narrows to the few spikes that matter in logarithmically many splits,
where splitting on one spike after another would take hundreds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bvverify.model.types import Int64Array
from bvverify.spikes.ask import Question


@dataclass(frozen=True, eq=False)
class Node:
    """``lo``, ``hi`` (inputs,) bound each time; ``groups``: (indices, budget) of the inputs whose moves share a budget of at least 1."""

    lo: Int64Array
    hi: Int64Array
    groups: tuple[tuple[Int64Array, int], ...]


def root(question: Question) -> Node:
    """The whole question."""
    everything = Node(question.lo, question.hi, ())
    if question.total is None:
        return everything
    return _with_group(everything, question, np.arange(len(question.times)), question.total)


def split_group(question: Question, node: Node, number: int, first: Int64Array) -> list[Node]:
    """The parts of a node when the inputs ``first`` of a group get their own share of its budget, 0 first."""
    indices, budget = node.groups[number]
    second = np.setdiff1d(indices, first, assume_unique=True)
    rest = replace(node, groups=node.groups[:number] + node.groups[number + 1 :])
    return [_with_group(_with_group(rest, question, first, share), question, second, budget - share) for share in range(budget + 1)]


def split_input(node: Node, index: int, at: int) -> list[Node]:
    """The parts of a node in which an input outside every group spikes at ``at`` or before, and after it."""
    hi, lo = node.hi.copy(), node.lo.copy()
    hi[index], lo[index] = at, at + 1
    return [replace(node, hi=hi), replace(node, lo=lo)]


def _with_group(node: Node, question: Question, indices: Int64Array, budget: int) -> Node:
    """One more group; one of a single input is an interval, one without budget is fixed."""
    lo, hi = node.lo.copy(), node.hi.copy()
    lo[indices] = np.maximum(lo[indices], question.times[indices] - budget)
    hi[indices] = np.minimum(hi[indices], question.times[indices] + budget)
    free = indices[lo[indices] < hi[indices]]
    if len(free) < 2:
        return Node(lo, hi, node.groups)
    return Node(lo, hi, (*node.groups, (free, budget)))
