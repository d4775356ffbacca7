"""A leaf that no longer holds, since ranges above it became narrower, is found and bounded again, and is in no sample of the proof."""

import hard_questions
import numpy as np

from bvverify.certify import kernel
from bvverify.model.certificate import Kind
from bvverify.search import narrow, proof
from bvverify.search.node import Node, moved_leaves, open_leaves, preorder
from bvverify.search.root import Root, tighten
from bvverify.search.search import Search


def _grown(seed=0):
    query = hard_questions.query(-1, seed)
    root = Root.of(query, [])
    tighten(root, None)
    return query, root, Search(root, range(len(query.property.violation)))


def _spoil(search, every):
    """Multipliers of some leaves made useless, as if a range had moved; how many."""
    spoiled = [n for tree in search.trees.values() for n in preorder(tree) if n.kind is Kind.BOUND][::every]
    for leaf in spoiled:
        batch = int(np.searchsorted(np.cumsum([len(w) for w in search.leaves.weights]), leaf.leaf, side="right"))
        row = leaf.leaf - sum(len(w) for w in search.leaves.weights[:batch])
        for values in search.leaves.multipliers[batch].values():
            values[row] = 0
    for tree in search.trees.values():
        search.narrowed_at(tree)
    return len({n.number for n in spoiled})


def test_they_are_bounded_again_and_the_proof_is_whole():
    query, root, search = _grown()
    search.run(None)
    assert _spoil(search, 3) > 5
    again = search.broken(16)
    assert len(again) > 5
    assert len({id(node) for node in again}) == len(again)
    search._bound_again(again, None)
    outcome = search.run(None)
    assert outcome.trees is not None
    made = proof.certificate(query, root.tightenings, [outcome.trees[i] for i in sorted(outcome.trees)])
    kernel.check(made, query)
    assert search.broken(16) == []


def _split(parent, *kinds):
    """A node's parts: leaves with these numbers, or None for one that is open."""
    parent.kind = Kind.SPLIT
    parent.children = tuple(Node(0, parent, 0, kind=None if n is None else Kind.BOUND, leaf=-1 if n is None else n) for n in kinds)
    return parent.children


def test_what_was_closed_after_ranges_above_it_became_narrower_is_not_tried_again():
    root = Node(1, None, 0)
    _, right = _split(root, 2, None)
    below, other = _split(right, None, 9)
    early, late = _split(below, 4, 12)
    assert list(moved_leaves(root)) == []
    right.moved = 10
    assert set(moved_leaves(root)) == {other, early}
    below.moved = 13
    assert set(moved_leaves(root)) == {other, early, late}
    shared = Node(7, None, 0, same=early)
    assert list(moved_leaves(shared)) == []
    shared.same, early.moved = below, 5
    assert set(moved_leaves(shared)) == {early, late}


def test_ends_are_tried_again_even_where_narrowing_closed_the_node(monkeypatch):
    monkeypatch.setattr(narrow, "_SAMPLE", 1 << 30)
    for seed in range(12):
        _, _, search = _grown(seed)
        search.run(None, 8)
        for *_, node in list(search.open):
            if node.m and not node.stuck and node.kind is None:
                before = search.leaves.count
                search.narrow.narrow(node, None)
                ends = search.leaves.count - before
                if node.kind is Kind.SPLIT and not list(open_leaves(node)) and ends > 2:
                    assert search.moved
                    numbers = {leaf.leaf for leaf in moved_leaves(node)}
                    assert numbers == {n.leaf for n in preorder(node) if n.kind is Kind.BOUND}
                    return
    raise AssertionError("narrowing closed no node")


def test_a_sample_leaves_them_out():
    query, root, search = _grown()
    search.run(None)
    before = sum(int((tree.kind == Kind.BOUND).sum()) for tree in search.sample(10**6).values())
    spoiled = _spoil(search, 3)
    trees = search.sample(10**6)
    assert sum(int((tree.kind == Kind.BOUND).sum()) for tree in trees.values()) <= before - spoiled
    kernel.check(proof.certificate(query, root.tightenings, [trees[i] for i in sorted(trees)]), query)
