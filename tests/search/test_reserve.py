"""What a search keeps back for the kernel: proofs under way that the kernel reads, what they take, and a search that ends in time."""

import time

import pytest
import random_networks

from bvverify.certify import kernel
from bvverify.model.query import Query
from bvverify.search import proof, reserve
from bvverify.search.reserve import Reserve
from bvverify.search.root import Root, tighten
from bvverify.search.search import Search


def _searched(seed, most_nodes):
    query, _ = random_networks.question(seed)
    root = Root.of(query, [])
    tighten(root, None)
    search = Search(root, list(range(len(query.property.violation))))
    return query, root, search, search.run(None, most_nodes)


def _report(query: Query, root, search, most):
    trees = search.sample(most)
    return kernel.check(proof.certificate(query, root.tightenings, [trees[i] for i in sorted(trees)]), query)


def test_a_proof_under_way_is_accepted_with_as_many_leaves_as_were_asked_for():
    open_ones = 0
    for seed in range(40_000, 40_030):
        query, root, search, outcome = _searched(seed, 8)
        if outcome.witness is not None or any(node.same for node in search.trees.values()):
            continue
        whole = _report(query, root, search, 1 << 30)
        assert whole.solver_leaves == outcome.open
        if not any(node.same is not None for node in _nodes(search)):
            assert whole.interval_leaves + whole.bound_leaves == search.closed
        for most in (0, 1, 2):
            part = _report(query, root, search, most)
            assert part.interval_leaves + part.bound_leaves == min(most, whole.interval_leaves + whole.bound_leaves)
        open_ones += outcome.open > 0
    assert open_ones > 2


def _nodes(search):
    stack = list(search.trees.values())
    while stack:
        node = stack.pop()
        yield node
        stack += node.children or ()


class _Growing:
    """A proof of ``closed`` leaves; what was sampled of it."""

    def __init__(self, closed):
        self.closed, self.sampled = closed, []

    def sample(self, most):
        self.sampled.append(most)
        return {}


@pytest.fixture
def clock(monkeypatch):
    """Time that passes by hand; a check takes 1 s, and 0.01 s a leaf."""
    now = [100.0]
    monkeypatch.setattr(reserve.time, "monotonic", lambda: now[0])

    def check(self, growing, most):
        growing.sample(most)
        return 1.0 + 0.01 * min(most, growing.closed)

    monkeypatch.setattr(Reserve, "_check", check)
    return now


def test_what_is_kept_back_is_measured_from_half_of_the_time_on(clock):
    query, _ = random_networks.question(0)
    kept, growing = Reserve(query, [], 300.0), _Growing(1000)
    assert kept.seconds(growing) == 0
    clock[0] = 201.0
    assert kept.seconds(growing) == pytest.approx(1 + 10)
    assert growing.sampled == [0, 32, 256]
    growing.closed = 2000  # not measured again, but more
    assert kept.seconds(growing) == pytest.approx(1 + 20)
    assert len(growing.sampled) == 3
    growing.closed = 4000
    assert kept.seconds(growing) == pytest.approx(1 + 40)
    assert len(growing.sampled) == 6


def test_slow_checks_are_measured_on_few_leaves(clock):
    query, _ = random_networks.question(0)
    kept, growing = Reserve(query, [], 110.0), _Growing(1000)
    clock[0] = 106.0
    assert kept.seconds(growing) == pytest.approx(1 + 10)
    assert growing.sampled == [0, 32]


class _Long:
    """Keeps back more than there is."""

    def seconds(self, growing):
        assert growing.closed >= 0
        return 1e6


def test_a_search_ends_before_the_time_that_is_kept_back():
    for seed in range(40_000, 40_100):
        _, _, search, outcome = _searched(seed, 4)
        if outcome.open and outcome.witness is None:
            nodes = search.nodes
            again = search.run(time.monotonic() + 1e5, None, _Long())
            assert (again.trees, again.witness, search.nodes) == (None, None, nodes)
            done = search.run(None)
            assert done.trees is not None or done.witness is not None
            return
    raise AssertionError("no search was left open")


def test_the_seconds_of_a_real_proof_are_those_of_its_check():
    """Within a factor of ten either way: clocks on a busy machine are no better."""
    for seed in range(40_000, 40_200):
        query, root, search, outcome = _searched(seed, None)
        if outcome.trees is not None and search.closed >= 40:
            kept = Reserve(query, root.tightenings, time.monotonic() + 1e-6)
            time.sleep(1e-3)
            expected = kept.seconds(search)
            begun = time.monotonic()
            _report(query, root, search, 1 << 30)
            assert expected / 10 < time.monotonic() - begun < expected * 10 + 0.05
            return
    raise AssertionError("no proof was large enough")
