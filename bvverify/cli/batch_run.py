"""The work behind ``bvverify batch``: read the rows, skip those with an answer, decide the others in a pool, append each answer."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from bvverify.cli.batch_file import AnswerFile
from bvverify.cli.batch_pool import each
from bvverify.cli.batch_row import INTERNAL, Answer, Task, decide, echo, lost, prepare_worker
from bvverify.cli.output import check_writable, complain, cores, make_folder
from bvverify.errors import InternalError, UsageError
from bvverify.load.instances import read_instances
from bvverify.pipeline import Options

Row = TypeVar("Row")
Made = TypeVar("Made")

_ORDER = ("verified", "falsified", "found", "unknown", "misclassified", "error")
_PRELOADED = ["numpy", "torch", "bvverify.cli.batch_row"]
"""Imported once, in the server that the workers are forked from, not once in each of them."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run(
    instances: Path,
    output: Path,
    jobs: int | None,
    semantics: str | None,
    options: Options,
    work: Callable[[Task], Answer] = decide,
    certificates: Path | None = None,
    *,
    cluster: str | None = None,
    allow_pickle: bool = False,
) -> int:
    """Decide the rows of ``instances`` that ``output`` has no answer for, and return the exit code.

    ``cluster`` is the address of a Dask scheduler, whose workers decide instead of processes here.
    ``certificates`` is a folder that receives a certificate for each verified row, named by the row's number. PyTorch files are opened
    with ``allow_pickle`` only.
    """
    jobs = processes(jobs)
    check_writable(output)
    if certificates is not None:
        make_folder(certificates)
    rows = read_instances(instances)
    started, failures = time.monotonic(), 0
    with AnswerFile(output) as answers:
        missing, found = answers.open_rows([echo(row) for row in rows])
        counts = Counter(str(answer["verdict"]) for answer in found)
        saved = {i: None if certificates is None else certificates / f"row{i + 1}" for i in missing}
        tasks = [Task(rows[i], options, semantics, saved[i], allow_pickle) for i in missing]
        with _bar(len(rows), len(found)) as show:
            try:
                for answer in in_pool(tasks, work, lost, jobs) if cluster is None else _in_cluster(tasks, cluster):
                    answers.append(answer)
                    counts[answer["verdict"]] += 1
                    failures += str(answer["reason"]).startswith(INTERNAL)
                    show(counts)
            except KeyboardInterrupt:
                complain(f"{counts.total()} of {len(rows)} rows have their line in {output}; the same command goes on from there")
                raise
    seconds = time.monotonic() - started
    earlier = f", {len(found)} from an earlier run" if found else ""
    complain(f"{len(rows)} rows in {seconds:.1f} s{earlier}: {_tally(counts)}")
    return InternalError.exit_code if failures else 0


def _in_cluster(tasks: Sequence[Task], address: str) -> Iterator[Answer]:
    from bvverify.cli import cluster

    return cluster.rows(tasks, lost, address)


def processes(jobs: int | None) -> int:
    """How many processes ``--jobs`` asks for: all cores where it is not given."""
    jobs = cores() if jobs is None else jobs
    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: at least one process is needed")
    return jobs


def in_pool(tasks: Sequence[Row], work: Callable[[Row], Made], lost: Callable[[Row], Made], jobs: int) -> Iterator[Made]:
    """``work`` of every task, in the order in which they finish, in ``jobs`` processes of one thread each."""
    with _one_thread_each():
        for _, made in each(tasks, work, lost, lambda: _pool(min(jobs, len(tasks))), 2 * jobs):
            yield made


def _pool(jobs: int) -> Executor:
    """Processes that import nothing again; forking from a server that has no threads is safe, forking this process is not."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), prepare_worker)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return ProcessPoolExecutor(jobs, context, prepare_worker)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """One thread a worker: the rows are the parallelism. Workers are ended at once on an interrupt, and when nobody takes their answers."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _tally(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in _ORDER if counts[verdict]) or "nothing to decide"


@contextmanager
def _bar(total: int, done: int) -> Iterator[Callable[[Counter[str]], None]]:
    """A live bar on a terminal; silence elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _counts: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total, completed=done)
        yield lambda counts: progress.update(task, advance=1, description=_tally(counts))
