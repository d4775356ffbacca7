"""The joint network computes A's outputs and B's, whatever the two share, and its last layers are one where they can be."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from bvverify.bounds import interval
from bvverify.compare import joint as module
from bvverify.compare.joint import join, rejoin, round_apart
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Concat, Dense, Lookup, Reshape
from bvverify.model.query import Box
from bvverify.model.requant import ByChannel, Float32HalfEven, RationalHalfUp, ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, UINT8, QType, Quantisation, Tensor
from bvverify.run import interpreter

SMALL = QType(3, signed=True)
HIDDEN, CLASSES = 4, 3


def rational(*multipliers, zero=0):
    return RationalHalfUp(tuple(Fraction(str(m)) for m in multipliers), zero)


class Made:
    """Dense layers and reshapes one after another, with weights from a seed of each layer's own."""

    def __init__(self, file="a", semantics="one", *, size=3, quantiser=None):
        self.tensors, self.ops = [Tensor("x", (size,), SMALL)], []
        self.made, self.quantiser = Provenance(f"{file}.onnx", "onnx", semantics, file * 64), quantiser

    def dense(self, seed, requant, out=INT8, *, rows=CLASSES, zero=0, bits=32, x=None, lo=None, hi=None):
        rng, x = np.random.default_rng(seed), len(self.ops) if x is None else x
        weight = rng.integers(-4, 5, (rows, self.tensors[x].size))
        stairs = Staircase(requant, out.lo if lo is None else lo, out.hi if hi is None else hi)
        bias = rng.integers(-5, 6, rows)
        self.ops.append(Dense.of(f"layer {len(self.ops)}", x, weight, bias, stairs, input_zero_point=zero, accumulator_bits=bits))
        self.tensors.append(Tensor(f"layer {len(self.tensors)}", (rows,), out))
        return self

    def reshape(self, shape):
        self.ops.append(Reshape("shape", len(self.ops), shape))
        self.tensors.append(Tensor("shape", shape, self.tensors[-1].qtype))
        return self

    def network(self, output=None, dequantiser=None):
        end = len(self.ops) if output is None else output
        declared = Input(self.tensors[0], (1, *self.tensors[0].shape), self.quantiser)
        out = Output(end, (1, self.tensors[end].size), dequantiser)
        return Network(declared, tuple(self.ops), tuple(self.tensors), out, self.made)


def every(network):
    shape = network.input.tensor.shape
    return Box.of(np.full(shape, SMALL.lo), np.full(shape, SMALL.hi))


def both(a, b, joint):
    """Asserts that the joint network gives both outputs for every input; its operations' types."""
    x = every(a).points(1 << 12)
    expected = np.concatenate([interpreter.run(n, x).reshape(len(x), -1) for n in (a, b)], axis=1)
    assert np.array_equal(interpreter.run(joint.network, x), expected)
    made = joint.network
    assert made.output.tensor == len(made.ops) == len(made.tensors) - 1
    assert made.output.file_shape == (1, expected.shape[1])
    assert made.output_tensor.shape == (expected.shape[1],)
    assert made.input == a.input
    assert [t.shape for t in made.tensors[1:]] == [t.shape[1:] for t in interpreter.trace(made, x[:1])[1:]]
    for tensor, values in zip(made.tensors, interpreter.trace(made, x), strict=True):
        assert tensor.qtype.lo <= values.min()
        assert values.max() <= tensor.qtype.hi
    return [type(op) for op in made.ops]


def hidden(file, semantics="one", **options):
    return Made(file, semantics, **options).dense(1, rational(0.5), UINT8, rows=HIDDEN)


class TestLastLayers:
    def test_on_one_hidden_layer_they_read_it_together(self):
        a = hidden("a").dense(2, rational(0.3)).network()
        b = hidden("b").dense(3, rational(0.3)).network()
        joint = join(a, b, every(a))
        assert both(a, b, joint) == [Dense, Dense]
        assert joint.network.ops[1].x == 1
        assert [(s.op, s.elements.all()) for s in joint.starts] == [(1, True)]

    def test_on_two_hidden_layers_they_read_both(self):
        a = hidden("a").dense(2, rational(0.3)).network()
        b = Made("b").dense(4, rational(0.5), INT8, rows=HIDDEN + 1).dense(3, rational(0.25)).network()
        joint = join(a, b, every(a))
        assert both(a, b, joint) == [Dense, Dense, Concat, Dense]
        assert joint.network.tensors[3].qtype == QType(9, signed=True)
        assert (joint.network.ops[3].weight[:CLASSES, HIDDEN:] == 0).all()
        assert (joint.network.ops[3].weight[CLASSES:, :HIDDEN] == 0).all()

    def test_weights_are_centred(self):
        a = hidden("a").dense(2, rational(0.3)).network()
        op = a.ops[1]
        b = hidden("b").dense(3, rational(0.3)).network()
        moved = Dense.of("last", 1, op.weight + 2, op.bias, op.staircase, weight_zero_point=np.array([2, 2, 2]))
        b = replace(b, ops=(b.ops[0], replace(moved, bias=b.ops[1].bias)))
        assert both(a, b, join(a, b, every(a))) == [Dense, Dense]

    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            (rational(0.3), rational(0.2, 0.3, 0.4)),
            (rational(0.2, 0.3, 0.4), rational(0.3)),
            (ShiftHalfUp(1), rational(0.3, 0.3, 0.1)),
            (ByChannel((ShiftHalfUp(1), rational(0.3, 0.1))), rational(0.3)),
            (rational(0.3), ByChannel((rational(0.3), ShiftHalfUp(2), ShiftHalfUp(1)))),
            (Float32HalfEven(np.array([0.3], np.float32), 1), rational(0.3, zero=-1)),
        ],
    )
    def test_each_row_keeps_its_requantisation(self, ours, theirs):
        a, b = hidden("a").dense(2, ours).network(), hidden("b").dense(3, theirs).network()
        joint = join(a, b, every(a))
        assert both(a, b, joint) == [Dense, Dense]
        requant = joint.network.ops[1].staircase.requant
        assert isinstance(requant, ByChannel)
        assert not any(isinstance(part, ByChannel) for part in requant.parts)

    @pytest.mark.parametrize("last", [{"zero": 2}, {"bits": None}, {"bits": 6}])
    def test_they_keep_what_is_alike(self, last):
        a, b = hidden("a").dense(2, rational(0.3), **last).network(), hidden("b").dense(3, rational(0.3), **last).network()
        joint = join(a, b, every(a))
        assert both(a, b, joint) == [Dense, Dense]
        made = joint.network.ops[1]
        assert (made.input_zero_point, made.accumulator_bits) == (last.get("zero", 0), last.get("bits", 32))

    def test_what_stands_behind_a_s_output_moves_up(self):
        """A's output is third, B's own hidden layer fourth."""
        a = hidden("a").dense(5, rational(0.5), UINT8, rows=2).dense(2, rational(0.3)).network()
        b = hidden("b").dense(6, rational(0.4), UINT8, rows=2).dense(3, rational(0.3)).network()
        assert both(a, b, join(a, b, every(a))) == [Dense, Dense, Dense, Concat, Dense]

    @pytest.mark.parametrize(
        "last",
        [
            {"zero": 1},
            {"bits": None},
            {"lo": -5},
            {"hi": 5},
        ],
    )
    def test_layers_that_are_not_alike_stay_two(self, last):
        a, b = hidden("a").dense(2, rational(0.3)).network(), hidden("b").dense(3, rational(0.3), **last).network()
        joint = join(a, b, every(a))
        assert both(a, b, joint) == [Dense, Dense, Dense, Concat]
        assert [op.name for op in joint.network.ops[3:]] == ["both outputs"]

    def test_of_other_types_the_output_holds_both(self):
        a, b = hidden("a").dense(2, rational(0.3)).network(), hidden("b").dense(3, rational(0.3), UINT8).network()
        joint = join(a, b, every(a))
        assert both(a, b, joint) == [Dense, Dense, Dense, Concat]
        assert joint.network.output_tensor.qtype == QType(9, signed=True)

    def test_an_output_that_something_reads_stays(self):
        """A's output is its hidden layer, which the last one reads; so is B's, its first."""
        for ends in ((1, None), (None, 1), (1, 1)):
            parts = []
            for file, seed, end in zip("ab", (2, 3), ends, strict=True):
                made = Made(file).dense(seed, rational(0.5)).dense(seed + 5, rational(0.3))
                parts.append(made.network(output=end))
            a, b = parts
            assert both(a, b, join(a, b, every(a)))[-1] is Concat

    def test_a_b_that_ends_before_its_last_operation(self):
        """Nothing reads B's output, and another operation comes behind it."""
        a = hidden("a").dense(2, rational(0.3)).network()
        b = hidden("b").dense(3, rational(0.3)).dense(9, rational(0.3), x=1).network(output=2)
        assert both(a, b, join(a, b, every(a)))[-1] is Concat

    def test_a_s_hidden_layer_behind_its_output(self):
        """A's output is its first layer, which B does not share; B's last layer reads what stands behind it."""
        a = Made("a").dense(2, rational(0.3)).dense(5, rational(0.5), UINT8, rows=HIDDEN, x=0).network(output=1)
        b = Made("b").dense(6, rational(0.4), UINT8, rows=HIDDEN).dense(3, rational(0.3)).network()
        assert both(a, b, join(a, b, every(a))) == [Dense, Dense, Concat, Dense]

    def test_outputs_with_axes_are_flattened(self):
        a = hidden("a").dense(2, rational(0.3)).reshape((3, 1)).network()
        b = hidden("b").dense(3, rational(0.3)).network()
        assert both(a, b, join(a, b, every(a))) == [Dense, Dense, Reshape, Dense, Reshape, Concat]
        assert both(b, a, join(b, a, every(b))) == [Dense, Dense, Dense, Reshape, Reshape, Concat]

    def test_a_network_of_no_operation(self):
        """The output is the input."""
        a = Made("a").network()
        b = Made("b").dense(3, rational(0.3)).network()
        for one, other in ((a, b), (b, a)):
            assert both(one, other, join(one, other, every(one))) == [Dense, Concat]
        joint = join(a, Made("b").network(), every(a))
        assert (joint.agree, joint.network) == (True, None)

    def test_the_input_is_no_last_layer(self):
        """With no operation behind it: nothing before the first is the last."""
        a = Made("a").network()
        b = Made("b").dense(1, rational(0.3)).dense(3, rational(0.3)).network()
        assert both(a, b, join(a, b, every(a))) == [Dense, Dense, Concat]


class TestShared:
    def test_what_agrees_is_a_s(self):
        a = hidden("a").dense(2, rational(0.3)).network()
        b = replace(a, provenance=replace(a.provenance, semantics="two"))
        joint = join(a, b, every(a))
        assert (joint.network, joint.agree, joint.starts) == (None, True, ())

    def test_equal_integers_of_other_meaning_stand_side_by_side(self):
        a = hidden("a").dense(2, rational(0.3)).network(dequantiser=Quantisation(0.5, 0))
        b = hidden("b").dense(2, rational(0.3)).network(dequantiser=Quantisation(0.25, 0))
        joint = join(a, b, every(a))
        assert joint.agree
        assert both(a, b, joint) == [Dense, Dense, Concat]

    def test_equal_integers_of_a_hidden_output(self):
        """B is A and ends where A goes on."""
        a = Made("a").dense(1, rational(0.5)).dense(2, rational(0.3)).network()
        b = Made("b").dense(1, rational(0.5)).dense(2, rational(0.3)).network(output=1)
        joint = join(a, b, every(a))
        assert not joint.agree
        assert both(a, b, joint) == [Dense, Dense, Concat]

    def test_operations_of_b_alone_begin_nothing(self):
        a = hidden("a").dense(2, rational(0.3)).network()
        b = hidden("b").dense(5, rational(0.5), UINT8).dense(3, rational(0.3)).network()
        joint = join(a, b, every(a))
        both(a, b, joint)
        assert [s.op for s in joint.starts] == [1]

    def test_one_element_that_may_differ_is_enough(self):
        a = Made("a").dense(1, rational(0.5, 0.5, 0.5)).dense(2, rational(0.3)).network()
        b = Made("b").dense(1, rational(0.5, 0.4, 0.5)).dense(2, rational(0.3)).network()
        joint = join(a, b, every(a))
        assert [s.elements.tolist() for s in joint.starts] == [[False, True, False]]
        assert both(a, b, joint) == [Dense, Dense, Concat, Dense]

    def test_what_is_proved_is_shared_and_no_start(self):
        a = hidden("a").dense(2, rational(0.3)).network()
        b = hidden("b").dense(2, rational(0.300001)).network()
        box = every(a)
        bounds = interval.propagate(a, box)
        wide = replace(bounds, acc_lo=(bounds.acc_lo[0], bounds.acc_lo[1] - 10**6), acc_hi=(bounds.acc_hi[0], bounds.acc_hi[1] + 10**6))
        assert [s.op for s in rejoin(a, b, wide, "wide").starts] == [1]
        joint = rejoin(a, b, wide, "proved", frozenset({1}))
        assert (joint.network, joint.agree, joint.starts, joint.rule) == (None, True, (), "proved")

    def test_what_is_proved_on_other_tensors_is_not_shared(self):
        """The last layers agree wherever all before them does, and the first ones differ."""
        a = Made("a").dense(1, rational(0.5), rows=HIDDEN).dense(2, rational(0.3)).network()
        b = Made("b").dense(4, rational(0.5), rows=HIDDEN).dense(2, rational(0.3)).network()
        joint = rejoin(a, b, interval.propagate(a, every(a)), "some", frozenset({1}))
        assert not joint.agree
        assert [s.op for s in joint.starts] == [0]
        both(a, b, joint)

    def test_twins_that_read_other_tensors_are_not_shared(self):
        a = Made("a").dense(1, rational(0.5)).dense(7, rational(0.5)).dense(2, rational(0.3), x=1).network()
        b = Made("b").dense(1, rational(0.5)).dense(7, rational(0.5)).dense(2, rational(0.3), x=2).network()
        joint = join(a, b, every(a))
        assert not joint.agree
        both(a, b, joint)


class TestRanges:
    def test_linear_bounds_are_used_where_they_can_tell(self, monkeypatch):
        a = hidden("a").dense(2, rational(0.3)).network()
        b = hidden("b").dense(3, rational(0.3)).network()
        linear = "exact integer intervals and linear bounds of the box"
        plain = "exact integer intervals of the box"
        joint = join(a, b, every(a))
        assert joint.rule == linear
        intervals = interval.propagate(a, every(a))
        assert (joint.bounds.acc_hi[1] < intervals.acc_hi[1]).any()
        size = sum(t.size for t in a.tensors)
        monkeypatch.setattr(module, "_MOST_LINEAR", size)
        assert join(a, b, every(a)).rule == linear
        monkeypatch.setattr(module, "_MOST_LINEAR", size - 1)
        assert join(a, b, every(a)).rule == plain

    def test_one_layer_has_nothing_to_tighten(self):
        a, b = Made("a").dense(2, rational(0.3)).network(), Made("b").dense(3, rational(0.3)).network()
        joint = join(a, b, every(a))
        assert joint.rule == "exact integer intervals of the box"
        assert both(a, b, joint) == [Dense]

    def test_what_agrees_is_not_tightened(self):
        a = hidden("a").dense(2, rational(0.3)).network()
        joint = join(a, hidden("b").dense(2, rational(0.3)).network(), every(a))
        assert joint.rule == "exact integer intervals of the box"


def test_two_files_come_from_two():
    a, b = hidden("a").dense(2, rational(0.3)).network(), hidden("b", "two").dense(3, rational(0.3)).network()
    made = join(a, b, every(a)).network.provenance
    assert made == Provenance("a.onnx against b.onnx", "joint", "one against two", f"{'a' * 64} against {'b' * 64}")
    other = hidden("a", "two").dense(3, rational(0.3)).network()
    assert join(a, other, every(a)).network.provenance == Provenance("a.onnx", "joint", "one against two", "a" * 64)


def test_quantisers_round_apart():
    a = hidden("a", quantiser=Quantisation(0.5, 0)).network()
    assert not round_apart(a, hidden("b", quantiser=Quantisation(0.5, 0)).network())
    assert round_apart(a, hidden("b", quantiser=Quantisation(0.5, 0, "divide-half-away")).network())


def test_files_with_tables_in_front_join():
    """Of two quantisers: each reads its own integers of the common cells."""
    a = hidden("a", quantiser=Quantisation(0.5, 0)).dense(2, rational(0.3)).network()
    b = hidden("b", quantiser=Quantisation(0.75, 1)).dense(2, rational(0.3)).network()
    ours, theirs = (n.input.tensor for n in (a, b))
    assert ours == theirs
    cells = np.zeros(3, int)
    joint = join(a, b, Box.of(cells, cells + 5))
    assert [type(op) for op in joint.a.ops] == [type(op) for op in joint.b.ops] == [Lookup, Dense, Dense]
    x = Box.of(cells, cells + 5).points(1000)
    expected = [interpreter.run(n, x) for n in (joint.a, joint.b)]
    assert np.array_equal(interpreter.run(joint.network, x), np.concatenate(expected, axis=1))
