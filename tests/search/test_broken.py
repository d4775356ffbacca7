"""A leaf that no longer holds, since ranges above it became narrower, is found and bounded again, and is in no sample of the proof."""

import hard_questions
import numpy as np

from bvverify.certify import kernel
from bvverify.model.certificate import Kind
from bvverify.search import proof
from bvverify.search.node import preorder
from bvverify.search.root import Root, tighten
from bvverify.search.search import Search


def _grown():
    query = hard_questions.query(-1)
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
    search.moved = True
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


def test_a_sample_leaves_them_out():
    query, root, search = _grown()
    search.run(None)
    before = sum(int((tree.kind == Kind.BOUND).sum()) for tree in search.sample(10**6).values())
    spoiled = _spoil(search, 3)
    trees = search.sample(10**6)
    assert sum(int((tree.kind == Kind.BOUND).sum()) for tree in trees.values()) <= before - spoiled
    kernel.check(proof.certificate(query, root.tightenings, [trees[i] for i in sorted(trees)]), query)
