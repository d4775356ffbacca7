"""Z3 in a child process (``bvverify.solve.process``).

Its own time-out is a wish: tactics that never look at the clock (bit-blasting a large multiplier) run past it by minutes. So the question
is encoded and solved in a process of its own, which is killed when the time is up; encoding counts as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bvverify.bounds.interval import Bounds
from bvverify.errors import InternalError
from bvverify.model.query import Query
from bvverify.model.types import Int64Array
from bvverify.solve import process


@dataclass(frozen=True, slots=True, eq=False)
class SolverAnswer:
    """``x`` is the satisfying input (the input tensor's shape) of ``sat``; ``reason`` says why it is ``unknown``."""

    status: Literal["sat", "unsat", "unknown"]
    x: Int64Array | None
    reason: str
    seconds: float
    version: str


def solve(
    query: Query,
    bounds: Bounds,
    *,
    timeout: float | None = None,
    memory_mb: int = 4096,
    seed: int = 0,
    dump: Path | None = None,
    part: bool = False,
) -> SolverAnswer:
    """Ask Z3 whether an input of the box violates the property. ``bounds`` are sound for the box and give the widths.

    With ``part`` they describe a part of the box, and the question is about that (``bvverify.encode.network``).

    ``InternalError`` when the child breaks its protocol; running out of time or memory is an ``unknown`` that says so.
    """
    job = (query, bounds, seed, None if dump is None else str(dump), part)
    outcome = process.run("bvverify.solve.child", job, timeout=timeout, memory_mb=memory_mb)
    if outcome.output is None:
        return SolverAnswer("unknown", None, outcome.reason, outcome.seconds, "")
    return _read(query, outcome.output, memory_mb, outcome.seconds)


def _read(query: Query, out: bytes, memory_mb: int, seconds: float) -> SolverAnswer:
    try:
        answer = json.loads(out)
        status, version = answer["status"], str(answer["version"])
        if status == "sat":
            x = query.box.lo.reshape(-1).copy()
            for index, value in answer["model"].items():
                x[int(index)] = value
            return SolverAnswer("sat", np.asarray(x.reshape(query.box.lo.shape), np.int64), "", seconds, version)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InternalError(f"the solver's process answered what nobody understands: {error}") from error
    if status == "unsat":
        return SolverAnswer("unsat", None, "", seconds, version)
    reason = str(answer["reason"])
    if "memory" in reason:
        reason = process.out_of_memory(memory_mb)
    return SolverAnswer("unknown", None, reason, seconds, version)
