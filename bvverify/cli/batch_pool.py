"""Rows through a pool of processes that may die.

The pool is a ``concurrent.futures.Executor`` made by a factory, so that a cluster's executor fits as well. A broken pool does not
tell which row broke it: the rows that were in flight are suspects, and each is tried once more, alone in a pool of its own. The
one that breaks that pool too is the culprit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import TypeVar

Row = TypeVar("Row")
Answer = TypeVar("Answer")
MakeExecutor = Callable[[], Executor]


def each(
    rows: Sequence[Row], work: Callable[[Row], Answer], lost: Callable[[Row], Answer], make_executor: MakeExecutor, in_flight: int
) -> Iterator[tuple[int, Answer]]:
    """Yield ``(index, work(row))`` for every row, in the order in which they finish.

    ``work`` runs in the executor's processes; where a row breaks the pool twice, ``lost(row)`` takes its answer's place. At most
    ``in_flight`` rows are with the executor at a time.
    """
    waiting = deque(range(len(rows)))
    while waiting:
        suspects = yield from _until_broken(rows, work, make_executor, in_flight, waiting)
        for index in suspects:
            second = deque([index])
            lost_again = yield from _until_broken(rows, work, make_executor, 1, second)
            if lost_again or second:
                yield index, lost(rows[index])


def _until_broken(
    rows: Sequence[Row], work: Callable[[Row], Answer], make_executor: MakeExecutor, in_flight: int, waiting: deque[int]
) -> Generator[tuple[int, Answer], None, list[int]]:
    """Work ``waiting`` off until it is empty or the pool breaks; returns the rows that were lost with the pool."""
    executor, running, suspects, broken = make_executor(), dict[Future[Answer], int](), list[int](), False
    try:
        while running or (waiting and not broken):
            try:
                while waiting and not broken and len(running) < in_flight:
                    running[executor.submit(work, rows[waiting[0]])] = waiting[0]
                    waiting.popleft()
            except BrokenExecutor:
                broken = True
            for future in wait(running, return_when=ALL_COMPLETED if broken else FIRST_COMPLETED).done:
                index = running.pop(future)
                if isinstance(future.exception(), BrokenExecutor):
                    broken = True
                    suspects.append(index)
                else:
                    yield index, future.result()
        return sorted(suspects)
    finally:
        # After an interrupt nobody wants to sit out the rows in flight; with none there is nothing to wait for but the pool's own end.
        executor.shutdown(wait=not running, cancel_futures=True)
