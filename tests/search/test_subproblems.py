"""No value of any input lies outside what the search and the kernel believe of the part of the box that holds it."""

import numpy as np
import pytest
import random_networks
import units

from bvverify.certify.ranges import propagate
from bvverify.run import interpreter
from bvverify.search.root import Root, tighten
from bvverify.search.search import Search


def _searched(seed, most_nodes):
    query, _ = random_networks.question(seed)
    root = Root.of(query, [])
    tighten(root, None)
    search = Search(root, list(range(len(query.property.violation))))
    search.run(None, most_nodes)
    return query, root, search


def path(search, root, conjunction, accumulators, point):
    """The nodes from a conjunction's root to the leaf that holds one point, by the point's own accumulators."""
    node = search.trees[conjunction]
    nodes = [node]
    while node.children is not None:
        op, unit, value = node.split
        node = node.children[int(accumulators[op][point, unit] > value)]
        nodes.append(node)
    return nodes


@pytest.mark.parametrize("block", range(4))
def test_points_lie_inside_every_subproblem_on_their_way(block):
    rng = np.random.default_rng(block)
    triples, deepest = 0, 0
    for seed in range(50_000 + block * 60, 50_060 + block * 60):
        query, root, search = _searched(seed, 60)
        if search.nodes < 6:
            continue
        x = random_networks.points(query.box)
        x = x[rng.permutation(len(x))[:40]]
        tensors = interpreter.trace(query.network, x)
        acc = units.accumulators(query.network, tensors)
        for conjunction in search.trees:
            for point in range(len(x)):
                nodes = path(search, root, conjunction, acc, point)
                deepest = max(deepest, len(nodes))
                ranges = propagate(root.frame, query.box.lo[None], query.box.hi[None], search.limits(nodes), root.ranges.opaque)
                assert not ranges.empty.any()
                for lo, hi, tensor in zip(ranges.lo, ranges.hi, tensors, strict=True):
                    assert (lo <= tensor[point]).all()
                    assert (tensor[point] <= hi).all()
                    triples += len(nodes)
                for op, (lo, hi) in ranges.acc.items():
                    assert (lo <= acc[op][point]).all()
                    assert (acc[op][point] <= hi).all()
    assert triples > 1000
    assert deepest > 5


def test_a_closed_leaf_holds_no_violation():
    """Every point that violates ends in a node that is open."""
    met = 0
    for seed in range(60_000, 60_080):
        query, root, search = _searched(seed, 40)
        x = random_networks.points(query.box)
        tensors = interpreter.trace(query.network, x)
        y = tensors[query.network.output.tensor].reshape(len(x), -1)
        acc = units.accumulators(query.network, tensors)
        for conjunction in search.trees:
            rows = query.property.violation[conjunction]
            hit = np.all([row.value(x.reshape(len(x), -1), y) <= row.bound for row in rows], axis=0)
            for point in np.flatnonzero(hit)[:20]:
                met += 1
                assert path(search, root, conjunction, acc, point)[-1].kind is None
    assert met > 20
