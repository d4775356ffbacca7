"""A question on its way through the pipeline: how to go about it, and what is known of it so far."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bvverify.bounds import exclude
from bvverify.bounds.interval import Bounds
from bvverify.model.certificate import Forest, Tightening
from bvverify.model.query import Query
from bvverify.model.result import StageReport
from bvverify.search import proof
from bvverify.search.memory import Memory

if TYPE_CHECKING:
    from bvverify.search.search import Outcome, Search
    from bvverify.solve import Solver

Progress = Callable[[str, str], None]
"""Called with a stage and one short line about it, as often as there is news."""

Engine = Literal[
    "auto", "smt", "ilp:exact", "ilp:aaai24", "ilp:qvip", "ilp:exact:as-written", "ilp:aaai24:as-written", "ilp:qvip:as-written"
]


@dataclass(frozen=True, slots=True)
class Options:
    """How to go about a question; none of it can change a verdict, only whether there is one.

    ``timeout`` is in seconds for the whole question (None: no limit), ``memory_mb`` limits each solver's process. ``stages`` restricts
    the pipeline (None: all of them); ``engine`` "smt" sends the whole question to the solver alone, ``solver`` says to which; "ilp:..."
    to an ILP reading, whose answer can falsify (its input replays) and never verify. ``dump`` is a file that receives the solver's
    question as SMT-LIB 2. ``check`` False leaves the kernel and proofs out, which the result records;
    ``trust_solver`` takes a solver's word for a leaf without a proof, and so does ``engine`` "smt" where none can be made;
    ``most_nodes`` ends the search early, and with it the question; ``threads`` is for one search (batches have one each), ``jobs`` says
    how many processes take part in one that is hard, ``cluster`` names the scheduler of a Dask cluster whose workers do.
    """

    engine: Engine = "auto"
    solver: Solver = "z3"
    timeout: float | None = None
    memory_mb: int = 4096
    seed: int = 0
    stages: frozenset[str] | None = None
    dump: Path | None = None
    runtimes: bool = True
    check: bool = True
    trust_solver: bool = False
    most_nodes: int | None = None
    threads: int = 1
    jobs: int = 1
    cluster: str | None = None


@dataclass(slots=True)
class State:
    """What is known of a question so far."""

    query: Query
    options: Options
    progress: Progress
    deadline: float | None
    open: list[int]
    memory: Memory
    bounds: Bounds | None = None
    tightenings: list[Tightening] = field(default_factory=list)
    trees: dict[int, Forest] = field(default_factory=dict)
    searching: Search | None = None
    reports: list[StageReport] = field(default_factory=list)
    reason: str = ""
    detail: str = ""
    ran_out: str = "stages"
    left: Outcome | None = None
    """What the search has not closed."""
    stage: str = "none"
    """The stage at work."""

    def close_by_interval(self, bounds: Bounds) -> None:
        """Take what intervals exclude off the list of what is open."""
        left = exclude.by_interval(self.query, bounds, self.open)
        self.trees |= {i: proof.interval_leaf() for i in self.open if i not in left}
        self.open = left

    def remaining(self) -> float | None:
        """Seconds left, or None without a limit."""
        return None if self.deadline is None else self.deadline - time.monotonic()
