"""The pool of processes: whatever dies, every future ends."""

import os
import random
import signal
import time
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from pickle import PicklingError

import pytest

from bvverify.workers import end_all, pool


def _square(number):
    return number * number


def _kill(how=signal.SIGKILL):
    os.kill(os.getpid(), how)


def _pid():
    return os.getpid()


def _add(one, *, other):
    return one + other


def _refuse(why):
    raise ValueError(why)


def _leave():
    raise SystemExit(3)


class _Own(Exception):
    """An error that cannot be pickled."""

    def __init__(self):
        super().__init__("own")
        self.held = lambda: None


def _own():
    raise _Own


def _held():
    return lambda: None


@pytest.fixture
def two():
    with pool(2, []) as made:
        yield made


def test_answers(two):
    assert list(two.map(_square, range(50))) == [i * i for i in range(50)]
    assert two.submit(_add, 1, other=2).result(60) == 3
    assert 1 <= len(two.pids) <= 2


def test_an_error_is_raised_where_it_was_asked_and_says_where_it_arose(two):
    error = two.submit(_refuse, "no").exception(60)
    assert (type(error), str(error)) == (ValueError, "no")
    assert "in _refuse" in error.__notes__[0]
    assert two.submit(_square, 3).result(60) == 9


CANNOT = AttributeError, PicklingError


@pytest.mark.parametrize(("work", "kinds"), [(_leave, SystemExit), (_own, RuntimeError), (_held, CANNOT), (lambda: 1, CANNOT)])
def test_what_cannot_be_pickled_is_an_error_of_its_job_alone(two, work, kinds):
    with pytest.raises(kinds):
        two.submit(work).result(60)
    assert two.submit(_square, 3).result(60) == 9


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_death_costs_the_job_that_the_process_had(two, how):
    futures = [two.submit(_square, 1), two.submit(_kill, how), *(two.submit(_square, i) for i in range(2, 9))]
    wait(futures, 60)
    broken = [isinstance(f.exception(0), BrokenProcessPool) for f in futures]
    assert broken == [False, True] + [False] * 7
    assert [f.result(0) for f in futures[2:]] == [i * i for i in range(2, 9)]


def test_every_future_ends_however_many_die():
    rng = random.Random(0)
    with pool(3, []) as many:
        kills = [rng.random() < 0.3 for _ in range(60)]
        futures = [many.submit(_kill) if kill else many.submit(_square, i) for i, kill in enumerate(kills)]
        assert not wait(futures, 120).not_done
        assert [isinstance(f.exception(0), BrokenProcessPool) for f in futures] == kills


def test_a_process_that_died_without_a_job_costs_none():
    with pool(1, []) as one:
        first = one.submit(_pid).result(60)
        os.kill(first, signal.SIGKILL)
        while any(pid == first and _alive(pid) for pid in one.pids):
            time.sleep(0.01)
        assert one.submit(_pid).result(60) != first


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_end_does_not_wait_for_what_is_at_work():
    made = pool(2, [])
    futures = [made.submit(time.sleep, 1000) for _ in range(5)]
    while len(made.pids) < 2:
        time.sleep(0.01)
    pids, started = made.pids, time.monotonic()
    made.end()
    assert time.monotonic() - started < 5
    assert all(future.cancelled() or isinstance(future.exception(0), BrokenProcessPool) for future in futures)
    assert sum(future.cancelled() for future in futures) == 3
    assert not any(map(_alive, pids))
    assert made.pids == []


def test_a_process_that_is_stopped_is_ended_all_the_same():
    made = pool(1, [])
    future = made.submit(_kill, signal.SIGSTOP)
    time.sleep(0.5)
    end_all()
    assert isinstance(future.exception(0), BrokenProcessPool)


def test_a_pool_that_was_shut_down_takes_no_more():
    made = pool(1, [])
    future = made.submit(_square, 2)
    made.shutdown()
    assert future.result(0) == 4
    with pytest.raises(RuntimeError, match="shut down"):
        made.submit(_square, 2)


def test_processes_end_with_their_pool():
    with pool(2, []) as made:
        list(made.map(_square, range(10)))
        pids = made.pids
    assert pids
    assert not any(map(_alive, pids))
