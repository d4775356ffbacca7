"""Forests and claims as the kernel reads them: accepted where ``scalar_kernel`` finds no leaf that fails and nowhere else."""

import dataclasses
import re
from fractions import Fraction

import numpy as np
import pytest
import random_networks
import scalar_kernel

from bvverify.certify import kernel, ranges
from bvverify.model.certificate import INPUT, Certificate, Forest, Kind, Multipliers, Statement, Tightening, units
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Dense
from bvverify.model.query import Box, Linear, Property, Query
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import QType, Tensor, frozen_array
from bvverify.run import interpreter

KINDS = [("dense",), ("conv", "max"), ("add",), ("table",), ("mean", "concat"), ("transpose", "clamp"), None, None]


def _ints(*values):
    return np.array(values, np.int64)


def _forest(kinds, splits=(), weight=(), multipliers=None, width=1):
    ops_, units_, values = (_ints(*column) for column in zip(*splits, strict=True)) if splits else (_ints(), _ints(), _ints())
    weight = np.array(weight, np.int64).reshape(len(weight), -1 if len(weight) else width)
    return Forest(_ints(*kinds), ops_, units_, values, weight, multipliers or Multipliers(len(weight), {}, {}))


def _check(query, forest, tightenings=()):
    return kernel.check(Certificate(Statement.of(query), tuple(tightenings), forest), query)


class Random:
    """A question about a random network, and a forest for it that may or may not prove it."""

    def __init__(self, seed):
        rng = self.rng = np.random.default_rng(seed)
        self.network = random_networks.network(rng, KINDS[seed % len(KINDS)])
        box = random_networks.box(rng, self.network)
        x = random_networks.points(box)
        y = interpreter.run(self.network, x).reshape(len(x), -1)
        self.whole = ranges.propagate(ranges.Frame(self.network), box.lo[None], box.hi[None], {})
        # Bounds near the least value of each row: leaves hold here and fail there.
        self.x, self.y, self.slack = x.reshape(len(x), -1), y, int(rng.integers(1, 12))
        violation = tuple(tuple(self._linear() for _ in range(rng.integers(1, 4))) for _ in range(rng.integers(1, 4)))
        self.query = Query(self.network, box, Property(violation, "random"))
        self.forest = self._grown()

    def _linear(self):
        rng = self.rng
        c = rng.integers(-2, 3, self.network.output_tensor.size)
        over = rng.integers(-1, 2, self.x.shape[1]) if rng.integers(2) else None
        value = self.y @ c + (0 if over is None else self.x @ over)
        return Linear(frozen_array(c, np.int64), int(value.min()) - self.slack, None if over is None else frozen_array(over, np.int64))

    def _grown(self):
        rng, kinds, splits = self.rng, [], []

        def grow(depth):
            if depth and rng.integers(3):
                op = int(rng.choice([INPUT, *(i for i in self.whole.acc if units(self.network, i))]))
                lo, hi = (self.query.box.lo, self.query.box.hi) if op == INPUT else self.whole.acc[op]
                unit = int(rng.integers(units(self.network, op)))
                kinds.append(Kind.SPLIT)
                splits.append((op, unit, int(rng.integers(lo.ravel()[unit] - 1, hi.ravel()[unit] + 1))))
                grow(depth - 1)
                grow(depth - 1)
            else:
                kinds.append(Kind(int(rng.choice([Kind.INTERVAL, Kind.BOUND, Kind.SOLVER], p=[0.3, 0.6, 0.1]))))

        for _ in self.query.property.violation:
            grow(3)
        leaves, width = kinds.count(Kind.BOUND), max(len(c) for c in self.query.property.violation)
        weight = np.zeros((leaves, width), np.int64)
        row, tree, open_ = 0, 0, 1
        for kind in kinds:
            if kind == Kind.BOUND:
                weight[row, : len(self.query.property.violation[tree])] = rng.integers(0, 3, len(self.query.property.violation[tree]))
                row += 1
            open_ += 1 if kind == Kind.SPLIT else -1
            if not open_:
                tree, open_ = tree + 1, 1
        some = [op for op in self.whole.acc if units(self.network, op) and rng.integers(2)]
        values = {op: rng.integers(-3, 4, (leaves, units(self.network, op))) for op in some}
        return _forest(kinds, splits, weight, Multipliers(leaves, values, {op: int(rng.integers(0, 3)) for op in some}), width)


@pytest.mark.parametrize("seed", range(120))
def test_a_forest_is_accepted_where_every_leaf_holds_and_nowhere_else(seed):
    case = Random(seed)
    failing = scalar_kernel.failing(scalar_kernel.Net(case.network), case.query, case.forest, case.whole.opaque)
    kinds = case.forest.kind.tolist()
    if not failing:
        report = _check(case.query, case.forest)
        counts = [kinds.count(k) for k in (Kind.SPLIT, Kind.INTERVAL, Kind.BOUND, Kind.SOLVER)]
        assert [report.splits, report.interval_leaves, report.bound_leaves, report.solver_leaves] == counts
        assert report.claims == 0
        return
    with pytest.raises(kernel.Rejected) as caught:
        _check(case.query, case.forest)
    node = int(re.search(r"node (\d+)", str(caught.value)).group(1))
    # Intervals are looked at first.
    assert (node, True) == min(((n, True) for n, bound in failing if bound is None), default=(failing[0][0], True))
    proved = dict(failing)[node]
    if proved is None:
        assert "intervals do not exclude conjunction" in str(caught.value)
    else:
        assert f"is bounded by {float(proved):.6g} only, not above zero" in str(caught.value)


def test_both_outcomes_occur():
    outcomes = [
        bool(scalar_kernel.failing(scalar_kernel.Net(c.network), c.query, c.forest, c.whole.opaque)) for c in map(Random, range(120))
    ]
    assert 20 < sum(outcomes) < 100


# -- one input that is its own output: what a forest says can be read off ------------------------------------------------------------


def _identity(inputs=1, classes=1):
    tensors = Tensor("x", (inputs,), QType(8, True)), Tensor("y", (classes,), QType(9, True))
    weight = np.eye(classes, inputs, dtype=np.int64)
    op = Dense.of("same", 0, weight, np.zeros(classes, np.int64), Staircase(ShiftHalfUp(0), -200, 200))
    made = Provenance("made", "made", "made", "0" * 64)
    return Network(Input(tensors[0], (1, inputs)), (op,), tensors, Output(1, (1, classes)), made)


def _at_most(bound, sign=1, inputs=None):
    return Linear(frozen_array([sign], np.int64), bound, None if inputs is None else frozen_array([inputs], np.int64))


def _exactly(value):
    """Violated by y = value alone."""
    return (_at_most(value), _at_most(-value, -1))


def _asked(*conjunctions, lo=0, hi=10):
    return Query(_identity(), Box.of(_ints(lo), _ints(hi)), Property(conjunctions, "made"))


LEAF = Kind.INTERVAL


@pytest.mark.parametrize("op", [INPUT, 0])
@pytest.mark.parametrize("value", range(11))
def test_the_two_parts_of_a_split_touch(op, value):
    """Whichever value violates, the part that holds it cannot be closed; every other can."""
    for split in (0, 4, 5, 9):
        query = _asked(_exactly(value))
        with pytest.raises(
            kernel.Rejected, match=rf"the forest, node {1 if value <= split else 2}: intervals do not exclude conjunction 0"
        ):
            _check(query, _forest([Kind.SPLIT, LEAF, LEAF], [(op, 0, split)]))
    nested = _forest([Kind.SPLIT, Kind.SPLIT, LEAF, LEAF, Kind.SPLIT, LEAF, LEAF], [(op, 0, 5), (op, 0, 2), (op, 0, 8)])
    node = 2 if value <= 2 else 3 if value <= 5 else 5 if value <= 8 else 6
    with pytest.raises(kernel.Rejected, match=f"node {node}: "):
        _check(_asked(_exactly(value)), nested)


def test_a_split_inside_the_second_part_keeps_both_limits():
    for value in (4, 5, 6, 7):
        deep = _forest([Kind.SPLIT, LEAF, Kind.SPLIT, Kind.SPLIT, LEAF, LEAF, LEAF], [(0, 0, 3), (0, 0, 6), (0, 0, 4)])
        with pytest.raises(kernel.Rejected, match=f"node {4 if value == 4 else 5 if value <= 6 else 6}: "):
            _check(_asked(_exactly(value)), deep)
        assert _check(_asked(_exactly(value), lo=0, hi=3), deep).splits == 3


LIMITED = {
    # Forests whose leaves in one chunk differ in one limit only, since the other parts are left to a solver: (splits and kinds, limits).
    "upper": ([Kind.SPLIT, LEAF, Kind.SOLVER], lambda v: (0, v)),
    "lower": ([Kind.SPLIT, Kind.SOLVER, LEAF], lambda v: (v + 1, 10)),
}


@pytest.mark.parametrize("first", range(0, 10, 3))
@pytest.mark.parametrize("second", range(0, 10, 3))
@pytest.mark.parametrize("third", range(0, 10, 4))
@pytest.mark.parametrize("side", LIMITED)
def test_leaves_that_differ_in_one_limit_are_not_taken_for_one(first, second, third, side):
    kinds, limits = LIMITED[side]
    for value in (1, 4, 7, 9):
        query = _asked(*(_exactly(value) for _ in range(3)))
        forest = _forest(kinds * 3, [(0, 0, v) for v in (first, second, third)])
        left = [i for i, v in enumerate((first, second, third)) if limits(v)[0] <= value <= limits(v)[1]]
        if left:
            with pytest.raises(
                kernel.Rejected, match=f"node {3 * left[0] + kinds.index(LEAF)}: intervals do not exclude conjunction {left[0]}"
            ):
                _check(query, forest)
        else:
            assert _check(query, forest).solver_leaves == 3


def test_leaves_of_which_one_is_a_single_value_are_not_taken_for_one():
    """Limits lo .. hi of two leaves that agree at one end, where the first leaf has one value."""
    kinds = [Kind.SPLIT, Kind.SOLVER, Kind.SPLIT, LEAF, Kind.SOLVER]
    for (a, b), value, holds in (((3, 9), 5, False), ((0, 3), 1, False), ((3, 9), 2, True), ((0, 3), 4, True)):
        query = _asked(_exactly(20), _exactly(value))
        forest = _forest(kinds * 2, [(0, 0, 2), (0, 0, 3), (0, 0, a - 1), (0, 0, b)])
        if holds:
            assert _check(query, forest).interval_leaves == 2
        else:
            with pytest.raises(kernel.Rejected, match="node 8: intervals do not exclude conjunction 1"):
                _check(query, forest)


@pytest.mark.parametrize(("value", "holds"), [(4, False), (5, True)])
def test_a_leaf_with_limits_alone_in_its_forest(value, holds):
    query, forest = _asked(_exactly(value)), _forest([Kind.SPLIT, LEAF, Kind.SOLVER], [(0, 0, 4)])
    if holds:
        assert _check(query, forest).interval_leaves == 1
    else:
        with pytest.raises(kernel.Rejected, match="node 1: "):
            _check(query, forest)


def test_more_leaves_than_are_looked_at_at_once():
    """A chain of splits, each value in a leaf of its own, over more values than a chunk has rows; one of them is the violated one."""
    many = list(range(-128, 127))
    kinds = [k for _ in many for k in (Kind.SPLIT, LEAF)] + [LEAF]
    splits = [(INPUT, 0, v) for v in many]
    trees = _forest(kinds * 3, splits * 3)
    fine = _asked(*(_exactly(150) for _ in range(3)), lo=-128, hi=127)
    assert _check(fine, trees).interval_leaves == 3 * 256
    for tree in range(3):
        for value in (-128, -127, 0, 126, 127):
            conjunctions = [_exactly(150)] * 3
            conjunctions[tree] = _exactly(value)
            node = len(kinds) * tree + (2 * (value + 128) + 1 if value < 127 else len(kinds) - 1)
            with pytest.raises(kernel.Rejected, match=f"node {node}: "):
                _check(_asked(*conjunctions, lo=-128, hi=127), trees)


class TestTheEdgeOfABound:
    """Zero is not above zero; a half is."""

    @pytest.mark.parametrize(("bound", "holds"), [(-2, True), (-1, True), (0, False), (1, False), (2, False)])
    def test_of_bound_leaves(self, bound, holds):
        query = _asked((_at_most(bound),))
        forest = _forest([Kind.BOUND], weight=[[1]])
        if holds:
            assert _check(query, forest).bound_leaves == 1
        else:
            with pytest.raises(kernel.Rejected, match=f"conjunction 0 is bounded by {-bound} only"):
                _check(query, forest)

    @pytest.mark.parametrize(("bound", "holds"), [(-1, True), (0, False)])
    def test_of_interval_leaves(self, bound, holds):
        query, forest = _asked((_at_most(bound),)), _forest([LEAF])
        if holds:
            assert _check(query, forest).interval_leaves == 1
        else:
            with pytest.raises(kernel.Rejected, match="intervals do not exclude"):
                _check(query, forest)

    def test_a_fraction_above_zero_is_above_zero_and_named(self):
        query = _asked((_at_most(0),), lo=1, hi=3)
        thirds = Multipliers(1, {0: _ints(1).reshape(1, 1)}, {0: 2})
        # y - x/4 + x/4: at most levels y = 1 .. 3 of which the first costs nothing.
        assert _check(query, _forest([Kind.BOUND], weight=[[1]], multipliers=thirds)).bound_leaves == 1
        low = _asked((_at_most(1),), lo=1, hi=3)
        with pytest.raises(kernel.Rejected) as caught:
            _check(low, _forest([Kind.BOUND], weight=[[1]], multipliers=Multipliers(1, {0: _ints(-3).reshape(1, 1)}, {0: 2})))
        (failing,) = scalar_kernel.failing(
            scalar_kernel.Net(low.network),
            low,
            _forest([Kind.BOUND], weight=[[1]], multipliers=Multipliers(1, {0: _ints(-3).reshape(1, 1)}, {0: 2})),
            frozenset(),
        )
        assert failing[1].denominator > 1
        assert f"bounded by {float(failing[1]):.6g} only" in str(caught.value)


class TestRowWeights:
    @pytest.mark.parametrize(
        "weight", [[[-1, 5]], [[-1, -1]], [[5, -1]], [[1]], [[1, 1, 1]], [[0, 0, 2]], [[1, 1, 0, -1]]], ids=lambda w: str(w[0])
    )
    def test_one_non_negative_number_a_row(self, weight):
        query = _asked((_at_most(-3), _at_most(-3)))
        with pytest.raises(kernel.Rejected, match="row weights are not one non-negative number a row"):
            _check(query, _forest([Kind.BOUND], weight=weight))

    def test_zeros_for_the_rows_of_longer_conjunctions(self):
        query = _asked((_at_most(-3),), (_at_most(5), _at_most(-3)))
        assert _check(query, _forest([Kind.BOUND, Kind.BOUND], weight=[[1, 0], [0, 1]])).bound_leaves == 2
        with pytest.raises(kernel.Rejected, match="node 1: conjunction 1 is bounded by -5"):
            _check(query, _forest([Kind.BOUND, Kind.BOUND], weight=[[1, 0], [1, 0]]))

    def test_the_row_of_a_leaf_is_its_place_among_the_bound_leaves(self):
        query = _asked((_at_most(-3),), (_at_most(-3), _at_most(5)), (_at_most(5), _at_most(-3)))
        forest = _forest([LEAF, Kind.BOUND, Kind.BOUND], weight=[[1, 0], [0, 1]])
        assert _check(query, forest).bound_leaves == 2
        with pytest.raises(kernel.Rejected, match="node 1: conjunction 1 is bounded by -5"):
            _check(query, dataclasses.replace(forest, weight=forest.weight[::-1].copy()))

    def test_without_any_weight_only_an_empty_part_is_closed(self):
        with pytest.raises(kernel.Rejected, match="bounded by 0 only"):
            _check(_asked((_at_most(-3),)), _forest([Kind.BOUND], weight=[[0]]))
        # No input is left in either part: 20 is beyond the box.
        empty = _forest([Kind.SPLIT, LEAF, Kind.BOUND], [(INPUT, 0, 20)], weight=[[0]])
        assert _check(_asked((_at_most(-3),)), empty).bound_leaves == 1


class TestTheShapeOfAForest:
    def test_kinds_that_nobody_knows(self):
        with pytest.raises(kernel.Rejected, match="the forest, node 2: an unknown kind 7"):
            _check(_asked((_at_most(-3),)), _forest([Kind.SPLIT, LEAF, 7], [(0, 0, 4)]))

    @pytest.mark.parametrize(
        ("kinds", "splits", "complaint"),
        [
            ([], (), "a leaf is missing in tree 0 of 2"),
            ([LEAF], (), "a leaf is missing in tree 1 of 2"),
            ([LEAF, Kind.SPLIT, LEAF], [(0, 0, 4)], "a leaf is missing in tree 1 of 2"),
            ([LEAF, LEAF, LEAF], (), "node 2: more trees than the violation has conjunctions"),
        ],
    )
    def test_trees_that_are_not_one_a_conjunction(self, kinds, splits, complaint):
        with pytest.raises(kernel.Rejected, match=complaint):
            _check(_asked((_at_most(-3),), (_at_most(-3),)), _forest(kinds, splits))

    def test_a_forest_of_solver_leaves_alone(self):
        report = _check(_asked((_at_most(5),), (_at_most(3),)), _forest([Kind.SOLVER, Kind.SOLVER]))
        assert (report.complete, report.solver_leaves, report.interval_leaves) == (False, 2, 0)

    def test_rows_over_the_input(self):
        """y - x <= -1 never holds, but intervals of y and x apart cannot tell; the multiplier can."""
        query = _asked((_at_most(-1, 1, -1),))
        with pytest.raises(kernel.Rejected, match="intervals do not exclude"):
            _check(query, _forest([LEAF]))
        same = Multipliers(1, {0: _ints(1).reshape(1, 1)}, {0: 0})
        assert _check(query, _forest([Kind.BOUND], weight=[[1]], multipliers=same)).bound_leaves == 1
        with pytest.raises(kernel.Rejected, match="bounded by -9 only"):
            _check(query, _forest([Kind.BOUND], weight=[[1]]))

    def test_one_of_two_inputs_in_a_row(self):
        row = Linear(frozen_array([1, 1], np.int64), -1, frozen_array([0, -1], np.int64))
        query = Query(_identity(2, 2), Box.of(_ints(0, 0), _ints(10, 10)), Property(((row,),), "made"))
        same = Multipliers(1, {0: _ints(0, 1).reshape(1, 2)}, {0: 0})
        assert _check(query, _forest([Kind.BOUND], weight=[[1]], multipliers=same)).bound_leaves == 1


# -- claims --------------------------------------------------------------------------------------------------------------------------


def _claim(op, units_, upper, claim, multipliers=None):
    return Tightening(op, _ints(*units_), np.array(upper, bool), _ints(*claim), multipliers or Multipliers(len(units_), {}, {}))


class TestClaims:
    """Each claim follows from the box and what was claimed before, or is named."""

    QUERY = Query(
        _identity(3, 3),
        Box.of(_ints(0, -5, 7), _ints(10, 4, 9)),
        Property(((Linear(frozen_array([1, 0, 0], np.int64), -1, None),),), "made"),
    )
    FOREST = _forest([LEAF])

    def _check(self, *claims):
        return _check(self.QUERY, self.FOREST, claims)

    def test_at_the_ends_of_the_range(self):
        both = _claim(0, [0, 0, 1, 1, 2, 2], [False, True] * 3, [0, 10, -5, 4, 7, 9])
        assert self._check(both).claims == 6

    @pytest.mark.parametrize("row", range(6))
    def test_one_further_is_named(self, row):
        claims, upper = [0, 10, -5, 4, 7, 9], [False, True] * 3
        true = claims[row]
        claims[row] += -1 if upper[row] else 1
        end = "most" if upper[row] else "least"
        wrong = f"tightening 0, same, unit {row // 2}: claims at {end} {claims[row]}, its multipliers prove {true}$"
        with pytest.raises(kernel.Rejected, match=wrong):
            self._check(_claim(0, [0, 0, 1, 1, 2, 2], upper, claims))

    def test_the_first_of_two_wrong_ones_is_named(self):
        with pytest.raises(kernel.Rejected, match="unit 1: claims at least -4, its multipliers prove -5"):
            self._check(_claim(0, [0, 1, 2], [False, False, True], [0, -4, 8]))
        with pytest.raises(kernel.Rejected, match="tightening 1, same, unit 2"):
            self._check(_claim(0, [0], [False], [0]), _claim(0, [2], [True], [8]))

    def test_no_claims_at_all(self):
        assert self._check(_claim(0, [], [], []), _claim(0, [1], [True], [4])).claims == 1

    def test_more_claims_than_are_looked_at_at_once(self):
        rows = 600
        upper = np.arange(rows) % 2 == 0
        units_ = np.arange(rows) % 3
        claims = np.where(upper, _ints(10, 4, 9)[units_], _ints(0, -5, 7)[units_])
        assert self._check(_claim(0, units_, upper, claims)).claims == rows
        for row in (0, 255, 256, 511, 512, 599):
            wrong = claims.copy()
            wrong[row] += -1 if upper[row] else 1
            with pytest.raises(kernel.Rejected, match=f"unit {units_[row]}: .* {wrong[row]}, .* prove {claims[row]}$"):
                self._check(_claim(0, units_, upper, wrong))


@pytest.mark.parametrize("seed", range(30))
def test_a_claim_is_accepted_up_to_what_its_multipliers_prove(seed):
    """Of a second layer, with multipliers of the first and claims about it before; the least integer above the bound, and none beyond."""
    rng = np.random.default_rng(seed)
    tensors = Tensor("x", (3,), QType(8, True)), Tensor("h", (4,), QType(8, True)), Tensor("y", (2,), QType(8, True))
    first = Dense.of("first", 0, rng.integers(-9, 10, (4, 3)), rng.integers(-9, 10, 4), Staircase(ShiftHalfUp(2), -9, 9))
    second = Dense.of("second", 1, rng.integers(-9, 10, (2, 4)), rng.integers(-9, 10, 2), Staircase(ShiftHalfUp(2), -100, 100))
    network = Network(Input(tensors[0], (1, 3)), (first, second), tensors, Output(2, (1, 2)), Provenance("made", "made", "made", "0" * 64))
    lo = rng.integers(-9, 5, 3)
    box = Box.of(lo, lo + rng.integers(0, 6, 3))
    query = Query(network, box, Property(((Linear(frozen_array([1, 0], np.int64), -101, None),),), "made"))
    net = scalar_kernel.Net(network)
    held = scalar_kernel.ranges(net, box.lo.tolist(), box.hi.tolist(), {})
    before = _claim(0, np.arange(4), [False] * 4, [l for l, _ in held[1][0]])
    exponent = int(rng.integers(-1, 6))
    values = rng.integers(-40, 41, (4, 4))
    upper, units_ = [False, True, False, True], [0, 0, 1, 1]
    sign = [-1 if u else 1 for u in upper]
    bounds = []
    for row in range(4):
        weights, constant = net.linear[1][units_[row]]
        form = [Fraction(0)] * 4
        for (_, j), w in weights.items():
            form[j] += sign[row] * w
        m = {0: [Fraction(int(v)) / Fraction(2) ** exponent for v in values[row]]}
        bounds.append(sign[row] * constant + scalar_kernel.lower(net, held, {1: form}, m))
    proved = [sign[row] * -((-b).__floor__()) for row, b in enumerate(bounds)]
    multipliers = Multipliers(4, {0: values}, {0: exponent})
    assert _check(query, _forest([LEAF]), [before, _claim(1, units_, upper, proved, multipliers)]).claims == 8
    for row in range(4):
        beyond = list(proved)
        beyond[row] += sign[row]
        end = "most" if upper[row] else "least"
        wrong = f"tightening 1, second, unit {units_[row]}: claims at {end} {beyond[row]}, .* prove {proved[row]}$"
        with pytest.raises(kernel.Rejected, match=wrong):
            _check(query, _forest([LEAF]), [before, _claim(1, units_, upper, beyond, multipliers)])


def test_a_claim_holds_for_what_comes_after_it():
    """h = x0 - x1 clamped; y = h + x... a claim about the first layer that its range alone does not give closes the forest."""
    tensors = Tensor("x", (1,), QType(8, True)), Tensor("h", (2,), QType(8, True)), Tensor("y", (1,), QType(9, True))
    first = Dense.of("first", 0, _ints(1, 1).reshape(2, 1), _ints(0, 0), Staircase(ShiftHalfUp(0), -100, 100))
    second = Dense.of("second", 1, _ints(1, -1).reshape(1, 2), _ints(0), Staircase(ShiftHalfUp(0), -200, 200))
    network = Network(Input(tensors[0], (1, 1)), (first, second), tensors, Output(2, (1, 1)), Provenance("made", "made", "made", "0" * 64))
    query = Query(network, Box.of(_ints(-7), _ints(9)), Property(((_at_most(-1),),), "made"))
    # The difference of two equal numbers is 0: with multipliers 1 and -1 on them, exactly.
    both = Multipliers(2, {0: np.array([[1, -1], [-1, 1]])}, {0: 0})
    zero = _claim(1, [0, 0], [False, True], [0, 0], both)
    with pytest.raises(kernel.Rejected, match="intervals do not exclude"):
        _check(query, _forest([LEAF]))
    assert _check(query, _forest([LEAF]), [zero]).claims == 2
    # And for every claim after it: without multipliers, from the first one.
    again = _claim(1, [0], [False], [0])
    with pytest.raises(kernel.Rejected, match=r"tightening 1, second, unit 0: claims at least 0, its multipliers prove -16"):
        _check(query, _forest([LEAF]), [zero, again])
