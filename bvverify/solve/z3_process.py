"""Z3 in a child process: a time limit that is always kept, a memory limit that takes nothing else down.

Z3's own time-out is a wish: tactics that never look at the clock (bit-blasting a large multiplier) run past it by minutes. So the question
is encoded and solved in a process of its own, which is killed when the time is up; encoding counts as well.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bvverify.bounds.interval import Bounds
from bvverify.errors import InternalError
from bvverify.model.query import Query
from bvverify.model.types import Int64Array


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
    started = time.monotonic()
    job = pickle.dumps((os.getpid(), query, bounds, seed, memory_mb, None if dump is None else str(dump), part))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-m", "bvverify.solve.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        out, err = child.communicate(job, timeout=timeout)
    except subprocess.TimeoutExpired:
        return SolverAnswer("unknown", None, f"the time limit of {timeout:.3g} s ran out", time.monotonic() - started, "")
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
    return _read(query, child.returncode, out, err, memory_mb, time.monotonic() - started)


def _read(query: Query, code: int, out: bytes, err: bytes, memory_mb: int, seconds: float) -> SolverAnswer:
    text = err.decode(errors="replace")
    if code != 0:
        if code < 0 or any(word in text for word in ("MemoryError", "out of memory", "bad_alloc", "failed to map", "Cannot allocate")):
            return SolverAnswer("unknown", None, f"the memory limit of {memory_mb} MB ran out", seconds, "")
        raise InternalError(f"the solver's process failed: {(text.strip().splitlines() or ['no message'])[-1]}")
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
        reason = f"the memory limit of {memory_mb} MB ran out"
    return SolverAnswer("unknown", None, reason, seconds, version)
