"""A child process that can be killed at any moment: a time limit that is always kept, a memory limit that takes nothing else down.

A solver's own time-out is a wish: tactics that never look at the clock (bit-blasting a large multiplier) run past it by minutes. So what
may take long runs in a process of its own, as a module that reads a pickled job from stdin.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Literal

from bvverify.errors import InternalError, UsageError

_REFUSED = 3
"""The exit code of a child that a file of the user's keeps from its work."""
_PR_SET_PDEATHSIG = 1
"""Of Linux's prctl(2): the signal that a process gets when the thread that started it ends."""
_PARENT, _MEMORY = "BVVERIFY_PARENT", "BVVERIFY_MEMORY_MB"


How = Literal["done", "time", "memory", "stopped"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended; ``out`` is what it wrote when it is ``done``."""

    how: How
    out: bytes
    seconds: float


def ran_out(limit: How, timeout: float | None, memory_mb: int) -> str:
    """Why a child that its time or memory ended has no answer."""
    return f"the memory limit of {memory_mb} MB ran out" if limit == "memory" else f"the time limit of {timeout or 0:.3g} s ran out"


class Child:
    """A running child: ``python -m module`` with a job on its stdin."""

    def __init__(self, module: str, job: Any, memory_mb: int) -> None:
        self.started, self.module, self.job, self.stopped = time.monotonic(), module, pickle.dumps(job), False
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | one_thread | watched_by() | {_MEMORY: str(memory_mb)},
            start_new_session=True,
        )

    def wait(self, timeout: float | None) -> Ended:
        """Its end, by itself or after ``timeout`` seconds by force. ``InternalError`` when it failed for another reason than its limits.

        ``UsageError`` with the child's own words where it calls ``refuse``.
        """
        try:
            out, err = self.process.communicate(self.job, timeout=timeout)
        except subprocess.TimeoutExpired:
            return self._ended("stopped" if self.stopped else "time")
        finally:
            if self.process.poll() is None:
                kill_group(self.process)
                self.process.communicate()
            # A child that was ended before it had read its job leaves the rest of it in the pipe.
            assert self.process.stdin is not None
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        if self.stopped:
            return self._ended("stopped")
        if self.process.returncode == 0:
            return self._ended("done", out)
        text = err.decode(errors="replace")
        if self.process.returncode < 0 or any(word in text for word in _MEMORY_WORDS):
            return self._ended("memory")
        if self.process.returncode == _REFUSED:
            raise UsageError(text.strip())
        raise InternalError(f"a process of {self.module} failed: {(text.strip().splitlines() or ['no message'])[-1]}")

    def stop(self) -> None:
        """End it from another thread than the one that waits."""
        self.stopped = True
        kill_group(self.process)

    def _ended(self, how: How, out: bytes = b"") -> Ended:
        return Ended(how, out, time.monotonic() - self.started)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads its own session, and what it has started.

    It may have ended a moment ago: while another thread collects its exit, ``poll`` still says that it runs.
    """
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


_MEMORY_WORDS = ("MemoryError", "out of memory", "bad_alloc", "failed to map", "Cannot allocate")


def watched_by() -> dict[str, str]:
    """What the environment of a child has to say for ``end_with_parent``."""
    return {_PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """Called first in a child: it ends with the thread that started it, which waits for it, and, killed, could not end it.

    A library that keeps Python's lock while it computes (Bitwuzla's and HDF5's do) would starve a thread that looks for the parent, so
    the kernel is asked where it can be: Linux. There a parent counts as gone when the thread that started the child is.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    watch_parent()


def watch_parent() -> None:
    """For a child that outlives the thread that started it: it ends when the process of that thread has gone."""
    threading.Thread(target=_end_with, args=(int(os.environ[_PARENT]),), daemon=True).start()


def refuse(why: str) -> None:
    """For a child: end, since a file that the user named cannot be written or read."""
    sys.stderr.write(why)
    sys.exit(_REFUSED)


def limit_memory() -> None:
    """Take no more memory than the parent allows; called when libraries are loaded, which fail in other words than a solver."""
    try:
        import resource
    except ImportError:  # no such limit on this system; the time limit still holds
        return
    limits = [int(os.environ[_MEMORY]) << 20, *resource.getrlimit(resource.RLIMIT_AS)]
    # A lower limit than ours, of whoever started bvverify, stays.
    limit = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
