"""Pools of processes of one thread each, which may die, and end with whoever asked.

``concurrent.futures.ProcessPoolExecutor`` can wait for ever where a process dies at the wrong moment (so the source of CPython 3.11 reads,
where processes are not forked from this one): a death before the managing thread knows of the process is looked for with the next result,
which may never come; a job that is submitted while that thread gives up is in nobody's hands; a process that is killed while it waits for
a job keeps the shared queue's lock. Here nothing is shared: each process has a pipe of its own, one job at a time, and a thread that waits
for its answer or its end.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, ParamSpec, TypeVar

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PATIENCE = 10.0
"""Seconds for a process that has nothing more to do to end by itself."""

P = ParamSpec("P")
T = TypeVar("T")


class Pool(Executor):
    """``jobs`` processes at most, started when they are needed. A death costs the job that the process had, and the next one has another.

    What the job raises is what its future raises; where its process has died, ``BrokenProcessPool``.
    """

    def __init__(self, jobs: int, context: Any) -> None:
        self._context, self._ended, self._lock = context, False, threading.Lock()
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Any] | None] = queue.SimpleQueue()
        self._processes: set[BaseProcess] = set()
        self._threads = [threading.Thread(target=self._keep, daemon=True) for _ in range(jobs)]
        self._closed = False
        for thread in self._threads:
            thread.start()
        _pools.add(self)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have ``fn(*args, **kwargs)`` called in one of the processes."""
        if self._closed:
            raise RuntimeError("a pool that has been shut down takes no more jobs")
        future: Future[T] = Future()
        self._waiting.put((future, (fn, args, kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs; those at work are finished, and those that wait unless they are to be cancelled."""
        if cancel_futures:
            with suppress(queue.Empty):
                while True:
                    if (job := self._waiting.get_nowait()) is not None:
                        job[0].cancel()
        self._closed = True
        for _ in self._threads:
            self._waiting.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def end(self) -> None:
        """End the processes, whatever they are at; nothing comes of their jobs."""
        with self._lock:
            self._ended = True
            for process in self._processes:
                process.kill()
        self.shutdown(cancel_futures=True)

    @property
    def pids(self) -> list[int]:
        """The processes at work, or waiting for it."""
        with self._lock:
            return sorted(process.pid for process in self._processes if process.pid is not None)

    # -- in a thread, for a process ------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Jobs, one after another, until there are none to come."""
        worker: tuple[BaseProcess, Connection] | None = None
        while (job := self._waiting.get()) is not None:
            future, call = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                question = pickle.dumps(call)
                if worker is not None and not worker[0].is_alive():
                    self._let_go(*worker)
                    worker = None
                worker = worker or self._start()
                good, answer = pickle.loads(_asked(worker[1], question))
            except (EOFError, OSError) as error:
                if worker is not None:
                    self._let_go(*worker)
                worker = None
                future.set_exception(BrokenProcessPool(f"a process died, or could not be started ({type(error).__name__}: {error})"))
            except Exception as error:  # a job or an answer that cannot be pickled
                future.set_exception(error)
            else:
                future.set_result(answer) if good else future.set_exception(answer)
            del job, future, call
        if worker is not None:
            self._let_go(*worker, _PATIENCE)

    def _start(self) -> tuple[BaseProcess, Connection]:
        with self._lock:
            if self._ended:
                raise EOFError("the pool has ended")
            mine, theirs = self._context.Pipe()
            with theirs:
                process: BaseProcess = self._context.Process(target=_serve, args=(theirs,), daemon=True)
                process.start()
            self._processes.add(process)
            return process, mine

    def _let_go(self, process: BaseProcess, pipe: Connection, patience: float = 0.0) -> None:
        """End a process, which may have ended by itself; one that waits for a job does when its pipe is closed."""
        pipe.close()
        process.join(patience)
        process.kill()
        process.join()
        with self._lock:
            self._processes.discard(process)


def _asked(pipe: Connection, question: bytes) -> bytes:
    pipe.send_bytes(question)
    return pipe.recv_bytes()


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def pool(jobs: int, preloaded: Sequence[str]) -> Pool:
    """``jobs`` processes, in which the modules ``preloaded`` are imported once for all of them where the system can fork.

    Forking from a server that has no threads is safe, forking this process is not.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return Pool(jobs, multiprocessing.get_context("spawn"))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preloaded))
    return Pool(jobs, context)


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
    for pool in list(_pools):
        pool.end()


# -- in a process --------------------------------------------------------------------------------------------------------------------


def _serve(pipe: Connection) -> None:
    """Do jobs until nobody has any more."""
    _prepare()
    while True:
        try:
            question = pipe.recv_bytes()
        except EOFError:
            return
        try:
            work, arguments, named = pickle.loads(question)
            answer = pickle.dumps((True, work(*arguments, **named)))
        except BaseException as error:
            answer = _failed(error)
        pipe.send_bytes(answer)


def _failed(error: BaseException) -> bytes:
    """An error for whoever asked, with the place where it arose."""
    error.add_note("".join(traceback.format_tb(error.__traceback__)))
    try:
        return pickle.dumps((False, error))
    except Exception:  # an error that holds what cannot be pickled
        return pickle.dumps((False, RuntimeError(repr(error))))


def _prepare() -> None:
    """Make this process a quiet worker: one thread, no word on Ctrl-C, and an end when the process that asked has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    """Without this, a worker whose parent was killed outright would work on for nobody."""
    parent.join()
    os._exit(1)
