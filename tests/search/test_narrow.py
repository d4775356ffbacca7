"""Narrowing: no violation is lost at the ends that are split off, proofs are whole, and what nodes keep is what their splits say."""

import pickle
from dataclasses import replace

import hard_questions
import numpy as np
import pytest
import random_networks
import torch
import units
from test_spread import Here
from test_subproblems import path

from bvverify import pipeline
from bvverify.bounds import conditional
from bvverify.bounds.conditional import Start, ends_of
from bvverify.certify import kernel
from bvverify.model.certificate import Kind
from bvverify.model.result import Verdict
from bvverify.run import interpreter
from bvverify.search import narrow, pace, proof, spread, workers
from bvverify.search.narrow import Narrow
from bvverify.search.node import Seed, open_leaves, preorder
from bvverify.search.root import Root, tighten
from bvverify.search.search import ROOT_SETTINGS, Search

STAGES = frozenset({"interval", "linear", "root", "search"})


@pytest.fixture
def split_off(monkeypatch):
    """Narrowing everywhere, all the time; how many ends were split off."""
    monkeypatch.setattr("bvverify.search.search._BATCH", (1, 1))
    monkeypatch.setattr(narrow, "_FIRST", 1)
    monkeypatch.setattr(narrow, "_AGAIN", 1.0)
    monkeypatch.setattr(narrow, "_SHARE", 1e9)
    monkeypatch.setattr(narrow, "_NEARER", 0.99)
    monkeypatch.setattr(narrow, "_LEAST_SHARE", -1.0)
    monkeypatch.setattr(Narrow, "_saves", lambda *_: 1e9)
    count, original = [0], Narrow._split_off

    def counted(self, node, ends, state):
        before = self.tree.nodes
        out = original(self, node, ends, state)
        count[0] += (self.tree.nodes - before) // 2
        return out

    monkeypatch.setattr(Narrow, "_split_off", counted)
    return count


def _searched(query, most_nodes=None):
    root = Root.of(query, [])
    tighten(root, None)
    search = Search(root, range(len(query.property.violation)))
    return root, search, search.run(None, most_nodes)


def _walked(search, node):
    """What the splits above a node come to, one after the other, and the claims."""
    saved, at = {}, node
    while at is not None:
        saved[at.number], at.base, at = (at, at.base), None, at.parent
    limits = search.limits([node])
    for at, base in saved.values():
        at.base = base
    return limits


def _same(one, other):
    return one.keys() == other.keys() and all((a == b).all() for op in one for a, b in zip(one[op], other[op], strict=True))


@pytest.mark.parametrize("seed", range(12))
def test_verdicts_are_those_of_enumeration(split_off, seed):
    for by, verdict in ((-1, Verdict.VERIFIED), (0, Verdict.FALSIFIED)):
        result = pipeline.decide(hard_questions.query(by, seed), pipeline.Options(stages=STAGES, runtimes=False))
        assert result.verdict is verdict
    assert split_off[0] > 0


@pytest.mark.parametrize("seed", range(12))
def test_no_violation_is_where_something_was_split_off(split_off, seed, monkeypatch):
    monkeypatch.setattr(Search, "_try", lambda *_: None)
    query = hard_questions.query(4, seed)
    _, search, _ = _searched(query, 40)
    assert split_off[0] > 0
    x = random_networks.points(query.box)
    tensors = interpreter.trace(query.network, x)
    accumulators, y = units.accumulators(query.network, tensors), interpreter.run(query.network, x)
    for i in search.trees:
        violating = np.flatnonzero(query.property.only([i]).violated(x, y))
        assert len(violating) > 0
        for point in violating[:100]:
            leaf = path(search, None, i, accumulators, point)[-1]
            assert leaf.kind is None or search.witness is not None


def test_a_proof_with_ends_split_off_is_accepted(split_off):
    query = hard_questions.query(-1)
    root, search, outcome = _searched(query)
    assert split_off[0] > 20
    made = proof.certificate(query, root.tightenings, [outcome.trees[i] for i in sorted(outcome.trees)])
    assert kernel.check(made, query).bound_leaves > split_off[0] // 2
    assert search.closed >= sum((tree.kind != Kind.SPLIT).sum() for tree in outcome.trees.values())


def test_what_is_kept_with_nodes_is_what_their_splits_say(split_off, monkeypatch):
    monkeypatch.setattr("bvverify.search.tree._LONG", 3)
    _, search, _ = _searched(hard_questions.query(-1), 60)
    nodes = [node for root in search.trees.values() for node in preorder(root)]
    assert sum(node.base is not None for node in nodes) > 3
    assert split_off[0] > 5
    for node in nodes:
        assert _same(search.limits([node]), _walked(search, node))
    assert {id(node) for *_, node in search.open} == {id(n) for root in search.trees.values() for n in open_leaves(root)}


def test_a_seed_begins_at_what_is_kept(split_off):
    _, search, _ = _searched(hard_questions.query(-1), 60)
    assert split_off[0] > 5
    for *_, node in search.open:
        seed = pickle.loads(pickle.dumps(Seed.of(node)))
        assert _same(search.limits([seed.node(1)]), search.limits([node]))


@pytest.mark.parametrize("seed", range(20))
def test_workers_narrow_as_well(split_off, seed, monkeypatch):
    query, violated = random_networks.question(seed)
    monkeypatch.setattr(workers, "Local", lambda _count: Here(3))
    monkeypatch.setattr(spread, "_ALONE", 0)
    monkeypatch.setattr(spread, "_ROUND", 1)
    result = pipeline.decide(query, pipeline.Options(jobs=3, stages=STAGES, runtimes=False))
    assert result.verdict is (Verdict.FALSIFIED if violated else Verdict.VERIFIED)


def test_nothing_is_narrowed_that_splits_close_soon(monkeypatch):
    """A split gains as much as is missing: a leaf has two nodes below it."""
    monkeypatch.setattr(narrow, "_FIRST", 1)
    calls = []
    monkeypatch.setattr(Narrow, "narrow", lambda _self, node, _deadline: calls.append(node) or (0.0, []))
    query = hard_questions.query(-1)
    root = Root.of(query, [])
    search = Search(root, range(len(query.property.violation)))
    search.run(None, 30)
    assert search.gain > 0
    search.narrow.cost = [10.0 for _ in search.narrow.cost]
    for gain, some in ((1e3, False), (1e-9, True)):
        calls.clear()
        search.gain = gain
        search.narrow.look(lambda _nodes, _deadline: True, lambda: None)
        assert bool(calls) is some


def test_what_brought_nothing_is_left_alone_for_a_while(monkeypatch):
    _, search, _ = _searched(hard_questions.query(-1), 30)
    search.narrow.cost, search.gain, calls = [10.0 for _ in search.narrow.cost], 1e-9, []
    monkeypatch.setattr(narrow, "_SHARE", 1e9)
    monkeypatch.setattr(Narrow, "narrow", lambda _self, node, _deadline: calls.append(node) or (-node.bound, []))

    def looked():
        calls.clear()
        search.narrow.look(lambda _nodes, _deadline: True, lambda: None)
        return len(calls)

    assert looked() > 0
    tried = {pace.size(-node.bound) for node in calls}
    assert all((share < narrow._AT_FIRST) is (size in tried) for size, share in enumerate(search.narrow.share))
    while looked():
        pass
    assert all(search.narrow.share[size] < narrow._LEAST_SHARE for size in tried)
    assert any(looked() for _ in range(100))


def test_what_it_costs_is_learned_where_it_was_tried(monkeypatch):
    _, search, _ = _searched(hard_questions.query(-1), 30)
    search.narrow.cost, search.gain, sizes = [10.0 for _ in search.narrow.cost], 1e-9, set()

    def costly(self, node, _deadline):
        sizes.add(pace.size(-node.bound))
        self.spent += 1000.0
        return 0.0, []

    monkeypatch.setattr(Narrow, "narrow", costly)
    search.narrow.look(lambda _nodes, _deadline: False, lambda: None)
    assert len(sizes) == 1
    for size, cost in enumerate(search.narrow.cost):
        assert cost == pytest.approx(10.0 + (990.0 * narrow._LATELY if size in sizes else 0.0))


def test_sizes_are_told_apart():
    assert [pace.size(m) for m in (0.0, 2.0**-8, 0.9, 1.0, 1.1, 2.0, 512.0, 1e9)] == [0, 0, 8, 8, 8, 9, 17, 17]


@pytest.fixture
def at_the_root():
    """A search, what its first node sees, and where an ascent there ends."""
    query = hard_questions.query(-1)
    root = Root.of(query, [])
    tighten(root, None)
    search = Search(root, range(len(query.property.violation)))
    node = next(iter(search.trees.values()))
    seen = search.seen([node], search.ranges([node]), np.arange(1))
    return search, node, seen, search.ascend(seen, *search._start([node], seen), ROOT_SETTINGS)


def test_the_less_is_missing_the_more_comes_off(at_the_root):
    """The weight of the rows to begin with: sixty steps do not get from one for much to one for little."""
    search, _, seen, best = at_the_root
    start = Start.at(best)
    assert start.missing == max(-float(best.value[0]), 0.0)

    def off(missing):
        ends, _ = ends_of(search.relaxation, search.narrow.ops, seen, replace(start, missing=missing), None)
        return 0 if ends is None else len(ends.op)

    assert off(start.missing) > off(100.0 + start.missing)


def test_a_round_begins_where_the_last_one_ended(at_the_root, monkeypatch):
    search, node, seen, best = at_the_root
    ops = search.narrow.ops
    ends, climbed = ends_of(search.relaxation, ops, seen, Start.at(best), None)
    node = search.narrow._split_off(node, ends, seen)
    narrower = search.seen([node], search.ranges([node]), np.arange(1))
    began = []
    original = conditional.ascend

    def ascend(relaxation, corners, m, logits, *rest):
        began.append((m, logits))
        return original(relaxation, corners, m, logits, *rest)

    monkeypatch.setattr(conditional, "ascend", ascend)
    more, _ = ends_of(search.relaxation, ops, narrower, climbed, None)
    (m, logits), sides = began[0], conditional._Sides.of(search.relaxation, ops, narrower, None)
    former = list(zip(climbed.sides.op.tolist(), climbed.sides.place.tolist(), climbed.sides.sign.tolist(), strict=True))
    for row, side in enumerate(zip(sides.op.tolist(), sides.place.tolist(), sides.sign.tolist(), strict=True)):
        assert all((m[i][row] == climbed.m[i][former.index(side)]).all() for i in m)
        assert (logits[row] == climbed.logits[former.index(side)]).all()
    assert more is not None
    # Forms that a conjunction lacks have no weight, however often their logits are taken up again.
    assert all(torch.isfinite(v).all() for v in more.m.values())
    before = search.nodes
    search.narrow._split_off(node, more, narrower)
    assert search.nodes - before == 2 * len(more.op)


def test_a_late_search_narrows_nothing(split_off):
    _, search, _ = _searched(hard_questions.query(-1), 30)
    before = split_off[0]
    search.narrow.look(lambda _nodes, _deadline: True, lambda: 0.0)
    assert split_off[0] == before


def test_what_was_split_off_meanwhile_brings_the_deadline_nearer(split_off):
    _, search, _ = _searched(hard_questions.query(-1), 30)
    before, began, again = search.ends, [], []
    original = search.narrow.narrow
    search.narrow.narrow = lambda node, deadline: began.append(search.ends) or original(node, deadline)
    search.narrow.look(lambda _nodes, deadline: again.append(deadline) or True, lambda: None if search.ends == before else 0.0)
    assert search.ends > before
    assert set(began) == {before}
    assert again[-1] == 0.0


def test_narrowing_stops_at_a_witness(split_off):
    _, search, _ = _searched(hard_questions.query(-1), 30)
    trials = []
    original = search.narrow.narrow
    search.narrow.narrow = lambda node, deadline: trials.append(node) or original(node, deadline)
    search.narrow.look(lambda _nodes, _deadline: False, lambda: None)
    assert len(trials) <= 1


def test_the_same_search_narrows_the_same(split_off):
    one, other = (_searched(hard_questions.query(-1))[2] for _ in range(2))
    for i, tree in one.trees.items():
        assert (tree.kind == other.trees[i].kind).all()
        assert (tree.split_value == other.trees[i].split_value).all()


def test_a_round_trip_of_a_node_keeps_what_stands_there():
    _, search, _ = _searched(hard_questions.query(-1), 30)
    node = search.open[0][-1].parent
    before = node.split, node.bound, node.children, node.kind, node.leaf
    content = node.lift()
    assert (node.split, node.children, node.kind, node.logits, node.leaf) == (None, None, None, None, -1)
    node.lower(content)
    assert (node.split, node.bound, node.children, node.kind, node.leaf) == before
    assert all(child.parent is node for child in node.children)
    assert torch.is_tensor(search.open[0][-1].logits)


def test_nothing_is_narrowed_before_it_is_known_what_splits_bring(monkeypatch):
    _, search, _ = _searched(hard_questions.query(-1), 30)
    monkeypatch.setattr(Narrow, "narrow", lambda *_: pytest.fail("narrowed"))
    search.narrow.cost, search.gain = [0.0 for _ in search.narrow.cost], 0.0
    search.narrow.look(lambda _nodes, _deadline: True, lambda: None)


def test_a_limit_of_nodes_is_not_passed_by_narrowing(split_off):
    _, search, outcome = _searched(hard_questions.query(-1), 2)
    assert split_off[0] == 0
    assert not outcome.done
    assert search.nodes <= 4
