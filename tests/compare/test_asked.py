"""What is asked of two networks side by side: half planes over all pairs of outputs, classes over all small outputs, and words."""

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from bvverify.compare import asked
from bvverify.compare.joint import join
from bvverify.errors import UnsupportedError
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Dense
from bvverify.model.query import Box
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, UINT8, Quantisation, Tensor


def float32(value):
    return float(np.float32(value))


@pytest.mark.parametrize("seed", range(60))
def test_a_half_plane_holds_the_pairs_that_it_should(seed):
    rng = np.random.default_rng(seed)
    s, t = (float32(2.0 ** rng.uniform(-3, 3)) for _ in "st")
    if seed % 3 == 0:
        s, t = float32(rng.integers(1, 9) / 8), float32(rng.integers(1, 9) / 8)
    one, other = Quantisation(s, int(rng.integers(-9, 9))), Quantisation(t, int(rng.integers(-9, 9)))
    ys, zs = (tuple(np.sort(rng.integers(-20, 20, 2)).tolist()) for _ in "yz")
    apart = sorted(
        Fraction(s) * (y - one.zero_point) - Fraction(t) * (z - other.zero_point)
        for y, z in product(range(ys[0], ys[1] + 1), range(zs[0], zs[1] + 1))
    )
    middle = apart[int(rng.integers(len(apart)))]
    for delta in {
        abs(middle),
        abs(middle) + Fraction(1, 1000),
        Fraction(0),
        abs(apart[-1]),
        abs(apart[0]) + 1,
        abs(apart[-1]) * Fraction(9, 10),
    }:
        found = asked.half_plane(one, ys, other, zs, delta)
        if found is None:
            assert apart[-1] <= delta
            continue
        p, q, bound = found
        assert min(p, q) > 0
        assert max(p, q) <= 1 << 22
        assert abs(bound) < 1 << 31
        some = False
        for y, z in product(range(ys[0], ys[1] + 1), range(zs[0], zs[1] + 1)):
            beyond = Fraction(s) * (y - one.zero_point) - Fraction(t) * (z - other.zero_point) > delta
            some |= beyond
            assert (p * y - q * z >= bound) == beyond
        assert some


def test_coefficients_and_bounds_have_limits(monkeypatch):
    one, other = Quantisation(float32(0.1), 3), Quantisation(float32(0.37), -5)
    p, q, bound = asked.half_plane(one, (-128, 127), other, (-128, 127), Fraction(1, 3))
    assert max(p, q) > 8
    assert abs(bound) > 8
    assert asked._BOUND == 1 << 31  # what model.query.Linear allows
    for limit in (abs(bound), 5):
        monkeypatch.setattr(asked, "_BOUND", limit)
        with pytest.raises(UnsupportedError, match="takes too large coefficients"):
            asked.half_plane(one, (-128, 127), other, (-128, 127), Fraction(1, 3))
    monkeypatch.setattr(asked, "_BOUND", abs(bound) + 1)
    assert asked.half_plane(one, (-128, 127), other, (-128, 127), Fraction(1, 3)) == (p, q, bound)
    monkeypatch.setattr(asked, "_COEFFICIENT", max(p, q))
    assert asked.half_plane(one, (-128, 127), other, (-128, 127), Fraction(1, 3)) == (p, q, bound)
    monkeypatch.setattr(asked, "_COEFFICIENT", max(p, q) - 1)
    with pytest.raises(UnsupportedError, match="takes too large coefficients"):
        asked.half_plane(one, (-128, 127), other, (-128, 127), Fraction(1, 3))


def test_the_way_through_the_tree_of_stern_and_brocot():
    assert list(asked._towards(Fraction(2, 3))) == [(1, 1), (1, 2), (2, 3)]
    assert list(asked._towards(Fraction(5, 2))) == [(1, 1), (2, 1), (3, 1), (5, 2)]
    # Towards the golden ratio lie quotients of Fibonacci's numbers, the next of which has 23 bits.
    assert list(asked._towards(Fraction(1_618_033_988_749_894_848, 10**18)))[-1] == (3_524_578, 2_178_309)


def network(path="a.onnx", *, outputs=3, meaning=None, dequantiser=None, qtype=INT8, semantics="one", sha="1", bias=0):
    op = Dense.of("last", 0, np.eye(outputs, dtype=int), np.full(outputs, bias), Staircase(ShiftHalfUp(0), qtype.lo, qtype.hi))
    tensors = Tensor("x", (outputs,), INT8), Tensor("y", (outputs,), qtype, meaning)
    made = Provenance(path, "onnx", semantics, sha * 64)
    return Network(Input(tensors[0], (1, outputs)), (op,), tensors, Output(1, (1, outputs), dequantiser), made)


class TestMeanings:
    one, other = Quantisation(0.5, 3), Quantisation(0.25, -1)

    def test_of_one_file_is_the_file_s(self):
        a = network(meaning=self.one, dequantiser=self.other)
        b = replace(a, provenance=replace(a.provenance, semantics="two"))
        assert asked.meanings(a, b) == (self.other, self.other)
        assert asked.names(a, b) == ("one", "two")

    def test_of_one_file_that_does_not_say_integers_stand_for_themselves(self):
        a = network(meaning=self.one)
        b = replace(network(meaning=self.other), provenance=replace(a.provenance, semantics="two"))
        assert asked.meanings(a, b) == (Quantisation(1.0, 0), Quantisation(1.0, 0))

    def test_of_two_files_is_each_its_own(self):
        a, b = network(meaning=self.one), network("b.onnx", sha="2", meaning=self.one, dequantiser=self.other)
        assert asked.meanings(a, b) == (self.one, self.other)
        assert asked.names(a, b) == ("a.onnx", "b.onnx")

    @pytest.mark.parametrize("qtypes", [(INT8, UINT8), (INT8, INT8)])
    def test_where_only_one_says_it_is_refused(self, qtypes):
        a, b = network(meaning=self.one, qtype=qtypes[0]), network("b.onnx", sha="2", qtype=qtypes[1])
        for pair in ((a, b), (b, a)):
            with pytest.raises(UnsupportedError, match=r"ask about the class \(--class\)"):
                asked.meanings(*pair)

    def test_integers_of_two_types_are_refused(self):
        a, b = network(), network("b.onnx", sha="2", qtype=UINT8)
        with pytest.raises(UnsupportedError, match="gives int8, b"):
            asked.meanings(a, b)

    def test_outputs_differ_beyond_delta_only(self):
        a, b = network(meaning=self.one), network("b.onnx", sha="2", meaning=self.other)
        y, z = np.array([3, 5, 7]), np.array([-1, 3, 6])  # 0, 1, 2 against 0, 1, 7/4
        assert asked.differ(a, b, y, z, Fraction(0))
        assert asked.differ(a, b, y, z, Fraction(6, 25))
        assert not asked.differ(a, b, y, z, Fraction(1, 4))
        assert not asked.differ(a, b, y[:2], z[:2], Fraction(0))


@pytest.mark.parametrize("delta", [Fraction(0), Fraction(1, 4), Fraction(3, 2)])
def test_outputs_differ_where_what_they_stand_for_does(delta):
    a = network(outputs=2, meaning=Quantisation(0.5, 3))
    b = network("b.onnx", outputs=2, sha="2", meaning=Quantisation(0.75, -1), bias=1)
    joint = join(a, b, Box.of(np.full(2, -8), np.full(2, 7)))
    values = (-128, -2, 0, 1, 3, 127)
    y = np.array(list(product(values, repeat=4)))
    differ = [asked.differ(a, b, row[:2], row[2:], delta) for row in y]
    assert np.array_equal(asked.differing_outputs(joint, delta).violated(np.zeros((len(y), 2), int), y), differ)
    # Where one kind of difference cannot be, nothing is asked about it.
    assert asked.differing_outputs(joint, Fraction(10_000)).violation == ()


def test_classes_differ_where_the_first_largest_outputs_do():
    a, b = network(), network("b.onnx", sha="2", bias=1)
    joint = join(a, b, Box.of(np.full(3, -8), np.full(3, 7)))
    question = asked.differing_classes(joint)
    y = np.array(list(product(range(3), repeat=6)))
    differ = y[:, :3].argmax(axis=1) != y[:, 3:].argmax(axis=1)
    assert np.array_equal(question.violated(np.zeros((len(y), 3), int), y), differ)
    assert question.text == "the class is the same under a.onnx and b.onnx"


@pytest.mark.parametrize("outputs", [64, 65])
def test_so_many_classes_and_no_more(outputs):
    a, b = network(outputs=outputs), network("b.onnx", outputs=outputs, sha="2", bias=1)
    joint = join(a, b, Box.of(np.full(outputs, -8), np.full(outputs, 7)))
    if outputs == 64:
        assert len(asked.differing_classes(joint).violation) == 64 * 63
        return
    with pytest.raises(UnsupportedError, match="has 65 classes; --class takes up to 64"):
        asked.differing_classes(joint)


def test_what_is_asked_in_words():
    a, b = network(), network("b.onnx", sha="2", bias=1)
    joint = join(a, b, Box.of(np.full(3, -8), np.full(3, 7)))
    assert asked.differing_outputs(joint).text == "no output differs between a.onnx and b.onnx"
    assert asked.differing_outputs(joint, Fraction(1, 2)).text == "no output differs by more than 1/2 between a.onnx and b.onnx"
