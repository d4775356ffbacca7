"""Where two operations can part: no more and no less than on the values and accumulators that occur; all of it where they are unlike."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from bvverify.bounds import interval
from bvverify.bounds.interval import Range
from bvverify.compare import agreement
from bvverify.compare.agreement import gaps, may_part, meets, same_accumulator, staircase_of
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv2d,
    Dense,
    FmaAdd,
    Lookup,
    MaxPool,
    Reshape,
    SequentialFloat32,
    SumThenRequantise,
    Transpose,
    Window,
)
from bvverify.model.query import Box
from bvverify.model.requant import Float32HalfEven
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, QType, Tensor
from bvverify.run import interpreter


def steep(rng, channels=1, lo=-3, hi=3):
    return Staircase(Float32HalfEven(rng.uniform(0.1, 0.4, channels).astype(np.float32), int(rng.integers(-1, 2))), lo, hi)


def value(staircase, channel, acc):
    row = channel if len(staircase.thresholds) > 1 else 0
    return staircase.lo + int((staircase.thresholds[row] <= acc).sum())


@pytest.mark.parametrize("seed", range(12))
def test_gaps_are_where_two_staircases_differ(seed):
    rng = np.random.default_rng(seed)
    one = steep(rng, int(rng.choice([1, 2])), -int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    other = steep(rng, int(rng.choice([1, 2])), -int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    first, last = gaps(one, other)
    for channel, acc in product(range(2), range(-60, 61)):
        row = channel if len(first) > 1 else 0
        inside = bool(((first[row] <= acc) & (acc <= last[row])).any())
        assert inside == (value(one, channel, acc) != value(other, channel, acc))


@pytest.mark.parametrize("seed", range(12))
def test_a_range_meets_a_gap_where_the_staircases_differ_in_it(seed):
    rng = np.random.default_rng(seed)
    one, other = steep(rng, int(rng.choice([1, 2]))), steep(rng, int(rng.choice([1, 2])))
    lo = rng.integers(-30, 30, (2, 5, 2))
    acc = Range(lo, lo + rng.integers(0, 6, lo.shape))
    expected = np.zeros(lo.shape, bool)
    for place in np.ndindex(*lo.shape):
        reach = range(acc.lo[place], acc.hi[place] + 1)
        expected[place] = any(value(one, place[0], a) != value(other, place[0], a) for a in reach)
    assert np.array_equal(meets(one, other, acc), expected)
    assert expected.any()
    assert not expected.all()


def test_what_can_wrap_may_be_anything():
    lo, hi = np.array([-129, -128, 0, 5, -500, -128]), np.array([0, 127, 128, 5, 500, 3])
    wrapped = agreement._wrapped(Range(lo, hi), 8)
    assert wrapped.lo.tolist() == [-128, -128, -128, 5, -128, -128]
    assert wrapped.hi.tolist() == [127, 127, 127, 5, 127, 3]
    same = agreement._wrapped(Range(lo, hi), None)
    assert (same.lo is lo, same.hi is hi) == (True, True)


NIBBLE, ONE = QType(4, signed=True), Window((1, 1))
DILATED = Window((1, 1), (1, 1), (0, 0, 0, 0), (2, 2))
"""Another window, which sees the same."""


def network(op, *, shape=(2, 2, 2), qtype=NIBBLE, out=None, qout=INT8):
    """One operation behind the input and, as tensor 1, the input's negative."""
    table = np.clip(-np.arange(qtype.lo, qtype.hi + 1), qtype.lo, qtype.hi)
    tensors = [Tensor("x", shape, qtype), Tensor("negative", shape, qtype), Tensor("y", shape if out is None else out, qout)]
    ops = (Lookup("negative", 0, qtype.lo, table), op)
    made = Provenance("a.onnx", "onnx", "one", "1" * 64)
    return Network(Input(tensors[0], (1, *shape)), ops, tuple(tensors), Output(2, (1, tensors[2].size)), made)


def parts(one, other, lo=None, hi=None, **options):
    a, b = network(one, **options), network(other, **options)
    shape, qtype = a.input.tensor.shape, a.input.tensor.qtype
    box = Box.of(np.full(shape, qtype.lo) if lo is None else lo, np.full(shape, qtype.hi) if hi is None else hi)
    return may_part(a, b, 1, interval.propagate(a, box))


def some_box(rng, shape=(2, 2, 2)):
    lo = rng.integers(-8, 8, shape)
    return lo, np.minimum(lo + rng.integers(0, 3, shape), 7)


def dense(staircase, **options):
    bias = options.pop("bias", np.array([3, -2]))
    weight = options.pop("weight", np.array([[1, 0], [0, -1]]))
    return Dense.of("op", 0, weight, bias, staircase, **options)


def convolution(staircase, **options):
    weight = options.pop("weight", np.array([1, -1]).reshape(2, 1, 1, 1))
    window, bias = options.pop("window", ONE), options.pop("bias", np.array([3, -2]))
    return Conv2d.of("op", 0, weight, bias, staircase, window=window, groups=options.pop("groups", 2), **options)


def mean(staircase, zero=0, window=ONE):
    return AvgPool("op", 0, window, SumThenRequantise(zero, staircase))


FLOAT = SequentialFloat32(-8, np.linspace(-2, 2, 16).astype(np.float32), 0.5, 1, False, -128, 127)


class TestSums:
    @pytest.mark.parametrize("make", [dense, convolution, mean])
    @pytest.mark.parametrize("seed", range(8))
    def test_elements_part_where_an_input_parts_them(self, make, seed):
        """Each element has an input of its own, so that ranges are exact."""
        rng = np.random.default_rng(seed)
        shape = (2,) if make is dense else (2, 2, 2)
        one, other = make(steep(rng)), make(steep(rng))
        lo, hi = some_box(rng, shape)
        found = parts(one, other, lo, hi, shape=shape)
        x = np.stack([np.minimum(lo + k, hi) for k in range(3)])
        differ = interpreter.evaluate(one, [x]) != interpreter.evaluate(other, [x])
        assert np.array_equal(found, differ.any(axis=0))

    @pytest.mark.parametrize("make", [dense, convolution])
    @pytest.mark.parametrize(
        "unlike",
        [{"bias": np.array([3, -1])}, {"input_zero_point": 1}, {"accumulator_bits": 16}, {"weight_zero_point": 1}],
    )
    def test_unlike_accumulators_part_everywhere(self, make, unlike):
        stairs = steep(np.random.default_rng(0))
        shape = (2,) if make is dense else (2, 2, 2)
        one, other = make(stairs), make(stairs, **unlike)
        assert same_accumulator(one, one)
        assert not same_accumulator(one, other)
        assert parts(one, other, shape=shape).all()
        assert not parts(one, one, shape=shape).any()

    def test_weights_count_as_they_are_centred(self):
        stairs = steep(np.random.default_rng(0))
        moved = dense(stairs, weight=np.array([[2, 1], [1, 0]]), weight_zero_point=1)
        assert same_accumulator(dense(stairs), moved)

    def test_windows_and_groups_count(self):
        stairs = steep(np.random.default_rng(0))
        one = convolution(stairs)
        strided = convolution(stairs, window=DILATED)
        assert not same_accumulator(one, strided)
        assert not same_accumulator(convolution(stairs, groups=1), replace(convolution(stairs, groups=1), groups=2))
        assert same_accumulator(mean(stairs), mean(stairs))
        assert not same_accumulator(mean(stairs), mean(stairs, zero=1))
        assert not same_accumulator(mean(stairs), mean(stairs, window=DILATED))

    def test_other_operations_make_no_accumulator(self):
        stairs = steep(np.random.default_rng(0))
        assert not same_accumulator(dense(stairs), convolution(stairs))
        assert not same_accumulator(convolution(stairs), mean(stairs))
        assert not same_accumulator(mean(stairs), AvgPool("op", 0, ONE, FLOAT))
        assert not same_accumulator(MaxPool("op", 0, ONE), MaxPool("op", 0, ONE))
        assert staircase_of(MaxPool("op", 0, ONE)) is None
        assert staircase_of(AvgPool("op", 0, ONE, FLOAT)) is None
        for op in (dense(stairs), convolution(stairs), mean(stairs)):
            assert staircase_of(op) is stairs
        for one, other in ((convolution(stairs), mean(stairs)), (mean(stairs), AvgPool("op", 0, ONE, FLOAT))):
            assert parts(one, other).all()
            assert parts(other, one).all()

    @pytest.mark.parametrize("make", [dense, convolution])
    def test_a_sum_that_wraps_may_land_in_any_gap(self, make):
        """Staircases that differ at 40 alone: an accumulator of 290 to 296 wraps to 34 … 40 in eight bits."""
        one, other = (Staircase(Float32HalfEven(np.array([m], np.float32), 0), 0, 1) for m in (1 / 80.5, 1 / 79.5))
        assert [t.thresholds.item() for t in (one, other)] == [41, 40]
        shape = (2,) if make is dense else (2, 2, 2)
        options = {"bias": np.array([290, 290]), "accumulator_bits": 8}
        lo, hi = np.zeros(shape, int), np.full(shape, 3)
        assert parts(make(one, **options), make(other, **options), lo, hi, shape=shape).all()
        exact = {"bias": np.array([290, 290]), "accumulator_bits": None}
        assert not parts(make(one, **exact), make(other, **exact), lo, hi, shape=shape).any()


class TestMeans:
    pool = AvgPool("op", 0, ONE, FLOAT)

    @pytest.mark.parametrize(
        "unlike",
        [
            {"values": np.linspace(-2, 3, 16).astype(np.float32)},
            {"output_scale": 0.25},
            {"zero_point": 0},
            {"count_padding": True},
            {"lo": -5},
            {"hi": 5},
        ],
    )
    def test_every_part_of_the_rule_counts(self, unlike):
        assert not parts(self.pool, self.pool).any()
        assert parts(self.pool, replace(self.pool, rule=replace(FLOAT, **unlike))).all()

    def test_the_type_counts(self):
        assert not agreement._same_means(FLOAT, replace(FLOAT, input_lo=0))

    def test_the_window_counts_and_the_kind(self):
        assert parts(self.pool, replace(self.pool, window=DILATED)).all()
        assert parts(self.pool, MaxPool("op", 0, ONE)).all()
        same = replace(self.pool, rule=replace(FLOAT, values=FLOAT.values.copy()))
        assert not parts(self.pool, same).any()


def table(rng):
    return Lookup("op", 0, -8, rng.integers(-8, 8, 16))


class TestUnary:
    @pytest.mark.parametrize("seed", range(10))
    def test_tables_and_clamps_part_where_a_value_does(self, seed):
        rng = np.random.default_rng(seed)
        one = table(rng)
        other = replace(one, table=np.where(rng.integers(0, 6, 16) == 0, 1, one.table)) if seed % 2 else Clamp("op", 0, -3, 4)
        one = Clamp("op", 0, -5, 2) if seed % 3 == 2 else one
        lo, hi = some_box(rng)
        found = parts(one, other, lo, hi)
        for place in np.ndindex(*lo.shape):
            values = np.arange(lo[place], hi[place] + 1)[None]
            assert found[place] == (interpreter.evaluate(one, [values]) != interpreter.evaluate(other, [values])).any()

    def test_other_kinds_part_everywhere(self):
        same = Reshape("op", 0, (2, 2, 2))
        assert parts(Clamp("op", 0, -8, 7), same).all()
        assert parts(same, Clamp("op", 0, -8, 7)).all()


def add(rng):
    ra, rb, offset = (float(v) for v in rng.uniform(0.3, 0.9, 3).astype(np.float32))
    return Add("op", 0, 1, FmaAdd(ra, rb, offset), -128, 127)


class TestBinary:
    @pytest.mark.parametrize("seed", range(10))
    def test_sums_part_where_a_pair_does(self, seed):
        rng = np.random.default_rng(seed)
        one = add(rng)
        other = replace(one, rule=FmaAdd(one.rule.ra, one.rule.rb, float(np.float32(one.rule.offset + 0.02))))
        lo, hi = some_box(rng)
        found, negative = parts(one, other, lo, hi), np.clip(-np.arange(-8, 8), -8, 7)
        for place in np.ndindex(*lo.shape):
            values = np.arange(lo[place], hi[place] + 1)
            second = negative[values + 8]
            pairs = np.meshgrid(values, np.arange(second.min(), second.max() + 1), indexing="ij")
            differ = interpreter.evaluate(one, [p[None] for p in pairs]) != interpreter.evaluate(other, [p[None] for p in pairs])
            assert found[place] == differ.any()

    @pytest.mark.parametrize(("more", "told"), [(0, False), (1, True)])
    def test_so_many_pairs_are_compared_and_no_more(self, more, told):
        """2,048 values each; with one more of the input nobody looks."""
        wide, shape = QType(16, signed=True), (1, 1, 1)
        one = add(np.random.default_rng(0))
        lo = np.full(shape, -1024)
        a = network(one, shape=shape, qtype=wide)
        bounds = interval.propagate(a, Box.of(lo, lo + 2047 + more))
        bounds = replace(bounds, lo=(bounds.lo[0], lo, bounds.lo[2]), hi=(bounds.hi[0], lo + 2047, bounds.hi[2]))
        assert bool(may_part(a, a, 1, bounds).all()) is told

    def test_another_kind_parts_everywhere(self):
        assert parts(add(np.random.default_rng(0)), Clamp("op", 0, -8, 7)).all()


class TestMoves:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (MaxPool("op", 0, ONE), MaxPool("op", 0, DILATED)),
            (Transpose("op", 0, (0, 2, 1)), Transpose("op", 0, (2, 1, 0))),
            (Reshape("op", 0, (2, 2, 2)), MaxPool("op", 0, ONE)),
        ],
    )
    def test_they_part_nowhere_or_everywhere(self, one, other):
        assert not parts(one, one).any()
        assert parts(one, other).all()
        assert parts(one, Clamp("op", 0, -8, 7)).all()

    def test_concatenations(self):
        one = Concat("op", (0, 1), 1)
        assert not parts(one, one, shape=(2, 1, 2), out=(2, 2, 2)).any()
        a, other = network(one, out=(2, 4, 2)), network(Concat("op", (0, 1), 2), out=(2, 2, 4))
        assert may_part(a, other, 1, interval.propagate(a, Box.of(np.full((2, 2, 2), -8), np.full((2, 2, 2), 7)))).all()
        double = network(Add("op", 0, 1, FmaAdd(1.0, 1.0, 0.0), -128, 127), shape=(2, 2, 2))
        single = network(one, shape=(2, 1, 2), out=(2, 2, 2))
        bounds = interval.propagate(single, Box.of(np.full((2, 1, 2), -8), np.full((2, 1, 2), 7)))
        assert may_part(single, double, 1, bounds).all()

    def test_of_other_tensors_everywhere(self):
        one = Clamp("op", 0, -8, 7)
        box = Box.of(np.full((2, 2, 2), -8), np.full((2, 2, 2), 7))
        a = network(one)
        bounds = interval.propagate(a, box)
        assert not may_part(a, network(one), 1, bounds).any()
        assert may_part(a, network(replace(one, x=1)), 1, bounds).all()
        assert may_part(a, network(one, qout=NIBBLE), 1, bounds).all()
        flat = may_part(a, network(Reshape("op", 0, (8,)), out=(8,)), 1, bounds)
        assert flat.shape == (2, 2, 2)
        assert flat.all()
