"""The rows of a batch on a Dask cluster (the extra ``cluster``), wherever its workers run: SLURM, Kubernetes, a few machines with ssh.

Dask promises that every task is done at least once: where a worker goes, its tasks are given to another. Here each row's answer is taken
once, when its future is done, so that a row may be computed twice but never has two lines. A row that takes worker after worker down with
it (``allowed-failures`` of the scheduler, three) gets the answer that its process died. When this process goes, the scheduler drops
its rows, and what is at work is ended (``cluster_row``); the same command goes on from the lines that are there.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as Late
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bvverify._version import __version__
from bvverify.cli import cluster_row
from bvverify.cli.batch_row import Answer, Task
from bvverify.cli.cluster_row import Made
from bvverify.cli.output import write
from bvverify.errors import UsageError

if TYPE_CHECKING:
    from distributed import Client

_ADDRESS = re.compile(r"((tcp|tls|ws|wss|ucx)://)?[^/\s]+:\d{1,5}/?")
_PATIENCE = 30.0
"""Seconds to wait for the scheduler, and for a first worker."""
_AHEAD = 3
"""Rows with the cluster at a time, for each of its threads: enough that none waits for the next one."""


def rows(tasks: Sequence[Task], lost: Callable[[Task], Answer], address: str) -> Iterator[Answer]:
    """The answer of every task, in the order in which they finish. ``UsageError`` where there is no such cluster, or it goes."""
    try:
        from distributed import Client
    except ImportError:
        raise UsageError("--cluster needs Dask's distributed: pip install 'bvverify[cluster]'") from None
    if _ADDRESS.fullmatch(address) is None:
        raise UsageError(f"--cluster {address}: a scheduler's address is tcp://HOST:PORT")
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"--cluster {address}: no scheduler answers there: {' '.join(str(error).split())}") from None
    with client:
        yield from _work(client, tasks, lost, address)


def _work(client: Client, tasks: Sequence[Task], lost: Callable[[Task], Answer], address: str) -> Iterator[Answer]:
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    _same_versions(client, address)
    files = _Files(client)
    at_work = as_completed(loop=client.loop)
    waiting, running = iter(range(len(tasks))), dict[Any, int]()

    def submit() -> None:
        threads = sum(client.nthreads().values())
        while len(running) < max(_AHEAD * threads, 1):
            index = next(waiting, None)
            if index is None:
                return
            names, contents = files.of(tasks[index])
            # pure=False: equal rows are rows of their own. No retries: a row that raises is a bug, and would raise again.
            future = client.submit(cluster_row.run, tasks[index], names, contents, pure=False)
            running[future] = index
            at_work.add(future)

    submit()
    while running:
        future = next(at_work)
        task = tasks[running.pop(future)]
        if future.status == "cancelled":
            raise UsageError(f"--cluster {address}: the scheduler has gone")
        error = future.exception()
        if error is None:
            made = future.result()
            yield lost(task) if made is None else _saved(task, made)
        elif isinstance(error, KilledWorker):
            yield lost(task)
        else:
            raise error
        future.release()
        submit()


def _same_versions(client: Client, address: str) -> None:
    """Workers of another version would give other answers."""
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except (TimeoutError, Late):
        raise UsageError(f"--cluster {address}: no worker has come within {_PATIENCE:g} s") from None
    try:
        found = client.run(cluster_row.version)
    # What a worker without bvverify raises here depends on the serialiser.
    except Exception as error:
        raise UsageError(
            f"--cluster {address}: a worker cannot import bvverify ({type(error).__name__}): pip install 'bvverify[cluster]' there"
        ) from None
    for worker, theirs in sorted(found.items()):
        if theirs != __version__:
            raise UsageError(f"--cluster {address}: the worker {worker} has bvverify {theirs}, here is {__version__}")


class _Files:
    """The contents of files, each sent to the cluster once; which worker holds them is Dask's business."""

    def __init__(self, client: Client) -> None:
        self.client, self.sent, self.known = client, dict[str, Any](), dict[tuple[Path, int], str]()

    def of(self, task: Task) -> tuple[dict[Path, str], dict[str, Any]]:
        """The digests of a row's files, and their contents as futures. What cannot be read here is left for the row to complain of."""
        names = {path: digest for path in cluster_row.files_of(task) if (digest := self._digest(path)) is not None}
        return names, {digest: self.sent[digest] for digest in names.values()}

    def _digest(self, path: Path) -> str | None:
        try:
            changed = path, path.stat().st_mtime_ns
            if changed not in self.known:
                content = path.read_bytes()
                self.known[changed] = hashlib.sha256(content).hexdigest()
                if self.known[changed] not in self.sent:
                    self.sent[self.known[changed]] = self._send(self.known[changed], content)
            return self.known[changed]
        except OSError:
            return None

    def _send(self, digest: str, content: bytes) -> Any:
        """As a task of its own, which the scheduler can have done again; data that is only scattered goes with the worker that holds it."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")
            return self.client.submit(bytes, content, key=f"bvverify-{digest}")


def _saved(task: Task, made: Made) -> Answer:
    """The answer with its certificates written here."""
    if task.certificate is None or not made.certificates:
        return made.answer
    paths = [task.certificate.with_name(task.certificate.name + end) for end in sorted(made.certificates)]
    try:
        for path in paths:
            write(path, made.certificates[path.name.removeprefix(task.certificate.name)])
    except UsageError as error:
        return made.answer | {"certificate": None, "not_saved": str(error)}
    return made.answer | {"certificate": [str(path) for path in paths]}
