"""A solver in a child process: a time limit that is always kept, a memory limit that takes nothing else down.

A solver's own time-out is a wish, and a solver in process answers no Ctrl-C. The child is a module of ours that takes one question by
``receive`` and writes one JSON object to stdout; whatever else it prints would break that.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from bvverify.errors import InternalError, UsageError

_REFUSED = 3
"""The exit code of a child that a file of the user's keeps from its work."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the child wrote, or the ``reason`` why it wrote nothing."""

    output: bytes | None
    reason: str
    seconds: float


def run(module: str, job: Any, *, timeout: float | None, memory_mb: int) -> Outcome:
    """Run ``python -m module`` on a pickled job. ``InternalError`` when it fails for anything but time and memory.

    ``UsageError`` with the child's own words where it calls ``refuse``.
    """
    started = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
    ) as child:
        try:
            out, err = child.communicate(pickle.dumps((os.getpid(), memory_mb, job)), timeout=timeout)
        except subprocess.TimeoutExpired:
            return Outcome(None, f"the time limit of {timeout:.3g} s ran out", time.monotonic() - started)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
    seconds = time.monotonic() - started
    if child.returncode == 0:
        return Outcome(out, "", seconds)
    text = err.decode(errors="replace")
    if child.returncode < 0 or any(
        word in text for word in ("MemoryError", "out of memory", "bad_alloc", "failed to map", "Cannot allocate")
    ):
        return Outcome(None, out_of_memory(memory_mb), seconds)
    if child.returncode == _REFUSED:
        raise UsageError(text.strip())
    raise InternalError(f"the solver's process failed: {(text.strip().splitlines() or ['no message'])[-1]}")


def out_of_memory(memory_mb: int) -> str:
    """The reason of an answer that never came."""
    return f"the memory limit of {memory_mb} MB ran out"


def receive() -> Any:
    """For the child: the job. From here on it has its memory limit, and ends with the process that asked."""
    parent, memory_mb, job = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _limit(memory_mb)
    return job


def refuse(why: str) -> None:
    """For the child: end, since a file that the user named cannot be written."""
    sys.stderr.write(why)
    sys.exit(_REFUSED)


def _end_with(parent: int) -> None:
    """End this process when the one that asked is no more: killed, it cannot kill its children, and a solver can go on for days."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _limit(memory_mb: int) -> None:
    try:
        import resource
    except ImportError:  # no such limit on this system; the time limit still holds
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
