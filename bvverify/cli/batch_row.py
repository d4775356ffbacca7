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

from bvverify import verify
from bvverify.cli.question import check_label, check_radius, read_input
from bvverify.cli.report import checked_object, open_object, save_certificates
from bvverify.errors import BvverifyError, InputError, UsageError
from bvverify.load import property_file as properties
from bvverify.load.instances import Instance
from bvverify.load.load import load
from bvverify.load.profile import accumulator_of, with_accumulator
from bvverify.model.network import Network
from bvverify.model.query import Query
from bvverify.model.result import Verdict
from bvverify.run import interpreter

Answer = dict[str, Any]
INTERNAL = "internal error"
"""How the reason of a row begins on which bvverify itself failed."""


@dataclass(frozen=True, slots=True)
class Task:
    """One row with the batch's options, which hold where the row has none of its own."""

    instance: Instance
    options: verify.Options
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
    return {name: instance.raw.get(name) for name in ("model", "input", "label", "radius")} | (
        {"property": instance.raw["property"]} if "property" in instance.raw else {}
    )


def lost(task: Task) -> Answer:
    """The answer to a row whose process died twice."""
    return _answer(task, "error", reason="its process died twice: killed, or out of memory; try it alone, or with a lower --memory")


def decide(task: Task) -> Answer:
    """The answer to a row; whatever goes wrong with it is an answer, too."""
    started = time.monotonic()
    try:
        answer = _decide(task)
    except BvverifyError as error:
        kind = "" if error.exit_code in (1, 2) else f"{INTERNAL}: "
        answer = _answer(task, "error", reason=kind + " ".join(str(error).split()))
    # The outermost handler of this process: a bug that one row meets must not cost the others their answers.
    except Exception as error:
        answer = _answer(task, "error", reason=f"{INTERNAL}: {type(error).__name__}: {error}")
    return answer | {"seconds": round(time.monotonic() - started, 6)}


@lru_cache(maxsize=8)
def _network(path: Path, semantics: str | None, changed: int, *, allow_pickle: bool) -> Network:
    """The network of a file; ``changed`` is its time of last change."""
    return load(path, semantics, allow_pickle=allow_pickle)


def _changed(path: Path) -> int:
    """When the file last changed, in nanoseconds; 0 for a file that is not there, of which the reader has more to say."""
    return path.stat().st_mtime_ns if path.exists() else 0


def _decide(task: Task) -> Answer:
    row = task.instance
    if row.error is not None:
        raise InputError(row.error)
    options = task.options if row.timeout is None else replace(task.options, timeout=row.timeout)
    semantics = with_accumulator(row.semantics, accumulator_of(task.semantics)) if row.semantics else task.semantics
    network = _network(row.model, semantics, _changed(row.model), allow_pickle=task.allow_pickle)
    if row.property is not None:
        queries = tuple(Query(network, box, prop) for box, prop in properties.read(row.property, network))
    else:
        x = read_input(network, row.input)[1]
        check_radius(network, row.radius)
        check_label(network, row.label)
        predicted = int(interpreter.run(network, x[None])[0].argmax())
        if row.label is not None and predicted != row.label:
            reason = f"the clean input's class is {predicted}"
            return _answer(task, "misclassified", reason=reason, stage="clean input", semantics=network.semantics)
        queries = (verify.robustness_query(network, x, row.radius, row.label),)
    result = verify.decide_all(queries, options)
    witness = None if result.witness is None else [int(v) for v in result.witness.input.ravel()]
    answer = _answer(task, str(result.verdict), reason=result.reason, stage=result.stage, witness=witness, semantics=result.semantics)
    answer |= {"nodes": result.nodes, "stages": {s.stage: round(s.seconds, 6) for s in result.stages}}
    if result.verdict is Verdict.UNKNOWN:
        answer |= {"open": open_object(result)}
    if result.verdict is Verdict.VERIFIED:
        answer |= {"certificate": None, "checked": checked_object(result)}
        try:
            files = [] if task.certificate is None else save_certificates(task.certificate, result.certificates)
            answer["certificate"] = [str(f) for f in files] or None
        except UsageError as error:
            # A disk that is full does not cost the verdict.
            answer["not_saved"] = str(error)
    return answer


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
