"""One row of a batch in a worker process: files to query to answer, with what rows share held in the process.

Rows mostly share their model and their image file, and decoding either costs more than an easy property: both are kept, by path and
time of last change.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bvverify import pipeline
from bvverify.cli import batch_radius
from bvverify.cli.question import Near, check_class, check_label, check_radius, read_input
from bvverify.cli.report import certificate_fields, checked_object, open_object
from bvverify.errors import BvverifyError, InputError
from bvverify.load import property_file as properties
from bvverify.load.arrays import Given
from bvverify.load.instances import Instance
from bvverify.load.load import load
from bvverify.load.profile import accumulator_of, with_accumulator
from bvverify.model.network import Network
from bvverify.model.query import Query
from bvverify.model.result import Result, Verdict
from bvverify.radii import Around
from bvverify.run import interpreter

Answer = dict[str, Any]
INTERNAL = "internal error"
"""How the reason of a row begins on which bvverify itself failed."""


@dataclass(frozen=True, slots=True)
class Task:
    """One row with the batch's options, which hold where the row has none of its own."""

    instance: Instance
    options: pipeline.Options
    semantics: str | None
    certificate: Path | None = None
    """Where a certificate goes, without its suffix."""
    allow_pickle: bool = False
    """Whether PyTorch files may be opened: said with the row, since a worker is a process that no command line reached."""


def prepare_worker() -> None:
    """Make this process a quiet worker: one thread, no word on Ctrl-C, and an end when the process that asked has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    """Without this, a worker whose parent was killed outright would wait for rows for ever."""
    parent.join()
    os._exit(1)


def echo(instance: Instance) -> dict[str, str | None]:
    """What identifies the row, exactly as the CSV gives it."""
    given = {name: instance.raw.get(name) for name in ("model", "input", "label", "radius")}
    return given | {name: instance.raw[name] for name in ("clip", "property", "target") if name in instance.raw}


def lost(task: Task) -> Answer:
    """The answer to a row whose process died twice."""
    return _answer(task, "error", reason="its process died twice: killed, or out of memory; try it alone, or with a lower --memory")


def decide(task: Task) -> Answer:
    """The answer to a row; whatever goes wrong with it is an answer, too."""
    started = time.monotonic()
    try:
        line = _decide(task)
        notes = _notes(task)
        line |= {"notes": notes} if notes else {}
    # The outermost handler of this process: a bug that one row meets must not cost the others their answers.
    except Exception as error:
        line = failed(task, error)
    return line | {"seconds": round(time.monotonic() - started, 6)}


def _notes(task: Task) -> list[str]:
    """What a person should know of the row's input before believing the answer."""
    if task.instance.property is not None:
        return []
    network = _network_of(task)
    return read_input(network, task.instance.input).batch.notes(network)


def failed(task: Task, error: Exception) -> Answer:
    """The answer to a row that ``error`` ended; one that is bvverify's own fault begins with ``INTERNAL``."""
    expected = isinstance(error, BvverifyError) and error.exit_code in (1, 2)
    text = " ".join(str(error).split())
    name = "" if isinstance(error, BvverifyError) else f"{type(error).__name__}: "
    return _answer(task, "error", reason=text if expected else f"{INTERNAL}: {name}{text}")


@lru_cache(maxsize=8)
def _network(path: Path, semantics: str | None, changed: int, *, allow_pickle: bool) -> Network:
    """The network of a file; ``changed`` is its time of last change."""
    return load(path, semantics, allow_pickle=allow_pickle)


def _changed(path: Path) -> int:
    """When the file last changed, in nanoseconds; 0 for a file that is not there, of which the reader has more to say."""
    return path.stat().st_mtime_ns if path.exists() else 0


def ask(task: Task) -> tuple[Query, ...]:
    """The queries of a row, of which one violation suffices; the clean input of a robustness question is its ``nominal``."""
    row, network = task.instance, _network_of(task)
    if row.property is not None:
        return tuple(Query(network, box, prop) for box, prop in properties.read(row.property, network))
    given, around = _around(row, network)
    return (replace(around.query(0), box=Near(row.input, row.radius, clip=row.clip).box(network, given)),)


def _network_of(task: Task) -> Network:
    row = task.instance
    if row.error is not None:
        raise InputError(row.error)
    semantics = with_accumulator(row.semantics, accumulator_of(task.semantics)) if row.semantics else task.semantics
    return _network(row.model, semantics, _changed(row.model), allow_pickle=task.allow_pickle)


def _around(row: Instance, network: Network) -> tuple[Given, Around]:
    given = read_input(network, row.input)
    check_radius(network, row.radius)
    check_label(network, row.label)
    check_class(network, "target", row.target)
    return given, Around.of(network, given.x, row.label if row.target is None else None, row.target)


def options(task: Task) -> pipeline.Options:
    """The batch's options with the row's own limit of time, if it has one."""
    return task.options if task.instance.timeout is None else replace(task.options, timeout=task.instance.timeout)


def predicted(query: Query, label: int | None) -> int | None:
    """The class of the clean input where it is another than ``label``, which the row gives; None where they agree."""
    if query.nominal is None or label is None:
        return None
    found = int(interpreter.run(query.network, query.nominal[None])[0].argmax())
    return None if found == label else found


def _decide(task: Task) -> Answer:
    row = task.instance
    queries = ask(task)
    other = predicted(queries[0], row.label) if queries else None
    if other is not None:
        reason = f"the clean input's class is {other}"
        return _answer(task, "misclassified", reason=reason, stage="clean input", semantics=queries[0].network.semantics)
    if row.property is None and row.largest:
        if row.clip is not None:
            raise InputError("clip and the largest radius: radii are asked about whole boxes only")
        _, around = _around(row, queries[0].network)
        return echo(row) | batch_radius.decide(around, row.maximum, options(task), task.certificate)
    return answer(task, pipeline.decide_all(queries, options(task)))


def answer(task: Task, result: Result) -> Answer:
    """The line for a result; saves its certificates where the task says so."""
    witness = None if result.witness is None else [int(v) for v in result.witness.input.ravel()]
    line = _answer(task, str(result.verdict), reason=result.reason, stage=result.stage, witness=witness, semantics=result.semantics)
    line |= {"nodes": result.nodes, "stages": {s.stage: round(s.seconds, 6) for s in result.stages}}
    if result.verdict is Verdict.UNKNOWN:
        line |= {"open": open_object(result)}
    if result.verdict is Verdict.VERIFIED:
        line |= certificate_fields(task.certificate, result.certificates) | {"checked": checked_object(result)}
    return line


def _answer(
    task: Task, verdict: str, *, reason: str, stage: str | None = None, witness: list[int] | None = None, semantics: str | None = None
) -> Answer:
    return {
        **echo(task.instance),
        "verdict": verdict,
        "reason": reason,
        "stage": stage,
        "seconds": 0.0,
        "witness": witness,
        "semantics": semantics,
    }
