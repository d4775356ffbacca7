"""Decides a question about flipped bits: attack, then for each choice of units bounds on all flips at once, split until one flip is left.

The order: the network as it is; flips at the clean input, exactly; then a queue of nodes. A node is a choice of units with the flips that
each may make (``node``); its query goes to the whole pipeline with a short limit. *Verified* closes it. Otherwise the input of a
counterexample, if there is one, is tried with the node's flips, exactly, and the node falls into two: the larger set of flips in halves, or
with one flip left, that flip made in the network. So a node that nothing closes ends as a plain question about a network with flips
in it, which the pipeline decides.

*Falsified* comes with flips and an input that have been run (``Question.violated``), *verified* with a proof for ``kernel``.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement
from typing import Any, Literal

import numpy as np

from bvverify import pipeline
from bvverify.bitflip import single
from bvverify.bitflip.ask import Flip, Question, applied
from bvverify.bitflip.flips import Flips, units
from bvverify.bitflip.greedy import greedy
from bvverify.bitflip.kernel import applying
from bvverify.bitflip.node import Unclear, query_of, ranges_of, slots_of
from bvverify.bitflip.stored import Stored
from bvverify.errors import InternalError
from bvverify.model.certificate import Certificate
from bvverify.model.network import Network
from bvverify.model.result import Result, Verdict
from bvverify.model.types import Int64Array

Report = Callable[[str], None]
"""Called with one short line, as often as there is news."""
_FIRST_SECONDS = 2.0
"""For a node's query at first; a node that can fall into parts gets no more."""
_WITH_DIGITS = frozenset({"clean input", "interval", "linear", "one by one", "root", "search"})
"""The stages for a query with digits: a counterexample that an attack would find is mostly none of the flips'."""
_TRIED = 16
"""Flips of a slot that are tried at a counterexample's input before those of the next slot."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The answer. ``x`` and ``flips`` violate the property; ``steps`` and ``certificates`` are the proof; ``open_nodes`` what is left."""

    verdict: Literal["verified", "falsified", "unknown"]
    stage: str
    nodes: int
    reason: str = ""
    x: Int64Array | None = None
    flips: tuple[Flip, ...] = ()
    steps: tuple[Any, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    open_nodes: int = 0


@dataclass(slots=True, eq=False)
class _Node:
    network: Network
    made: tuple[Flip, ...]
    slots: list[Flips]
    seconds: float
    step: list[Any] | None = None
    parts: list[_Node] = field(default_factory=list)

    def preorder(self) -> Iterator[list[Any]]:
        stack = [self]
        while stack:
            node = stack.pop()
            assert node.step is not None
            yield node.step
            stack.extend(reversed(node.parts))


class _Falsified(Exception):
    def __init__(self, x: Int64Array, flips: Sequence[Flip]) -> None:
        super().__init__()
        self.x, self.flips = x, tuple(flips)


def search(
    question: Question,
    x: Int64Array,
    timeout: float | None,
    options: pipeline.Options | None = None,
    report: Report = lambda _line: None,
) -> Found:
    """Decide ``question``; ``x`` is an input of its box at which flips are tried first, ``timeout`` in seconds for all of it."""
    return _Search(question, x, timeout, options or pipeline.Options(), report).run()


class _Search:
    def __init__(self, question: Question, x: Int64Array, timeout: float | None, options: pipeline.Options, report: Report) -> None:
        self.question, self.x, self.options, self.report = question, x, options, report
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self.parts: list[Stored] = question.parts()
        self.certificates: list[Certificate] = []
        self.nodes, self.stage = 0, "the network as it is"
        self.beyond = ""

    def run(self) -> Found:
        """All of it."""
        try:
            return self._run()
        except _Falsified as found:
            if self.question.violated(found.x, found.flips) is None:
                raise InternalError("flips that were found to change the class do not replay: please report this") from None
            return Found("falsified", self.stage, self.nodes, "", found.x, found.flips)

    def _run(self) -> Found:
        if self._decide(self.question.query(self.question.network), (), _FIRST_SECONDS * 2) is None and self._over():
            return Found("unknown", self.stage, self.nodes, "the time limit ran out on the network as it is")
        self.stage = "flips at the clean input"
        self._attack(self.x)
        self.stage = "branch and bound"
        known = ranges_of(self.question.network, self.question.box)
        flips = dict(zip(units(self.parts), slots_of(self.question, self.parts, units(self.parts), known), strict=True))
        choices = list(combinations_with_replacement(units(self.parts), self.question.parameters))
        roots = [_Node(self.question.network, (), [flips[unit] for unit in choice], _FIRST_SECONDS) for choice in choices]
        queue = deque(roots)
        while queue:
            if self._over():
                return Found("unknown", self.stage, self.nodes, "the time limit ran out", open_nodes=len(queue))
            node = queue.popleft()
            self.report(f"{self.nodes} nodes done, {len(queue) + 1} open")
            self._visit(node)
            queue.extend(node.parts if node.step is not None else [node])
            if node.step is None and not node.slots and self.beyond:
                return Found("unknown", self.stage, self.nodes, self.beyond, open_nodes=len(queue))
        steps = tuple(step for root in roots for step in root.preorder())
        return Found("verified", self.stage, self.nodes, "", steps=steps, certificates=tuple(self.certificates))

    def _over(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _decide(self, query: Any, made: Sequence[Flip], seconds: float) -> Result | None:
        """The pipeline's verdict within so many seconds, if any; a counterexample of a network without digits ends the search."""
        if self.deadline is not None:
            seconds = max(min(seconds, self.deadline - time.monotonic()), 1e-3)
        plain = query.network.input.tensor.size == self.x.size
        result = pipeline.decide(query, replace(self.options, timeout=seconds, runtimes=False, stages=None if plain else _WITH_DIGITS))
        self.nodes += 1
        if plain and result.witness is not None:
            raise _Falsified(result.witness.input, made)
        return None if result.verdict is Verdict.UNKNOWN else result

    def _visit(self, node: _Node) -> None:
        """Close a node, or let it fall into parts; a plain question that was too hard stays, with more time."""
        if any(len(slot) == 0 for slot in node.slots):
            node.step = ["none"]
            return
        result: Result | None = None
        with contextlib.suppress(Unclear):
            result = self._decide(query_of(self.question, node.network, self.parts, node.slots), node.made, node.seconds)
        if result is not None and result.verdict is Verdict.VERIFIED:
            node.step = ["leaf", len(self.certificates)]
            self.certificates += result.certificates
            return
        if not node.slots:
            node.seconds *= 4
            return
        if result is not None and result.witness is not None:
            x = result.witness.input.reshape(-1)[: self.x.size].reshape(self.x.shape)
            self._try(node.network, node.made, node.slots, x)
        self._split(node)

    def _split(self, node: _Node) -> None:
        sizes = [len(slot) for slot in node.slots]
        s = int(np.argmax(sizes))
        if sizes[s] == 1:
            try:
                network, slots = applying(node.network, node.slots, s, self.parts)
            except ValueError as error:
                # Left without a step: the question stays open, whatever else is decided.
                self.beyond, node.slots = f"a flip leaves what the runtime is modelled for: {error}", []
                return
            flip = node.slots[s].flip(0, self.parts)
            node.step = ["apply", s]
            node.parts = [_Node(network, node.made + (() if flip is None else (flip,)), slots, node.seconds)]
            return
        at = _where(node.slots[s])
        node.step = ["split", s, at]
        for rows in (slice(at), slice(at, None)):
            slots = [slot.at(rows) if n == s else slot for n, slot in enumerate(node.slots)]
            node.parts.append(_Node(node.network, node.made, slots, node.seconds))

    def _attack(self, x: Int64Array) -> None:
        """Flips at one input, exactly: all of them for one parameter; for more, the best of each in turn."""
        found = greedy(self.question, self.parts, x, self.deadline, self.report)
        if found is not None:
            raise _Falsified(*found)

    def _try(self, network: Network, made: Sequence[Flip], slots: Sequence[Flips], x: Int64Array) -> None:
        """The flips of the slots at input ``x``: all of the last slot's, on top of some of the others'."""
        first, rest = slots[0], slots[1:]
        if not rest:
            classes = single.outcomes(network, x, self.parts, first)
            hits = np.flatnonzero((classes >= 0) & (classes != self.question.label))
            if len(hits):
                flip = first.flip(int(hits[0]), self.parts)
                raise _Falsified(x, made if flip is None else (*made, flip))
            return
        for row in np.unique(np.linspace(0, len(first) - 1, _TRIED).astype(int)).tolist():
            if self._over():
                return
            flip = first.flip(row, self.parts)
            try:
                hit = network if flip is None else applied(network, self.parts, flip)
            except ValueError:
                continue
            left = list(rest) if flip is None else [slot.without(flip, self.parts) for slot in rest]
            if all(len(slot) for slot in left):
                self._try(hit, (*made, *(() if flip is None else (flip,))), left, x)


def _where(slot: Flips) -> int:
    """Where a slot of several flips falls into two: by the sign of what they change, where that is no sliver, or in halves."""
    negative = int(np.argmax(slot.delta >= 0))
    return negative if len(slot) <= 8 * negative <= 7 * len(slot) else len(slot) // 2
