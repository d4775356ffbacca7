"""Branch and bound over budgets: parts are bounded, run one by one where they hold few inputs, and split otherwise.

What it leaves is a tree in the order in which it was walked, parts before their own parts: the certificate (``bvverify.spikes.kernel``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bvverify.model.types import Int64Array
from bvverify.spikes import bounds
from bvverify.spikes.ask import Question
from bvverify.spikes.attack import attack
from bvverify.spikes.near import Near
from bvverify.spikes.node import Node, root, split_group, split_input
from bvverify.spikes.points import count, points

RUN = 80_000
"""A part is run, each input exactly, where inputs times steps are no more than this."""


@dataclass(frozen=True)
class Step:
    """What closed a part (``bound``, ``run``) or split it: a group's number and its first half, or an input (-1) and its last time."""

    kind: str
    group: int = 0
    first: tuple[int, ...] = ()
    at: int = 0

    def listed(self) -> list[Any]:
        """As the proof's file says it, for ``spikes.kernel``."""
        match self.kind:
            case "group":
                return ["group", self.group, list(self.first)]
            case "input":
                return ["input", self.first[0], self.at]
            case closing:
                return [closing]


@dataclass
class Found:
    """``witness`` (inputs,), or ``tree`` of a proof, or neither when time ran out with ``open_parts`` left."""

    witness: Int64Array | None = None
    tree: list[Step] = field(default_factory=list)
    stage: str = ""
    nodes: int = 0
    open_parts: int = 0

    @property
    def verdict(self) -> str:
        """``falsified``, ``verified`` or ``unknown``."""
        return "falsified" if self.witness is not None else "unknown" if self.open_parts else "verified"


def search(question: Question, timeout: float, report: Callable[[str], None] = lambda _line: None) -> Found:
    """Decide a question, or say what is open after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    near = Near(question.network, question.times)
    found = Found(stage="bound")
    stack = [root(question)]
    attacked, runs = False, max(1, RUN // question.network.steps)
    while stack:
        if time.monotonic() > deadline:
            found.open_parts = len(stack)
            return found
        node = stack.pop()
        found.nodes += 1
        report(f"{found.nodes} parts, {len(stack)} open")
        if count(question, node, runs) <= runs:
            inputs = points(question, node)
            if not found.tree:
                found.stage = "run"
            hit = np.flatnonzero(question.violated(near.outputs(inputs)))
            if len(hit):
                found.witness = inputs[hit[0]]
                return found
            found.tree.append(Step("run"))
            continue
        known = bounds.layers(question, node)
        if not bounds.open_classes(question, known[-1]):
            found.tree.append(Step("bound"))
            continue
        if not attacked:
            attacked, found.stage = True, "search"
            found.witness = attack(question, near, known[1], deadline)
            if found.witness is not None:
                found.stage = "attack"
                return found
        step, parts = _split(question, node, known[1])
        found.tree.append(step)
        stack.extend(reversed(parts))
    return found


def _split(question: Question, node: Node, hidden: tuple[Int64Array, Int64Array]) -> tuple[Step, list[Node]]:
    """Split the group of the largest budget where the weights towards undecided neurons balance; without groups, the widest input."""
    undecided = hidden[0] < hidden[1]
    score = np.abs(question.network.weights[0][undecided]).sum(axis=0, dtype=np.float64) + 1
    if node.groups:
        number = max(range(len(node.groups)), key=lambda g: (node.groups[g][1], len(node.groups[g][0])))
        indices, _ = node.groups[number]
        order = indices[np.lexsort((score[indices], question.times[indices]))]
        half = np.cumsum(score[order])
        cut = int(np.clip(np.searchsorted(half, half[-1] / 2), 1, len(order) - 1))
        first = np.sort(order[:cut])
        return Step("group", number, tuple(first.tolist())), split_group(question, node, number, first)
    width = node.hi - node.lo
    index = int(np.argmax(score * (width > 0)))
    at = int(node.lo[index] + width[index] // 2)
    return Step("input", first=(index,), at=at), split_input(node, index, at)
