"""Pools of processes of one thread each, which end with whoever asked."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def pool(jobs: int, preloaded: Sequence[str]) -> Executor:
    """``jobs`` processes, in which the modules ``preloaded`` are imported once for all of them where the system can fork.

    Forking from a server that has no threads is safe, forking this process is not.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _prepare)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preloaded))
    return ProcessPoolExecutor(jobs, context, _prepare)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """While pools are started and used: one thread a process; ended at once on an interrupt, and when nobody takes their answers."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        end_all()
        raise
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def end_all() -> None:
    """End the processes of all pools, whatever they are at."""
    for process in multiprocessing.active_children():
        process.terminate()


def _prepare() -> None:
    """Make this process a quiet worker: one thread, no word on Ctrl-C, and an end when the process that asked has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    """Without this, a worker whose parent was killed outright would wait for work for ever."""
    parent.join()
    os._exit(1)
