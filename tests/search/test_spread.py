"""A search spread over workers: the same verdicts, certificates that the kernel accepts, and nothing lost with a worker."""

import os
import pickle
import signal
import threading
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import hard_questions
import numpy as np
import pytest
import random_networks

from bvverify import pipeline
from bvverify.certify import kernel
from bvverify.errors import InternalError
from bvverify.model.certificate import Kind
from bvverify.model.result import Verdict
from bvverify.search import proof, spread, workers
from bvverify.search.leaf import LeafSolver
from bvverify.search.node import Seed
from bvverify.search.root import Root, tighten
from bvverify.search.search import Search


class Here:
    """Workers that work at once, in this process, on what has been pickled; some of their parts fail."""

    def __init__(self, count, fails=lambda number: None):
        self.count, self.fails, self.submitted, self.renewed, self.jobs = count, fails, 0, 0, []

    def submit(self, work, job):
        future, self.submitted = Future(), self.submitted + 1
        self.jobs.append(job)
        error = self.fails(self.submitted)
        if error == "hangs":
            return future
        if error is None:
            future.set_result(pickle.loads(pickle.dumps(work(pickle.loads(pickle.dumps(job))))))
        else:
            future.set_exception(error)
        return future

    def renew(self):
        self.renewed += 1


def _searched(query, others, monkeypatch, **limits):
    monkeypatch.setattr(spread, "_ALONE", 0)
    monkeypatch.setattr(spread, "_ROUND", limits.pop("round", 2))
    root = Root.of(query, [])
    tighten(root, None)
    search = Search(root, range(len(query.property.violation)))
    search.batch = 4
    made = spread.Spread(search, others, LeafSolver(query, "z3", 1024, 0))
    outcome = made.run(limits.pop("deadline", None), limits.pop("most_nodes", None))
    return made, outcome


def _accepted(query, search, outcome):
    made = proof.certificate(query, search.root.tightenings, [outcome.trees[i] for i in sorted(outcome.trees)])
    return kernel.check(made, query)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_what_grew_elsewhere_is_one_proof(monkeypatch, count):
    query, others = hard_questions.query(-1), Here(count)
    made, outcome = _searched(query, others, monkeypatch)
    assert others.submitted > 2 * count
    report = _accepted(query, made.search, outcome)
    assert report.bound_leaves > 10
    assert (others.renewed, made.lost) == (0, 0)
    kinds = np.concatenate([t.kind for t in outcome.trees.values()])
    assert outcome.nodes == len(kinds) == 2 * (kinds == Kind.SPLIT).sum() + len(outcome.trees)


def test_the_same_workers_make_the_same_proof(monkeypatch):
    query = hard_questions.query(-1)
    one, other = (_searched(query, Here(3), monkeypatch)[1] for _ in range(2))
    for i, tree in one.trees.items():
        assert (tree.kind == other.trees[i].kind).all()
        assert (tree.split_value == other.trees[i].split_value).all()


def test_a_witness_of_a_worker_is_the_answer(monkeypatch):
    query = hard_questions.query(0)
    others = Here(2)
    _, outcome = _searched(query, others, monkeypatch)
    assert outcome.witness is not None
    assert pipeline.replay.violates(query, outcome.witness[None])[0]


DEAD = BrokenProcessPool("a worker has gone")
FAILURES = {
    "the first part": (lambda number: DEAD if number == 1 else None, range(1)),
    "every third part": (lambda number: DEAD if number % 3 == 0 else None, range(1)),
    "a part twice": (lambda number: DEAD if number in (1, 3) else None, range(1, 2)),
    "every part for a while": (lambda number: DEAD if number < 9 else None, range(2, 6)),
    "memory": (lambda number: MemoryError() if number == 2 else None, range(1)),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_parts_that_are_lost_cost_another_try_and_nothing_else(monkeypatch, kind):
    query, (fails, lost) = hard_questions.query(-1), FAILURES[kind]
    others = Here(2, fails)
    made, outcome = _searched(query, others, monkeypatch)
    assert _accepted(query, made.search, outcome).bound_leaves > 10
    assert made.lost in lost
    assert others.renewed > 0


def test_a_part_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(spread, "_SLACK", 0.2)
    monkeypatch.setattr(spread, "_HANGS", 0.0)
    query, others = hard_questions.query(-1), Here(2, lambda number: "hangs" if number == 4 else None)
    made, outcome = _searched(query, others, monkeypatch)
    assert _accepted(query, made.search, outcome).bound_leaves > 10
    assert others.renewed == 1


def test_workers_that_never_answer_leave_the_search_to_its_own(monkeypatch):
    query, others = hard_questions.query(-1), Here(2, lambda _number: DEAD)
    made, outcome = _searched(query, others, monkeypatch)
    assert _accepted(query, made.search, outcome).bound_leaves > 10
    assert made.lost > 0


def test_an_internal_error_is_loud_there_as_here(monkeypatch):
    others = Here(2, lambda number: InternalError("a contradiction") if number == 2 else None)
    with pytest.raises(InternalError, match="a contradiction"):
        _searched(hard_questions.query(-1), others, monkeypatch)


def test_limits_end_it(monkeypatch):
    made, outcome = _searched(hard_questions.query(-1), Here(2), monkeypatch, most_nodes=40)
    assert not outcome.done
    assert 40 <= outcome.nodes < 120
    assert outcome.open == len(made.search.open) > 0
    assert set(outcome.conjunctions) == {node.conjunction for *_, node in made.search.open}
    late, outcome = _searched(hard_questions.query(-1), Here(2), monkeypatch, deadline=time.monotonic() - 1)
    assert not outcome.done
    assert late.workers.submitted == 0


def test_a_seed_is_the_node():
    query = hard_questions.query(-1)
    root = Root.of(query, [])
    search = Search(root, [0, 1])
    search.run(None, 30)
    for *_, node in search.open:
        again = pickle.loads(pickle.dumps(Seed.of(node))).node(7)
        assert (again.conjunction, again.split, again.bound, again.number) == (node.conjunction, node.split, node.bound, 7)
        mine, theirs = search.limits([again]), search.limits([node])
        assert mine.keys() == theirs.keys()
        assert all((a == b).all() for op in mine for a, b in zip(mine[op], theirs[op], strict=True))
        assert all((again.m[i] == node.m[i]).all() for i in node.m)


@pytest.mark.parametrize("seed", range(60))
def test_verdicts_are_those_of_enumeration(seed, monkeypatch):
    query, violated = random_networks.question(seed)
    others = Here(3)
    monkeypatch.setattr(workers, "Local", lambda _count: others)
    monkeypatch.setattr(spread, "_ALONE", 0)
    monkeypatch.setattr(spread, "_ROUND", 1)
    stages = frozenset({"interval", "linear", "root", "search"})
    result = pipeline.decide(query, pipeline.Options(jobs=3, stages=stages, runtimes=False))
    assert result.verdict is (Verdict.FALSIFIED if violated else Verdict.VERIFIED)


def test_processes_that_are_killed(monkeypatch):
    """Real ones: a worker is killed at random moments, and the proof is whole."""
    monkeypatch.setattr(spread, "_ALONE", 0)
    monkeypatch.setattr(spread, "_ROUND", 3)
    query, stop, killed = hard_questions.query(-1), threading.Event(), []

    def kill(local):
        while not stop.wait(0.4):
            processes = local.executor.pids if local.executor is not None else []
            if processes and len(killed) < 3:
                killed.append(processes[0])
                os.kill(processes[0], signal.SIGKILL)

    with workers.workers(2, None) as local:
        killer = threading.Thread(target=kill, args=(local,))
        killer.start()
        try:
            root = Root.of(query, [])
            search = Search(root, [0, 1])
            search.batch = 2
            made = spread.Spread(search, local, LeafSolver(query, "z3", 1024, 0))
            outcome = made.run(None)
        finally:
            stop.set()
            killer.join()
    assert killed
    assert _accepted(query, search, outcome).bound_leaves > 10


def test_options_reach_the_workers():
    result = pipeline.decide(hard_questions.query(-1), pipeline.Options(jobs=2, runtimes=False, stages=frozenset({"interval", "search"})))
    assert result.verdict is Verdict.VERIFIED
    assert result.checked.bound_leaves > 10
