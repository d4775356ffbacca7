"""A program under HiGHS, in a process of its own: the one room that imports highspy.

HiGHS computes in float64: a row holds up to 1e-6, a variable is an integer up to 1e-6. Both are its defaults and those of other
solvers, and both are left alone here, for what they let through is what a cross-check is about. Its presolve replaces a big constant by one
from the ranges of the columns, and so mends much of what a big M lets through; without presolve the program is solved as it is written.
"""

from __future__ import annotations

import json
import pickle
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from bvverify.errors import InternalError, UsageError
from bvverify.ilp.model import Model
from bvverify.model.types import AnyArray
from bvverify.process import Child, end_with_parent, limit_memory, ran_out

TOLERANCE = 1e-6
"""HiGHS's ``mip_feasibility_tolerance`` and ``primal_feasibility_tolerance``."""


@dataclass(frozen=True, slots=True)
class Solution:
    """``feasible`` with the columns' values as the solver gives them, ``infeasible``, or ``stopped`` for ``reason``."""

    status: Literal["feasible", "infeasible", "stopped"]
    values: tuple[float, ...]
    reason: str
    version: str


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """A program as arrays: bounds of the columns, which of them are integers, and the rows, sparse and row by row."""

    lo: AnyArray
    hi: AnyArray
    integer: AnyArray
    row_lo: AnyArray
    row_hi: AnyArray
    start: AnyArray
    index: AnyArray
    value: AnyArray
    seed: int
    threads: int
    presolve: bool


def solve(
    model: Model, *, timeout: float | None = None, memory_mb: int = 4096, seed: int = 0, threads: int = 1, presolve: bool = True
) -> Solution:
    """Ask HiGHS; ``timeout`` in seconds. ``UsageError`` where highspy is not installed."""
    if find_spec("highspy") is None:
        raise UsageError("an ILP reading is solved by HiGHS, which is not installed: pip install 'bvverify[ilp]'")
    ended = Child("bvverify.ilp.highs", _job(model, seed, threads, presolve), memory_mb).wait(timeout)
    if ended.how != "done":
        return Solution("stopped", (), ran_out(ended.how, timeout, memory_mb), "HiGHS")
    try:
        return _solution(json.loads(ended.out))
    except (ValueError, KeyError, TypeError) as error:
        raise InternalError(f"the solver's process answered what nobody understands: {error}") from error


def _job(model: Model, seed: int, threads: int, presolve: bool) -> _Job:
    bounds = np.array([row.bound for row in model.rows], np.float64)
    return _Job(
        np.array([c.lo for c in model.columns], np.float64),
        np.array([c.hi for c in model.columns], np.float64),
        np.array([c.integer for c in model.columns]),
        np.where([row.sense == "<=" for row in model.rows], -np.inf, bounds),
        np.where([row.sense == ">=" for row in model.rows], np.inf, bounds),
        np.cumsum([0, *(len(row.terms) for row in model.rows)], dtype=np.int32),
        np.array([column for row in model.rows for column, _ in row.terms], np.int32),
        np.array([c for row in model.rows for _, c in row.terms], np.float64),
        seed % (1 << 31),
        threads,
        presolve,
    )


def main() -> None:
    """The child: solve, answer."""
    end_with_parent()
    job: _Job = pickle.load(sys.stdin.buffer)
    import highspy  # noqa: F401  (libraries are loaded before memory is limited)

    limit_memory()
    sys.stdout.write(json.dumps(_answer(job)))


def solve_here(model: Model, *, seed: int = 0, presolve: bool = True) -> Solution:
    """As ``solve``, in this process and without limits: for small programs, and for tests, which solve hundreds."""
    return _solution(_answer(_job(model, seed, 1, presolve)))


def _solution(answer: dict[str, Any]) -> Solution:
    return Solution(answer["status"], tuple(answer["values"]), answer["reason"], f"HiGHS {answer['version']}")


def _answer(job: _Job) -> dict[str, Any]:
    import highspy

    # The base class: the constructor of highspy.Highs prints to stdout before anyone can tell it not to.
    solver: Any = highspy.Highs.__mro__[1]()
    options = {
        "output_flag": False,
        "threads": job.threads,
        "random_seed": job.seed,
        "presolve": "on" if job.presolve else "off",
        "mip_feasibility_tolerance": TOLERANCE,
        "primal_feasibility_tolerance": TOLERANCE,
        "small_matrix_value": 1e-12,  # its default would drop multipliers below 1e-9
    }
    # The threads of a process are HiGHS's own, made once: with others than were asked for then, it refuses to run.
    solver.resetGlobalScheduler(True)
    for name, value in options.items():
        solver.setOptionValue(name, value)
    answer: dict[str, Any] = {"status": "stopped", "values": [], "reason": "", "version": solver.version()}
    if solver.passModel(_as_highs(highspy, job)) == highspy.HighsStatus.kError:
        return answer | {"reason": "HiGHS does not take the program"}
    solver.run()
    status, solution = solver.getModelStatus(), solver.getSolution()
    if status == highspy.HighsModelStatus.kInfeasible:
        return answer | {"status": "infeasible"}
    if status == highspy.HighsModelStatus.kOptimal and solution.value_valid:
        return answer | {"status": "feasible", "values": list(solution.col_value)}
    return answer | {"reason": solver.modelStatusToString(status).lower()}


def _as_highs(highspy: Any, job: _Job) -> Any:
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(job.lo), len(job.row_lo)
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = np.zeros(len(job.lo)), job.lo, job.hi
    kinds = highspy.HighsVarType
    lp.integrality_ = [kinds.kInteger if integer else kinds.kContinuous for integer in job.integer]
    lp.row_lower_, lp.row_upper_ = job.row_lo, job.row_hi
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = job.start, job.index, job.value
    return lp


if __name__ == "__main__":
    main()
