"""Questions to Z3, to Bitwuzla, or to both, each in a child process with a time and a memory limit; encoding counts as well."""

from __future__ import annotations

import json
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Literal

import numpy as np

from bvverify.bounds.interval import Bounds
from bvverify.errors import InternalError, UsageError
from bvverify.model.query import Query
from bvverify.model.types import Int64Array
from bvverify.process import Child, Ended, ran_out

Solver = Literal["z3", "bitwuzla", "both"]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What a child is asked: ``dump`` is a file for the SMT-LIB 2 text of the question."""

    solver: str
    query: Query
    bounds: Bounds
    seed: int
    dump: str | None
    part: bool


@dataclass(frozen=True, slots=True, eq=False)
class SolverAnswer:
    """``x`` is the satisfying input (the input tensor's shape) of ``sat``; ``reason`` says why it is ``unknown``.

    ``solver`` says who gave the answer, with versions.
    """

    status: Literal["sat", "unsat", "unknown"]
    x: Int64Array | None
    reason: str
    seconds: float
    solver: str


def solve(
    query: Query,
    bounds: Bounds,
    *,
    solver: Solver = "z3",
    timeout: float | None = None,
    memory_mb: int = 4096,
    seed: int = 0,
    dump: Path | None = None,
    part: bool = False,
) -> SolverAnswer:
    """Ask whether an input of the box violates the property. ``bounds`` are sound for the box and give the widths.

    With ``part`` they describe a part of the box, and the question is about that (``bvverify.encode.network``). ``both`` asks Z3 and
    Bitwuzla at the same time, ``memory_mb`` each: when one has answered, the other has as long again to agree with it, and a second.

    ``InternalError`` when a child breaks its protocol or the two contradict each other (both queries are saved, and named); running out of
    time or memory is an ``unknown`` that says so. ``UsageError`` when the solver is not installed.
    """
    require(solver)
    names = ("z3", "bitwuzla") if solver == "both" else (solver,)
    jobs = [Job(name, query, bounds, seed, None if dump is None else str(dump), part) for name in names]
    children = [Child("bvverify.solve.child", job, memory_mb) for job in jobs]
    if len(children) == 1:
        return read(query, names[0], children[0].wait(timeout), timeout, memory_mb)
    started = time.monotonic()
    with ThreadPoolExecutor(len(children)) as pool:
        answers: dict[Future[SolverAnswer], Child] = {
            pool.submit(lambda n, c: read(query, n, c.wait(timeout), timeout, memory_mb), name, child): child
            for name, child in zip(names, children, strict=True)
        }
        try:
            first, rest = wait(answers, return_when=FIRST_COMPLETED)
            if any(future.result().status != "unknown" for future in first):
                wait(rest, timeout=time.monotonic() - started + 1)
        finally:
            for child in answers.values():
                child.stop()
    return agreed(query, bounds, [future.result() for future in answers], part=part)


def require(solver: Solver) -> None:
    """``UsageError`` unless the solver is installed."""
    if solver != "z3" and util.find_spec("bitwuzla") is None:
        raise UsageError(f"--solver {solver}: Bitwuzla is not installed; pip install 'bvverify[bitwuzla]'")


def agreed(query: Query, bounds: Bounds, answers: list[SolverAnswer], *, part: bool) -> SolverAnswer:
    """One answer of several: what all that know say; ``InternalError`` where two contradict each other."""
    known = [a for a in answers if a.status != "unknown"]
    seconds = max(a.seconds for a in answers)
    if not known:
        return SolverAnswer("unknown", None, "; ".join(dict.fromkeys(a.reason for a in answers)), seconds, "")
    if len({a.status for a in known}) > 1:
        files = " and ".join(str(path) for path in _save(query, bounds, known, part=part))
        raise InternalError(f"{' but '.join(f'{a.solver} says {a.status}' for a in known)}: their queries are {files}; please report this")
    return SolverAnswer(known[0].status, known[0].x, "", seconds, " and ".join(a.solver for a in known))


def _save(query: Query, bounds: Bounds, answers: list[SolverAnswer], *, part: bool) -> list[Path]:
    from bvverify.encode.network import encode
    from bvverify.encode.smt2 import script

    folder = Path(tempfile.mkdtemp(prefix="bvverify-disagreement-"))
    files = []
    for answer in answers:
        files.append(folder / f"{answer.solver.split()[0]}.smt2")
        files[-1].write_text(f"; {answer.solver} says {answer.status}\n" + script(query, encode(query, bounds, part=part)))
    return files


def read(query: Query, name: str, ended: Ended, timeout: float | None, memory_mb: int) -> SolverAnswer:
    """What a child said; ``InternalError`` for what nobody understands."""
    match ended.how:
        case "time" | "memory":
            return SolverAnswer("unknown", None, ran_out(ended.how, timeout, memory_mb), ended.seconds, name)
        case "stopped":
            return SolverAnswer("unknown", None, f"{name} was slower", ended.seconds, name)
        case "done":
            pass
    try:
        answer = json.loads(ended.out)
        status, who = answer["status"], f"{name} {answer['version']}"
        if status == "sat":
            x = query.box.lo.reshape(-1).copy()
            for index, value in answer["model"].items():
                x[int(index)] = value
            return SolverAnswer("sat", np.asarray(x.reshape(query.box.lo.shape), np.int64), "", ended.seconds, who)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InternalError(f"the solver's process answered what nobody understands: {error}") from error
    if status == "unsat":
        return SolverAnswer("unsat", None, "", ended.seconds, who)
    reason = str(answer.get("reason"))
    if "memory" in reason:
        reason = ran_out("memory", timeout, memory_mb)
    return SolverAnswer("unknown", None, reason, ended.seconds, who)
