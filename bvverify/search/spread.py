"""One search on many processes, through a ``concurrent.futures.Executor``: those of this machine, or of a cluster.

In rounds. The open nodes are dealt to the workers, the worst first; each searches below its own for a number of nodes, and what grew
there is grafted onto the one tree. Rounds are counted in nodes and put together in the order of the workers, so that for a number of
workers the search depends on its seed alone. A worker that dies, hangs, or runs out of memory costs its part of a round another try and
nothing else: that part is searched once more, and then its nodes are back in the pool.
"""

from __future__ import annotations

import hashlib
import pickle
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, Protocol

from bvverify.errors import InternalError
from bvverify.model.certificate import Tightening
from bvverify.model.query import Query
from bvverify.model.types import Int64Array
from bvverify.search.leaf import LeafSolver
from bvverify.search.leaves import Leaves
from bvverify.search.node import Grown, Node, Seed
from bvverify.search.reserve import Reserve
from bvverify.search.root import Root
from bvverify.search.search import Outcome, Search

_ALONE, _ROUND = 12, 40
"""Batches of nodes before the first round, since most questions need no more; and of one worker in a round: a few seconds."""
_SEEDS = 4
"""Batches of nodes that a worker begins with, at most."""
_SLACK, _HANGS = 30.0, 20.0
"""A part of a round has hung when it takes that many seconds more than the time that was left, or than so many times the longest so far
(to begin with, what so many nodes took here)."""


class Workers(Protocol):
    """Where the parts of a round are searched."""

    @property
    def count(self) -> int:
        """How many parts a round has."""

    def submit(self, work: Callable[[Job], Part], job: Job) -> Future[Part]:
        """Have a part searched."""

    def renew(self) -> None:
        """Start again with new workers, whatever the old ones are at."""


@dataclass(frozen=True, slots=True)
class Job:
    """A part of a round. ``question`` is the pickled query, claims, conjunctions and solver, the same in all of a search's jobs."""

    question: bytes
    exponents: dict[int, int]
    seeds: tuple[Seed, ...]
    most_nodes: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Part:
    """What came of it: a tree for each seed, the leaves that bounds closed, and a witness if there was one."""

    trees: tuple[Grown, ...]
    leaves: Leaves
    witness: Int64Array | None


@dataclass(frozen=True, slots=True)
class _Question:
    query: Query
    tightenings: list[Tightening]
    conjunctions: tuple[int, ...]
    solver: LeafSolver


class Spread:
    """A search that others take part in."""

    def __init__(self, search: Search, workers: Workers, solver: LeafSolver) -> None:
        self.search, self.workers = search, workers
        self.question = pickle.dumps(_Question(search.query, search.root.tightenings, tuple(search.trees), solver))
        self.longest, self.lost = 0.0, 0

    def run(self, deadline: float | None, most_nodes: int | None = None, reserve: Reserve | None = None) -> Outcome:
        """As ``Search.run``."""
        search = self.search
        alone = search.nodes + _ALONE * search.batch
        begun, before = time.monotonic(), search.nodes
        while True:
            few = alone if most_nodes is None else min(alone, most_nodes)
            outcome = search.run(deadline, few, reserve)
            until = deadline if deadline is None or reserve is None else deadline - reserve.seconds(search)
            late = until is not None and time.monotonic() > until
            if outcome.done or late or (most_nodes is not None and search.nodes >= most_nodes):
                return outcome
            if not self.longest:
                self.longest = (time.monotonic() - begun) / max(search.nodes - before, 1) * _ROUND * search.batch
            lost = self.lost
            self._round(until, most_nodes)
            # Where a part was lost, a round's share is searched here: who never answers does not keep the search from its end.
            own = _ROUND if self.lost > lost else 0 if len(search.open) >= self.workers.count else 1
            alone = search.nodes + own * search.batch

    def _round(self, until: float | None, most_nodes: int | None) -> None:
        search, count = self.search, self.workers.count
        taken = search.take(count * _SEEDS * search.batch)
        hands = [taken[k::count] for k in range(min(count, len(taken)))]
        share = _ROUND * search.batch if most_nodes is None else max(min(_ROUND * search.batch, (most_nodes - search.nodes) // count), 1)
        search.report(f"{search.nodes} nodes, {len(taken) + len(search.open)} open, {len(hands)} workers, worst bound {taken[0].bound:.3g}")
        parts = self._searched([self._job(hand, share, until) for hand in hands])
        for hand, part in zip(hands, parts, strict=True):
            if part is None:
                self.lost += 1
                for node in hand:
                    search.put_back(node)
            else:
                search.graft(hand, part.trees, part.leaves)
                if search.witness is None:
                    search.witness = part.witness

    def _job(self, hand: Sequence[Node], share: int, until: float | None) -> Job:
        seconds = None if until is None else max(until - time.monotonic(), 0.1)
        return Job(self.question, self.search.exponents, tuple(map(Seed.of, hand)), share, seconds)

    def _searched(self, jobs: Sequence[Job]) -> list[Part | None]:
        """The parts of a round, those that were lost tried once more; None where that was in vain."""
        parts: list[Part | None] = [None] * len(jobs)
        for _ in range(2):
            due = [k for k, part in enumerate(parts) if part is None]
            if not due:
                break
            if self._try({k: jobs[k] for k in due}, parts):
                self.workers.renew()
        return parts

    def _try(self, jobs: dict[int, Job], parts: list[Part | None]) -> list[int]:
        """Put what comes of jobs into ``parts``; those of which nothing came."""
        begun = time.monotonic()
        running: dict[Future[Part], int] = {}
        for k, job in jobs.items():
            try:
                running[self.workers.submit(work, job)] = k
            except Exception:  # a pool that broke meanwhile; an executor of somebody else's raises what it likes
                continue
        while running:
            limit = _SLACK + _HANGS * self.longest
            for job in jobs.values():
                limit = min(limit, _SLACK + job.seconds) if job.seconds is not None else limit
            done = wait(running, max(begun + limit - time.monotonic(), 0), "FIRST_COMPLETED").done
            if not done:
                for future in running:
                    future.cancel()
                break
            for future in done:
                k, error = running.pop(future), future.exception()
                if isinstance(error, InternalError):
                    raise error
                if error is None:
                    parts[k] = future.result()
                    self.longest = max(self.longest, time.monotonic() - begun)
        return [k for k in jobs if parts[k] is None]


# -- in a worker ---------------------------------------------------------------------------------------------------------------------

_kept: dict[bytes, tuple[_Question, Root]] = {}
"""The last question, by its digest: the root of a large network takes a while."""


def work(job: Job) -> Part:
    """Search below some nodes."""
    from bvverify.attack.nodes import NodeAttack

    deadline = None if job.seconds is None else time.monotonic() + job.seconds
    question, root = _prepared(job.question)
    question.solver.deadline = deadline
    search = Search(root, question.conjunctions, NodeAttack(question.query, deadline), question.solver)
    search.exponents = dict(job.exponents)
    nodes = search.plant(job.seeds)
    outcome = search.run(deadline, search.nodes + job.most_nodes)
    return Part(tuple(map(Grown.of, nodes)), search.leaves, outcome.witness)


def _prepared(question: bytes) -> tuple[Any, Root]:
    digest = hashlib.sha256(question).digest()
    if digest not in _kept:
        made: _Question = pickle.loads(question)
        _kept.clear()
        _kept[digest] = made, Root.of(made.query, made.tightenings)
    return _kept[digest]
