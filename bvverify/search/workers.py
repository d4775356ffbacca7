"""Where the parts of a spread search run: processes of this machine, or the workers of a Dask cluster."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bvverify.cluster import connected
from bvverify.search.spread import Job, Part
from bvverify.workers import Pool, one_thread_each, pool

if TYPE_CHECKING:
    from distributed import Client


class Local:
    """Processes of this machine, started when the first part is submitted."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.executor: Pool | None = None

    def submit(self, work: Callable[[Job], Part], job: Job) -> Future[Part]:
        """Have a part searched."""
        self.executor = self.executor or pool(self.count, ["numpy", "torch", "bvverify.search.spread", "bvverify.attack.nodes"])
        return self.executor.submit(work, job)

    def renew(self) -> None:
        """Start again with new processes."""
        if self.executor is not None:
            self.executor.end()
            self.executor = None


class Cluster:
    """The workers of a Dask cluster, as many as there are when a round begins."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.executor: Any = client.get_executor(pure=False)

    @property
    def count(self) -> int:
        """The threads of all workers."""
        return max(sum(self.client.nthreads().values()), 1)

    def submit(self, work: Callable[[Job], Part], job: Job) -> Future[Part]:
        """Have a part searched."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")
            future: Future[Part] = self.executor.submit(work, job)
        return future

    def renew(self) -> None:
        """Forget what is at work; a worker that hangs is the cluster's to end."""
        self.executor.shutdown(wait=False)
        self.executor = self.client.get_executor(pure=False)


@contextmanager
def workers(jobs: int, address: str | None) -> Iterator[Local | Cluster]:
    """Workers for one search: of the cluster at an address, or ``jobs`` processes here."""
    if address is not None:
        with connected(address) as client:
            yield Cluster(client)
        return
    local = Local(jobs)
    with one_thread_each():
        try:
            yield local
        finally:
            local.renew()
