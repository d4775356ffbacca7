"""The exact ILP reading under OR-tools' CP-SAT, a task at a time, each in a process of its own: OR-tools and highspy cannot share one.

CP-SAT computes in integers, and every coefficient of the exact reading is one: no tolerance is left on either side.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bvverify.cli import batch_row
from bvverify.cli.batch_row import Task
from bvverify.ilp.program import build
from bvverify.ilp.reading import Reading
from bvverify.load.instances import read_instances
from bvverify.pipeline import Options
from bvverify.process import Child, end_with_parent, limit_memory
from bvverify.run import replay

START_UP = 10.0
"""Seconds that a process may take to load its libraries, beyond its task's limit."""
MEMORY_MB = 4096


def run(instances: Path, timeout: float, jobs: int) -> list[dict]:
    """An answer for each row, as ``bvverify batch`` gives them; ``jobs`` processes at a time, one thread each."""
    os.environ["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(_in_child, [Task(row, Options(timeout=timeout), None) for row in read_instances(instances)]))


def _in_child(task: Task) -> dict:
    ended = Child("_cpsat", task, MEMORY_MB).wait(batch_row.options(task).timeout + START_UP)
    if ended.how == "done":
        return pickle.loads(ended.out)
    return batch_row.echo(task.instance) | {"verdict": "unknown", "reason": f"CP-SAT: the {ended.how} limit", "seconds": ended.seconds}


def _answer(task: Task) -> tuple[str, str]:
    """The verdict and its reason; a claim of CP-SAT is worded as the claims of the other ILP readings are."""
    from ortools.sat.python import cp_model

    started = time.monotonic()
    (query,) = batch_row.ask(task)
    if batch_row.predicted(query, task.instance.label) is not None:
        return "misclassified", ""
    program = build(query, Reading.EXACT)
    model = cp_model.CpModel()
    columns = [model.new_int_var(c.lo, c.hi, c.name) for c in program.model.columns]
    for row in program.model.rows:
        total = cp_model.LinearExpr.weighted_sum([columns[k] for k, _ in row.terms], [c for _, c in row.terms])
        lo = cp_model.INT_MIN if row.sense == "<=" else row.bound
        hi = cp_model.INT_MAX if row.sense == ">=" else row.bound
        model.add_linear_constraint(total, lo, hi)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = max(batch_row.options(task).timeout - (time.monotonic() - started), 0.01)
    status = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        return "unknown", "CP-SAT claims that there is no violation"
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        x = np.array([solver.value(columns[v.column]) for v in program.tensors[0].ravel()], np.int64).reshape(query.box.lo.shape)
        replays = replay.violates(query, x[None])[0]
        return ("falsified", "") if replays else ("unknown", "CP-SAT claims a counterexample that does not replay")
    return "unknown", f"CP-SAT stopped: {solver.status_name(status).lower()}"


def main() -> None:
    """The child: one task from stdin, its answer to stdout."""
    end_with_parent()
    task: Task = pickle.load(sys.stdin.buffer)
    import ortools.sat.python.cp_model  # noqa: F401  (libraries are loaded before memory is limited)

    limit_memory()
    started = time.monotonic()
    verdict, reason = _answer(task)
    answer = batch_row.echo(task.instance) | {"verdict": verdict, "reason": reason, "seconds": time.monotonic() - started}
    sys.stdout.buffer.write(pickle.dumps(answer))


if __name__ == "__main__":
    main()
