"""One row of a batch on a machine of a cluster: its files laid out, decided in a process that can be killed, its certificates sent back.

A Dask worker calls ``run``. It hands the row to a process of its own, which is kept for the next one: a row that crashes, hangs past its
limit or takes too much memory costs that process, never the worker, and is tried once more. Whoever asked may be on a machine that shares
no files with this one, so files come as bytes, which lie in a folder by their SHA-256 until the machine cleans up.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from bvverify.cli import batch_row
from bvverify.cli.batch_row import Answer, Task
from bvverify.process import kill_group, watch_parent, watched_by

SLACK = 60.0
"""Seconds beyond a row's own limit until its process is killed: for loading, and for the kernel's check."""
_LOOK = 0.5
_SIZE = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Made:
    """An answer, and the certificates that it speaks of: by the end of their names, behind the row's."""

    answer: Answer
    certificates: dict[str, bytes]
    tries: int


def run(task: Task, names: Mapping[Path, str], contents: Mapping[str, bytes]) -> Made | None:
    """Decide a row. ``names`` gives the digest of each of its files, ``contents`` the bytes by digest. None: nobody wants it any more."""
    wanted = _wanted()
    folder = Path(tempfile.gettempdir()) / f"bvverify-{os.getuid()}"
    places = {path: _laid_out(folder, path, digest, contents[digest]) for path, digest in names.items()}
    with tempfile.TemporaryDirectory(prefix="bvverify-row-") as out:
        given = replace(task, instance=_moved(task.instance, places), certificate=None if task.certificate is None else Path(out) / "row")
        limit = batch_row.options(task).timeout
        answer, tries = _twice(given, None if limit is None else limit + SLACK, wanted)
        if answer is None:
            return None
        files = {p.name.removeprefix("row"): p.read_bytes() for p in sorted(Path(out).iterdir())}
    # What a person reads names the files as the person knows them.
    for path, place in places.items():
        answer["reason"] = str(answer["reason"]).replace(str(place), str(path))
    return Made(answer | batch_row.echo(task.instance), files, tries)


def _wanted() -> Callable[[], bool]:
    """Whether the scheduler still wants the task at work in this thread: not where its client has gone."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    return lambda: getattr(worker.state.tasks.get(key), "state", "forgotten") not in ("cancelled", "released", "forgotten")


def _laid_out(folder: Path, path: Path, digest: str, content: bytes) -> Path:
    """The file on this machine. What lies there is believed only if it is what the digest says."""
    place = folder / digest / path.name
    if not place.exists() or hashlib.sha256(place.read_bytes()).hexdigest() != digest:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place.parent, delete=False) as file:
            file.write(content)
        Path(file.name).replace(place)
    return place


def files_of(task: Task) -> list[Path]:
    """The files that a row is read from."""
    row = task.instance
    if row.error is not None:
        return []
    return [row.model, row.property] if row.property is not None else [row.model, Path(_split(row.input)[0])]


def _moved(row: Any, places: Mapping[Path, Path]) -> Any:
    if row.error is not None:
        return row
    name, index = _split(row.input)
    source = f"{places.get(Path(name), name)}{index}"
    prop = None if row.property is None else places.get(row.property, row.property)
    return replace(row, model=places.get(row.model, row.model), property=prop, input=source if row.property is None else row.input)


def _split(source: str) -> tuple[str, str]:
    name, separator, index = source.rpartition("::")
    return (name, separator + index) if separator else (source, "")


# -- the process that decides, seen from the worker ----------------------------------------------------------------------------------


class _Process:
    """``python -m bvverify.cli.cluster_row``, for one row after another."""

    def __init__(self) -> None:
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | one_thread | watched_by(),
            start_new_session=True,
        )
        self.answer: Answer | None = None

    def decide(self, task: Task, limit: float | None, wanted: Callable[[], bool]) -> Answer | None:
        """The answer, or None where the process died, ran past ``limit``, or is ended because nobody wants the row."""
        asking = threading.Thread(target=self._ask, args=(pickle.dumps(task),), daemon=True)
        asking.start()
        until = None if limit is None else time.monotonic() + limit
        self.answer = None
        while asking.is_alive():
            asking.join(_LOOK)
            if asking.is_alive() and ((until is not None and time.monotonic() > until) or not wanted()):
                self.kill()
        return self.answer

    def _ask(self, job: bytes) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            _send(self.process.stdin, job)
            self.answer = pickle.loads(_receive(self.process.stdout))
        except (OSError, EOFError):
            self.answer = None

    def kill(self) -> None:
        """End it and what it has started."""
        kill_group(self.process)
        self.process.wait()

    def end(self) -> None:
        """Kill it, and let go of its pipes, which nobody reads any more."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(OSError):  # a row that was on its way
                pipe.close()


_idle: list[_Process] = []
_lock = threading.Lock()


def _twice(task: Task, limit: float | None, wanted: Callable[[], bool]) -> tuple[Answer | None, int]:
    """The answer, a second time in a new process where the first one died, and how often it was tried; None where nobody wants it."""
    for tries in (1, 2):
        with _lock:
            process = _idle.pop() if _idle and tries == 1 else None
        process = process or _Process()
        answer = process.decide(task, limit, wanted)
        if answer is not None:
            with _lock:
                _idle.append(process)
            return answer, tries
        process.end()
        if not wanted():
            return None, tries
    return batch_row.lost(task), 2


# -- the process itself --------------------------------------------------------------------------------------------------------------


def _send(pipe: Any, message: bytes) -> None:
    pipe.write(_SIZE.pack(len(message)) + message)
    pipe.flush()


def _receive(pipe: Any) -> bytes:
    header = pipe.read(_SIZE.size)
    if len(header) < _SIZE.size:
        raise EOFError
    size = _SIZE.unpack(header)[0]
    message = pipe.read(size)
    if len(message) < size:
        raise EOFError
    return bytes(message)


def main() -> None:
    """Decide rows from stdin, one after another, until it is closed; answers go to stdout, which nothing else may write to."""
    watch_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source: BinaryIO = sys.stdin.buffer
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        while True:
            try:
                task: Task = pickle.loads(_receive(source))
            except EOFError:
                return
            _send(answers, pickle.dumps(batch_row.decide(task)))


if __name__ == "__main__":
    main()
