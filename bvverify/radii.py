"""The largest radius around an input that verifies, and the smallest that falsifies: adjacent, each with its proof.

Boxes of growing radius are nested, also where they are cut off at the ends of the input's type. So a property that holds within a radius
holds within every smaller one, and a witness is one for every radius from its own Chebyshev distance on: a verified radius bounds the
answer from below, a witness from above, and what lies between is open. Three phases narrow it: exact bounds alone, each a few
milliseconds, upwards; the root of the search and the attacks, from both sides; then searches in rounds of growing budgets, the largest
open radius first, since a good attack leaves it as the answer. What ends early is still certain: each end rests on a certificate that the
kernel has accepted, or on a witness that was replayed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from bvverify import pipeline
from bvverify.errors import InternalError, UsageError
from bvverify.model import box
from bvverify.model.network import Network
from bvverify.model.query import Property, Query
from bvverify.model.result import Result, Verdict
from bvverify.model.types import Int64Array
from bvverify.run import interpreter
from bvverify.search.memory import Memory

_BOUNDS = frozenset({"clean input", "interval", "linear"})
_SEARCH = frozenset({"clean input", "interval", "linear", "one by one", "root", "attack", "search"})
_BUDGET, _GROWTH = 256, 4
"""Nodes of a search in the first round, and how much more the next one gets."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question on the way: what it came to, at which stage, and what it cost."""

    radius: int
    verdict: Verdict
    stage: str
    seconds: float
    nodes: int


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """What is certain: the property holds within ``verified``, and not within ``falsified``.

    ``verified`` is None where the clean input itself violates, ``falsified`` None where no witness within ``maximum`` is known. ``holds``
    is the result at ``verified``, with its certificate; ``fails`` that at ``falsified``, whose witness lies at exactly that distance.
    ``reason`` says what ran out where something is open. ``maximum`` is the largest radius asked about; ``everywhere`` says that its box
    is the whole input space.
    """

    verified: int | None
    falsified: int | None
    holds: Result | None
    fails: Result | None
    maximum: int
    everywhere: bool
    reason: str
    seconds: float
    asked: tuple[Asked, ...]

    @property
    def settled(self) -> bool:
        """Whether nothing is open."""
        return (-1 if self.verified is None else self.verified) + 1 == (self.maximum + 1 if self.falsified is None else self.falsified)


@dataclass(frozen=True, slots=True, eq=False)
class Around:
    """A property in the boxes around an input ``x`` (integers, the input tensor's shape)."""

    network: Network
    x: Int64Array
    asked: Property

    @staticmethod
    def of(network: Network, x: Int64Array, label: int | None = None, target: int | None = None) -> Around:
        """The class stays ``label`` (None: the network's own answer); with ``target``, it never becomes that one.

        ``UsageError`` for a class that the network does not have, and for both together.
        """
        outputs = network.output_tensor.size
        if label is not None and target is not None:
            raise UsageError("a label and a target ask two questions; give one of them")
        given = label if target is None else target
        if given is not None and not 0 <= given < outputs:
            raise UsageError(f"there is no class {given}: the network has outputs 0 to {outputs - 1}")
        if target is not None:
            return Around(network, x, Property.avoiding(target, outputs))
        predicted = int(interpreter.run(network, x[None]).reshape(-1).argmax())
        return Around(network, x, Property.robustness(predicted if label is None else label, outputs))

    def query(self, radius: int) -> Query:
        """The question for one radius."""
        return Query(self.network, box.around(self.x, radius, self.network.input.tensor.qtype), self.asked, self.x)

    def distance(self, x: Int64Array) -> int:
        """The Chebyshev distance of an input."""
        return int(np.abs(x - self.x).max())

    @property
    def farthest(self) -> int:
        """The radius from which on the box is the whole input space."""
        qtype = self.network.input.tensor.qtype
        return max(int(self.x.max()) - qtype.lo, qtype.hi - int(self.x.min()))


def find(
    around: Around, maximum: int | None = None, options: pipeline.Options | None = None, progress: pipeline.Progress | None = None
) -> Ends:
    """The two radii, up to ``maximum`` (None: as far as inputs go).

    Of ``options``, ``timeout`` is for all of it; ``stages`` and ``most_nodes`` are this function's own. Raises ``UsageError`` for a
    maximum that is negative and for another engine than "auto", ``InternalError`` when bvverify contradicts itself, ``Interrupted`` on
    Ctrl-C.
    """
    options = options or pipeline.Options()
    if options.engine != "auto":
        raise UsageError(f"the largest radius is found by the engine auto, not by {options.engine}")
    if maximum is not None and maximum < 0:
        raise UsageError(f"the maximum is {maximum}; a radius cannot be negative")
    farthest = around.farthest
    limit = farthest if maximum is None else min(maximum, farthest)
    work = _Work(around, limit, options, progress or (lambda _stage, _line: None))
    _clean(work)
    try:
        for phase in (_by_bounds, _by_attack, _by_search):
            if work.open():
                phase(work)
    except KeyboardInterrupt as stop:
        raise Interrupted(work.ends(everywhere=limit == farthest, why="interrupted")) from stop
    return work.ends(everywhere=limit == farthest)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while radii are asked about; ``ends`` is what was certain by then."""

    def __init__(self, ends: Ends) -> None:
        super().__init__(ends.reason)
        self.ends = ends


@dataclass(slots=True)
class _Work:
    """What is known so far: ``lo`` verifies (-1: nothing does yet), ``hi`` falsifies (``limit + 1``: nothing is known to)."""

    around: Around
    limit: int
    options: pipeline.Options
    progress: pipeline.Progress
    started: float = field(default_factory=time.monotonic)
    lo: int = -1
    hi: int = 0
    holds: Result | None = None
    witness: Int64Array | None = None
    memory: Memory = field(default_factory=Memory)
    tried: dict[int, int] = field(default_factory=dict)
    """Radii that stayed open, with the nodes that their search had."""
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hi = self.limit + 1

    def left(self) -> float | None:
        """Seconds left, or None without a limit."""
        return None if self.options.timeout is None else self.started + self.options.timeout - time.monotonic()

    def open(self) -> bool:
        """Whether there is a radius left to ask about, and time."""
        left = self.left()
        return self.lo + 1 < self.hi and (left is None or left > 0)

    def bound(self, radius: int) -> Verdict:
        """Ask exact bounds alone about one radius."""
        return self._ask(radius, _BOUNDS, 0)

    def search(self, radius: int, nodes: int) -> Verdict:
        """Ask about one radius with so many nodes for its search, and take the answer in; a search that was left open goes on."""
        before = self.tried.get(radius)
        if before is not None and before >= nodes:
            return Verdict.UNKNOWN
        self.tried[radius] = nodes
        # The same seed would try the same inputs again.
        return self._ask(radius, _SEARCH if before is None else _SEARCH - {"attack"}, nodes)

    def _ask(self, radius: int, stages: frozenset[str], nodes: int) -> Verdict:
        known = f"verified {self.lo}, falsified {'-' if self.witness is None else self.hi}, now {radius}"
        result = pipeline.decide(
            self.around.query(radius),
            replace(self.options, timeout=self.left(), stages=stages, most_nodes=nodes, runtimes=False),
            lambda stage, line: self.progress(stage, f"{known}: {line}"),
            self.memory,
        )
        self.take(radius, result)
        return result.verdict

    def take(self, radius: int, result: Result) -> None:
        """Take in an answer."""
        self.asked.append(Asked(radius, result.verdict, result.stage, result.seconds, result.nodes))
        if result.verdict is Verdict.VERIFIED:
            self.lo, self.holds = radius, result
        elif result.witness is not None:
            self.closer(result.witness.input)
            self.shrink()

    def closer(self, x: Int64Array) -> None:
        """A witness that is nearer than the one before."""
        distance = self.around.distance(x)
        if distance <= self.lo:
            raise InternalError(f"radius {self.lo} verifies, and a witness lies within {distance}: please report this")
        self.hi, self.witness = distance, x
        self.memory.points = x[None]

    def shrink(self) -> None:
        """Nearer witnesses from the one that is known: drawn into smaller boxes, and polished there."""
        from bvverify.attack import local

        below = self.lo
        while below + 1 < self.hi and self.open():
            assert self.witness is not None
            radius = (below + self.hi) // 2
            query, left = self.around.query(radius), self.left()
            start = np.clip(self.witness, query.box.lo, query.box.hi)
            deadline = None if left is None else time.monotonic() + left
            found = local.polish(query, range(len(query.property.violation)), start, deadline=deadline)
            if found is None:
                below = radius
            else:
                self.closer(found)

    def ends(self, *, everywhere: bool, why: str = "") -> Ends:
        """What is certain now; the witness replayed by the runtime, too. ``why`` it ends, where it is not the time limit."""
        fails = None
        if self.witness is not None:
            options = replace(self.options, timeout=None, stages=frozenset({"clean input"}))
            fails = pipeline.decide(self.around.query(self.hi), options, memory=self.memory)
        reason = ""
        if self.lo + 1 < self.hi:
            reason = why or f"the time limit of {self.options.timeout:g} s ran out"
        return Ends(
            None if self.lo < 0 else self.lo,
            None if fails is None else self.hi,
            self.holds,
            fails,
            self.limit,
            everywhere,
            reason,
            time.monotonic() - self.started,
            tuple(self.asked),
        )


def _clean(work: _Work) -> None:
    """Radius 0, whatever the limit: the input itself, one run of the network."""
    options = replace(work.options, timeout=None, stages=_SEARCH, most_nodes=None, runtimes=False)
    work.take(0, pipeline.decide(work.around.query(0), options, memory=work.memory))


def _by_bounds(work: _Work) -> None:
    """How far exact bounds alone reach: doubled while they do, then halved."""
    radius = 1
    while work.open() and work.bound(min(radius, work.limit)) is Verdict.VERIFIED:
        radius *= 2
    _bisect(work, work.bound, work.lo, min(radius, work.hi), upwards=False)


def _by_attack(work: _Work) -> None:
    """The root of the search and the attacks: doubled until something falsifies, then halved on either side of what stays open."""
    radius = max(work.lo + 1, 1)
    while work.open() and work.witness is None and work.tried.get(work.limit) is None:
        work.search(min(radius, work.limit), 0)
        radius *= 2
    for upwards in (True, False):
        _bisect(work, lambda radius: work.search(radius, 0), work.lo, work.hi, upwards=upwards)


def _by_search(work: _Work) -> None:
    """Rounds of searches: the largest open radius, then halved below where it stays open; the next round with more nodes."""
    nodes = _BUDGET
    while work.open():
        budget = nodes
        if work.search(work.hi - 1, budget) is Verdict.UNKNOWN:
            _bisect(work, lambda radius, budget=budget: work.search(radius, budget), work.lo, work.hi - 1, upwards=False)  # type: ignore[misc]
            nodes *= _GROWTH


def _bisect(work: _Work, ask: Callable[[int], Verdict], below: int, above: int, *, upwards: bool) -> None:
    """Halve what is open between two radii, on the side of larger ones (smaller ones) where a radius stays unknown."""
    while work.open():
        below, above = max(below, work.lo), min(above, work.hi)
        if below + 1 >= above:
            return
        radius = (below + above) // 2
        if ask(radius) is Verdict.UNKNOWN:
            below, above = (radius, above) if upwards else (below, radius)
