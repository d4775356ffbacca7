"""The pool: every row is answered once, whatever happens to the processes."""

import os
import signal
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool

from bvverify.cli.batch_pool import each
from bvverify.workers import pool


def _square(row: int) -> int:
    if row < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return row * row


def _lost(row: int) -> int:
    return -1


def _pool() -> Executor:
    return pool(2, [])


def test_every_row_is_answered_once():
    answers = sorted(each(range(20), _square, _lost, _pool, 4))
    assert answers == [(i, i * i) for i in range(20)]


def test_no_rows_need_no_pool():
    def never() -> Executor:
        raise AssertionError("a pool was made for nothing")

    assert list(each([], _square, _lost, never, 4)) == []


def test_a_row_that_kills_its_process_is_lost_and_the_others_are_not():
    rows = [1, 2, -3, 4, 5, -6, 7]
    answers = dict(each(rows, _square, _lost, _pool, 3))
    assert answers == {0: 1, 1: 4, 2: -1, 3: 16, 4: 25, 5: -1, 6: 49}


class _BreaksOnce(Executor):
    """In process; breaks with the first row it gets, and its successors do not."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.breaks = type(self).made == 1

    def submit(self, function, /, *arguments):
        future: Future = Future()
        if self.breaks:
            future.set_exception(BrokenProcessPool("a process died"))
        else:
            future.set_result(function(*arguments))
        return future


def test_a_row_that_was_in_flight_with_a_culprit_gets_a_second_try():
    _BreaksOnce.made = 0
    assert sorted(each([2, 3, 4], _square, _lost, _BreaksOnce, 3)) == [(0, 4), (1, 9), (2, 16)]
    assert _BreaksOnce.made == 4  # one that broke, one for each suspect


class _RefusesFirst(_BreaksOnce):
    """Its first pool is broken before it gets a row."""

    def submit(self, function, /, *arguments):
        if self.breaks:
            raise BrokenProcessPool("broken from the start")
        return super().submit(function, *arguments)


def test_a_pool_that_breaks_between_rows_loses_none():
    _RefusesFirst.made = 0
    assert sorted(each([2, 3], _square, _lost, _RefusesFirst, 2)) == [(0, 4), (1, 9)]
