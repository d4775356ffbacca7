"""What two networks have to share before they stand side by side, and what their common input is."""

from dataclasses import replace

import numpy as np
import pytest

from bvverify.compare.align import align, same_meaning, starts, two_files
from bvverify.errors import UnsupportedError
from bvverify.model.box import quantise
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Clamp, Dense, Lookup, Reshape
from bvverify.model.requant import RationalHalfUp, ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, UINT8, Cells, QType, Quantisation, Tensor
from bvverify.run import interpreter

ONE, OTHER = Quantisation(0.5, 3), Quantisation(0.25, -1)
TWO_BITS, THREE_BITS = QType(2, signed=False), QType(3, signed=False)


def network(
    file="a", *, quantiser=None, qtype=INT8, out=INT8, size=4, file_shape=None, shape=None, outputs=2, meaning=None, dequantiser=None,
    semantics="one", reshape=False, wrap=False, zero=0,
):  # fmt: skip
    """A dense layer, behind a reshape where the input has axes."""
    shape = shape or (size,)
    tensors, ops = [Tensor("x", shape, qtype, None)], []
    if reshape or len(shape) > 1:
        ops.append(Reshape("flat", 0, (size,)))
        tensors.append(Tensor("flat", (size,), qtype))
    weight = np.arange(outputs * size).reshape(outputs, size) % 5 - 2
    requant = RationalHalfUp((1,) * outputs, 0) if wrap else ShiftHalfUp(0)
    ops.append(Dense.of("last", len(ops), weight, np.arange(outputs), Staircase(requant, out.lo, out.hi), input_zero_point=zero))
    tensors.append(Tensor("y", (outputs,), out, meaning))
    made = Provenance(f"{file}.onnx", "onnx", semantics, file * 64)
    return Network(
        Input(tensors[0], file_shape or (1, *shape), quantiser),
        tuple(ops),
        tuple(tensors),
        Output(len(ops), (1, outputs), dequantiser),
        made,
    )


class TestMeaning:
    def test_readings_of_one_file_mean_the_same(self):
        a = network(meaning=ONE, dequantiser=ONE)
        assert same_meaning(a, network(meaning=OTHER, dequantiser=OTHER))
        assert not two_files(a, a)
        assert two_files(a, network("b"))

    @pytest.mark.parametrize(
        ("ours", "theirs", "same"),
        [
            ({"meaning": ONE}, {"meaning": ONE}, True),
            ({"meaning": ONE}, {"meaning": OTHER}, False),
            ({"meaning": ONE, "dequantiser": OTHER}, {"meaning": OTHER}, True),
            ({"meaning": ONE, "dequantiser": OTHER}, {"meaning": ONE}, False),
            ({"dequantiser": ONE}, {}, False),
            ({}, {}, True),
            ({}, {"out": UINT8}, False),
            ({"meaning": ONE}, {"meaning": ONE, "out": UINT8}, False),
        ],
    )
    def test_two_files_mean_what_they_say(self, ours, theirs, same):
        a, b = network("a", **ours), network("b", **theirs)
        assert same_meaning(a, b) is same
        assert same_meaning(b, a) is same


class TestSteps:
    @pytest.mark.parametrize("zero", [0, 65535])
    def test_the_widest_type_at_either_end(self, zero):
        qtype, quantiser = QType(16, signed=False), Quantisation(0.5, zero)
        found = starts(quantiser, qtype)
        levels = np.arange(1, 65536)
        assert np.array_equal(quantise(found, quantiser, qtype), levels)
        assert np.array_equal(quantise(np.nextafter(found, np.float32(-np.inf)), quantiser, qtype), levels - 1)

    @pytest.mark.parametrize("rounding", ["divide-half-even", "multiply-half-even", "divide-half-away", "multiply-add-half-even"])
    def test_every_rounding(self, rounding):
        quantiser = Quantisation(float(np.float32(0.3)), 2, rounding)
        found = starts(quantiser, INT8)
        assert np.array_equal(quantise(found, quantiser, INT8), np.arange(-127, 128))
        assert np.array_equal(quantise(np.nextafter(found, np.float32(-np.inf)), quantiser, INT8), np.arange(-128, 127))


def outputs(made, reals):
    """What a network gives for real inputs, (batch, outputs)."""
    given = reals.reshape(len(reals), *made.input.tensor.shape)
    integers = quantise(given, made.input.quantiser, made.input.tensor.qtype)
    return interpreter.run(made, integers).reshape(len(reals), -1)


def reals(*networks):
    ends = np.unique(np.concatenate([starts(n.input.quantiser, n.input.tensor.qtype) for n in networks]))
    ends = np.concatenate([ends, np.nextafter(ends, np.float32(-np.inf))])
    return np.random.default_rng(0).choice(ends, (200, 4)).astype(np.float32)


class TestCommonInput:
    def test_files_of_integers_read_the_same_ones(self):
        a, b = network("a"), network("b", zero=1)
        ours, theirs = align(a, b)
        assert (ours.input, theirs.input) == (a.input, a.input)
        assert len(ours.ops) == len(theirs.ops) == 1
        x = np.random.default_rng(0).integers(-128, 128, (50, 4))
        assert np.array_equal(interpreter.run(theirs, x), interpreter.run(b, x))

    def test_one_quantiser_is_common(self):
        a, b = network("a", quantiser=ONE, zero=3), network("b", quantiser=ONE, zero=3)
        ours, theirs = align(a, b)
        assert ours.input.quantiser == theirs.input.quantiser == ONE
        assert [type(op) for op in (*ours.ops, *theirs.ops)] == [Dense, Dense]

    def test_b_s_zero_point_moves_to_a_s(self):
        """One function of real numbers as int8 and as uint8."""
        a = network("a", quantiser=ONE, zero=3, wrap=True)
        b = network("b", quantiser=Quantisation(0.5, 131), qtype=UINT8, zero=131, wrap=True)
        ours, theirs = align(a, b)
        assert theirs.input.tensor.qtype == INT8
        assert [type(op) for op in (*ours.ops, *theirs.ops)] == [Dense, Dense]
        assert theirs.ops[0].input_zero_point == 3
        x = reals(a, b)
        assert np.array_equal(outputs(theirs, x), outputs(b, x))

    def test_what_cannot_move_reads_through_a_table(self):
        a = network("a", quantiser=ONE, zero=3)
        b = network("b", quantiser=Quantisation(0.5, 131), qtype=UINT8, zero=131, out=UINT8)  # a shift cannot take a zero point
        ours, theirs = align(a, b)
        assert [type(op) for op in ours.ops] == [Dense]
        assert [type(op) for op in theirs.ops] == [Lookup, Dense]
        x = reals(a, b)
        assert np.array_equal(outputs(theirs, x), outputs(b, x))

    @pytest.mark.parametrize("swapped", [False, True])
    def test_steps_among_the_other_s_need_no_cells(self, swapped):
        """Two bits of scale 1 cut off where three bits go on."""
        fine = network("a", quantiser=Quantisation(1.0, 0), qtype=THREE_BITS)
        coarse = network("b", quantiser=Quantisation(1.0, 0), qtype=TWO_BITS)
        a, b = (coarse, fine) if swapped else (fine, coarse)
        ours, theirs = align(a, b)
        assert ours.input.quantiser == theirs.input.quantiser == fine.input.quantiser
        assert ours.input.tensor == theirs.input.tensor == fine.input.tensor
        x = reals(a, b)
        assert np.array_equal(outputs(ours, x), outputs(a, x))
        assert np.array_equal(outputs(theirs, x), outputs(b, x))
        made = {id(fine): ours if not swapped else theirs, id(coarse): theirs if not swapped else ours}
        assert [type(op) for op in made[id(fine)].ops] == [Dense]
        assert [type(op) for op in made[id(coarse)].ops] == [Lookup, Dense]
        assert made[id(coarse)].ops[0].table.tolist() == [0, 1, 2, 3, 3, 3, 3, 3]

    def test_where_the_input_stays_nothing_moves(self):
        """Two and three bits again, with outputs that could be moved."""
        fine = network("a", quantiser=Quantisation(1.0, 0), qtype=THREE_BITS, wrap=True)
        coarse = network("b", quantiser=Quantisation(1.0, 0), qtype=TWO_BITS, wrap=True, out=UINT8)
        theirs = align(fine, coarse)[1]
        assert [type(op) for op in theirs.ops] == [Lookup, Dense]
        assert theirs.output_tensor.qtype == UINT8

    def test_cells_are_of_as_few_bits_as_hold_them(self):
        a = network("a", quantiser=Quantisation(1.0, 0), qtype=TWO_BITS)
        b = network("b", quantiser=Quantisation(1.5, 1), qtype=TWO_BITS, zero=1)
        ours, theirs = align(a, b)
        # 0.5, 1.5, 2.5 as rounded to even, and -0.75, 0.75, 2.25
        assert isinstance(ours.input.quantiser, Cells)
        assert len(ours.input.quantiser.starts) == 6
        assert ours.input.tensor == theirs.input.tensor == Tensor("cells", (4,), THREE_BITS)
        assert ours.input.file_shape == (1, 4)
        assert ours.ops[0].table.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        assert theirs.ops[0].table.tolist() == [0, 1, 1, 2, 2, 3, 3, 3]
        x = reals(a, b)
        for made, own in ((ours, a), (theirs, b)):
            assert [type(op) for op in made.ops] == [Lookup, Dense]
            assert np.array_equal(outputs(made, x), outputs(own, x))

    def test_too_many_steps_are_refused(self):
        wide = QType(16, signed=True)
        a = network("a", quantiser=Quantisation(1.0, 0), qtype=wide)
        b = network("b", quantiser=Quantisation(0.75, 0), qtype=wide)
        with pytest.raises(UnsupportedError, match=r"have 1[0-9]{5} different steps; inputs have up to 16 bits"):
            align(a, b)
        narrow = network("b", quantiser=Quantisation(1.0, 0), qtype=INT8)
        assert align(a, narrow)[1].input.tensor.qtype == wide

    def test_a_last_step_that_needs_the_last_bit(self):
        """Twice 15 bits, with few steps in common."""
        a = network("a", quantiser=Quantisation(1.0, 0), qtype=QType(15, signed=False))
        b = network("b", quantiser=Quantisation(float(np.float32(0.7)), 1 << 14), qtype=QType(15, signed=False))
        ours, theirs = align(a, b)
        assert ours.input.tensor.qtype == QType(16, signed=False)
        x = reals(a, b)
        assert np.array_equal(outputs(theirs, x), outputs(b, x))

    @pytest.mark.parametrize("own", [(2, 2), (4,)])
    def test_one_shape_is_reshaped_to_the_other(self, own):
        a = network("a", shape=(1, 4), file_shape=(1, 4), quantiser=ONE)
        b = network("b", shape=own, file_shape=(1, 4), quantiser=ONE)
        theirs = align(a, b)[1]
        assert theirs.input.tensor.shape == (1, 4)
        # A reshape that is there already reads any shape.
        assert [type(op) for op in theirs.ops] == [Reshape, Dense]
        x = reals(a, b)
        assert np.array_equal(outputs(theirs, x), outputs(b, x))

    def test_a_reshape_beside_another_reader_does_not_do(self):
        a = network("a", shape=(1, 4), file_shape=(1, 4), quantiser=ONE)
        b = network("b", file_shape=(1, 4), quantiser=ONE, reshape=True)
        second = replace(b.ops[1], x=0)
        b = replace(b, ops=(b.ops[0], second))
        theirs = align(a, b)[1]
        assert [type(op) for op in theirs.ops] == [Reshape, Reshape, Dense]
        assert [op.x for op in theirs.ops] == [0, 1, 1]
        x = reals(a, b)
        assert np.array_equal(outputs(theirs, x), outputs(b, x))

    def test_tables_keep_the_shape_that_is_reshaped_behind_them(self):
        a = network("a", shape=(1, 4), file_shape=(1, 4), quantiser=ONE)
        b = network("b", file_shape=(1, 4), quantiser=OTHER)
        theirs = align(a, b)[1]
        assert [type(op) for op in theirs.ops] == [Lookup, Reshape, Dense]
        assert [t.shape for t in theirs.tensors] == [(1, 4), (1, 4), (4,), (2,)]
        assert theirs.output.tensor == 3
        assert [op.x for op in theirs.ops] == [0, 1, 2]
        x = reals(a, b)
        assert np.array_equal(outputs(theirs, x), outputs(b, x))

    def test_clamps_of_both_are_fused_first(self):
        made = []
        for file in "ab":
            n = network(file, quantiser=ONE)
            clamp = Clamp("clamp", 1, -3, 3)
            made.append(replace(n, ops=(*n.ops, clamp), tensors=(*n.tensors, n.tensors[-1]), output=replace(n.output, tensor=2)))
        for n in align(*made):
            assert len(n.ops) == 1
            assert (n.ops[0].staircase.lo, n.ops[0].staircase.hi) == (-3, 3)


class TestRefused:
    def test_two_files_of_other_sizes(self):
        with pytest.raises(UnsupportedError, match=r"^a.onnx and b.onnx: they have 2 and 3 outputs$"):
            align(network("a"), network("b", outputs=3))
        with pytest.raises(UnsupportedError, match=r"^a.onnx and b.onnx: their inputs have the shapes \(1, 4\) and \(1, 5\)$"):
            align(network("a"), network("b", size=5))
        axis = network("b", file_shape=(1, 1, 4))
        assert align(network("a"), axis)[1].input.tensor.shape == (4,)

    def test_integers_of_other_types(self):
        with pytest.raises(UnsupportedError, match=r"^a.onnx and b.onnx: they take integers of the types int8 and uint8$"):
            align(network("a"), network("b", qtype=UINT8))

    @pytest.mark.parametrize("swapped", [False, True])
    def test_integers_against_real_numbers(self, swapped):
        pair = [network("a", quantiser=ONE), network("b")]
        with pytest.raises(UnsupportedError, match="one takes real numbers, the other integers"):
            align(*reversed(pair) if swapped else pair)

    def test_readings_of_one_file(self):
        a = network(quantiser=ONE)
        other = network(quantiser=ONE, semantics="two")
        assert align(a, other) == (a, other)
        for b in (
            network(quantiser=Quantisation(0.25, 3), semantics="two"),
            network(quantiser=Quantisation(0.5, 2), semantics="two"),
            network(quantiser=None, semantics="two"),
            network(quantiser=ONE, qtype=QType(7, signed=True), semantics="two"),
            network(quantiser=ONE, shape=(1, 4), semantics="two"),
        ):
            with pytest.raises(UnsupportedError, match=r"a.onnx: input x: one reads int8"):
                align(a, b)
        with pytest.raises(UnsupportedError, match=r"a.onnx: output y: the two readings have different numbers of outputs"):
            align(a, network(quantiser=ONE, outputs=3, semantics="two"))
