"""What an ILP reading claims about a question; none of it is a verdict.

A counterexample has still to replay in the interpreter, and "infeasible" is the solver's word for its own program.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from bvverify.ilp import differ, highs
from bvverify.ilp.differ import Difference
from bvverify.ilp.program import build
from bvverify.ilp.reading import Reading
from bvverify.model.query import Query
from bvverify.model.types import Int64Array
from bvverify.run import replay


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """``x`` is an input that the ILP names and that violates the property when it is run; ``text`` says what is claimed otherwise.

    ``robust``: the ILP claims that no input violates the property. ``difference``: of an input that does not replay, why.
    """

    x: Int64Array | None
    robust: bool
    difference: Difference | None
    text: str


def ask(
    query: Query,
    reading: Reading,
    *,
    timeout: float | None = None,
    memory_mb: int = 4096,
    seed: int = 0,
    threads: int = 1,
    presolve: bool = True,
) -> Claim:
    """Build the program, solve it, and hold its answer against the interpreter. For ``presolve`` see ``bvverify.ilp.highs``."""
    started = time.monotonic()
    program = build(query, reading)
    model, who = program.model, f"ilp:{reading}"
    left = None if timeout is None else max(timeout - (time.monotonic() - started), 1e-3)
    solution = highs.solve(model, timeout=left, memory_mb=memory_mb, seed=seed, threads=threads, presolve=presolve)
    size = f"{len(model.rows)} rows and {len(model.columns)} columns"
    match solution.status:
        case "infeasible":
            return Claim(
                None, True, None, f"{who} claims that there is no violation ({solution.version}: {size} are infeasible); a claim, no proof"
            )
        case "stopped":
            return Claim(None, False, None, f"{who} has no answer: {solution.version} on {size}: {solution.reason}")
        case "feasible":
            shape = query.box.lo.shape
            x = np.array([round(solution.values[v.column]) for v in program.tensors[0].ravel()], np.int64).reshape(shape)
            if replay.violates(query, x[None])[0]:
                return Claim(x, False, None, f"{who} has a counterexample that replays")
            difference = differ.invented(program, solution.values)
            return Claim(None, False, difference, f"{who} claims a counterexample that does not replay: {difference}")
