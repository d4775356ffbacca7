"""Cells of settled nodes: what is refuted holds no input, what is found lies inside, and thin ones are decided without a solver."""

from itertools import product

import numpy as np
import pytest
import torch

from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Dense, Reshape, Transpose
from bvverify.model.query import Box, Linear, Property, Query
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, UINT8, QType, Tensor
from bvverify.run import interpreter
from bvverify.search.cell import Cells
from bvverify.search.root import Root
from bvverify.search.search import Search

SMALL = QType(3, signed=True)


def network(seed, *, inputs=4, hidden=3, views=False, shift=2, qtype=SMALL):
    """Two dense layers, behind a transposed and flattened image where there are ``views``."""
    rng = np.random.default_rng(seed)
    shape = (2, inputs // 2, 1) if views else (inputs,)
    tensors, ops = [Tensor("x", shape, qtype)], []
    if views:
        ops += [Transpose("turned", 0, (1, 0, 2)), Reshape("flat", 1, (inputs,))]
        tensors += [Tensor("turned", (shape[1], 2, 1), qtype), Tensor("flat", (inputs,), qtype)]
    first = Dense.of(
        "first", len(ops), rng.integers(-8, 8, (hidden, inputs)), rng.integers(-5, 6, hidden), Staircase(ShiftHalfUp(shift), 0, 15)
    )
    last = Dense.of("last", len(ops) + 1, rng.integers(-3, 4, (2, hidden)), np.zeros(2, int), Staircase(ShiftHalfUp(0), -128, 127))
    tensors += [Tensor("first", (hidden,), UINT8), Tensor("last", (2,), INT8)]
    made = Provenance("made", "made", "made", "0" * 64)
    return Network(Input(tensors[0], (1, *shape)), (*ops, first, last), tuple(tensors), Output(len(ops) + 2, (1, 2)), made)


def prepared(net):
    """The relaxation on the whole box, every input, and its accumulators in the first dense layer."""
    shape, qtype = net.input.tensor.shape, net.input.tensor.qtype
    box = Box.of(np.full(shape, qtype.lo), np.full(shape, qtype.hi))
    root = Root.of(Query(net, box, Property((), "")), [])
    x = box.points(1 << 12)
    dense = next(op for op in net.ops if isinstance(op, Dense))
    flat = interpreter.trace(net, x)[dense.x].reshape(len(x), -1)
    return root.relaxation(), x, flat @ dense.centred.T + dense.bias


@pytest.mark.parametrize("views", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_no_input_is_where_one_was_excluded_and_found_ones_are_inside(seed, views):
    net = network(seed, views=views)
    relaxation, x, acc = prepared(net)
    (index,) = relaxation.first
    unit = relaxation.units[index]
    rng, cells = np.random.default_rng(seed), Cells(relaxation)
    lo = acc[rng.integers(len(acc), size=30)] + rng.integers(-60, 30, (30, acc.shape[1]))
    hi = lo + rng.integers(0, 60, lo.shape)
    ranges = {index: (torch.from_numpy(lo[:, unit.keep]), torch.from_numpy(hi[:, unit.keep]))}
    box = relaxation.ranges[torch.float64][0]
    cell = cells.cell(ranges, box, torch.arange(30))
    start = torch.zeros((30, len(relaxation.keep[0])), dtype=torch.float64)
    multipliers, worth = cells.refute(cell, start, None)
    really = np.array([((l <= acc) & (acc <= h)).all(axis=1).any() for l, h in zip(lo, hi, strict=True)])
    refuted = (worth > 0).numpy()
    assert not (refuted & really).any()
    assert refuted.sum() > 2
    assert really.sum() > 2
    # What the multipliers are worth, by every input.
    for row in np.flatnonzero(refuted)[:5]:
        r = multipliers[index][row].numpy()
        nearest = np.where(r > 0, hi[row][unit.keep], lo[row][unit.keep])
        assert ((acc[:, unit.keep] - nearest) @ r).min() >= float(worth[row]) - 1e-6
    points = cells.inputs(cell, start, None).numpy().reshape(-1, 30, len(relaxation.keep[0]))
    middle = relaxation.reference[0].reshape(-1)
    found = np.zeros(30, bool)
    for row, way in product(range(30), range(len(points))):
        near = (middle + points[way, row]).astype(np.int64).reshape(1, *net.input.tensor.shape)
        at = acc[(x == near).reshape(len(x), -1).all(axis=1)][0]
        found[row] |= bool(((lo[row] <= at) & (at <= hi[row])).all())
    assert not (found & ~really).any()
    assert found.sum() >= really.sum() / 2


def levels(net, x):
    return interpreter.trace(net, x[None])[-2][0]


def wide(seed):
    """96 inputs, six neurons whose levels are 128 accumulators wide."""
    return network(seed, inputs=96, hidden=6, shift=7, qtype=QType(8, signed=True))


@pytest.mark.parametrize("seed", range(3))
def test_an_input_of_given_levels_is_found_among_9_to_the_96(seed):
    """Every neuron at a level that some input has; nothing is left to split, and no solver is asked."""
    net, rng = wide(seed), np.random.default_rng(seed)
    start, weight = rng.integers(-3, 4, 96), net.ops[0].centred
    last = Dense.of("last", 1, np.eye(6, dtype=int), np.zeros(6, int), Staircase(ShiftHalfUp(0), -128, 127))
    net = Network(net.input, (net.ops[0], last), (*net.tensors[:2], Tensor("last", (6,), INT8)), Output(2, (1, 6)), net.provenance)
    wanted = levels(net, np.where(weight[0] > 0, start + 3, start - 3))
    rows = tuple(Linear.of(6, {i: sign}, sign * int(wanted[i])) for i in range(6) for sign in (1, -1))
    search = Search(Root.of(Query(net, Box.of(start - 4, start + 4), Property((rows,), "levels")), []), [0])
    outcome = search.run(None, 20_000)
    assert np.array_equal(levels(net, outcome.witness), wanted)


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_what_is_missing_may_be_a_thousandth_of_the_ranges(missing):
    """Two neurons of nearly the same weights: the second may be four below the first, and not ``missing`` more."""
    net = wide(0)
    weight = net.ops[0].centred.copy()
    weight[1] = weight[0]
    weight[1, 7] += 1
    first = Dense.of("first", 0, weight, np.zeros(6, int), net.ops[0].staircase)
    net = Network(net.input, (first, net.ops[1]), net.tensors, net.output, net.provenance)
    box = Box.of(np.full(96, -4), np.full(96, 4))
    relaxation = Root.of(Query(net, box, Property((), "")), []).relaxation()
    cells, unit = Cells(relaxation), relaxation.units[0]
    lo, hi = (torch.full((1, 6), end) for end in (-4000, 4000))
    lo[0, 0], hi[0, 1] = 500, 500 - 4 - missing
    cell = cells.cell({0: (lo[:, unit.keep], hi[:, unit.keep])}, relaxation.ranges[torch.float64][0], torch.arange(1))
    _, worth = cells.refute(cell, torch.zeros((1, len(relaxation.keep[0])), dtype=torch.float64), None)
    assert bool(worth[0] > 0) is (missing > 0)
