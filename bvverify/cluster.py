"""A Dask cluster that is there already (the extra ``cluster``): finding it, and making sure that its workers are of this version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import TimeoutError as Late
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bvverify._version import __version__
from bvverify.errors import UsageError

if TYPE_CHECKING:
    from distributed import Client

_ADDRESS = re.compile(r"((tcp|tls|ws|wss|ucx)://)?[^/\s]+:\d{1,5}/?")
_PATIENCE = 30.0
"""Seconds to wait for the scheduler, and for a first worker."""


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of the scheduler at an address. ``UsageError`` where there is none, no worker comes, or one has another version."""
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
        _same_versions(client, address)
        yield client


def version() -> str:
    """Which bvverify a worker has."""
    return __version__


def _same_versions(client: Client, address: str) -> None:
    """Workers of another version would give other answers."""
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except (TimeoutError, Late):
        raise UsageError(f"--cluster {address}: no worker has come within {_PATIENCE:g} s") from None
    try:
        found = client.run(version)
    # What a worker without bvverify raises here depends on the serialiser.
    except Exception as error:
        raise UsageError(
            f"--cluster {address}: a worker cannot import bvverify ({type(error).__name__}): pip install 'bvverify[cluster]' there"
        ) from None
    for worker, theirs in sorted(found.items()):
        if theirs != __version__:
            raise UsageError(f"--cluster {address}: the worker {worker} has bvverify {theirs}, here is {__version__}")
