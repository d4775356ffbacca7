"""Exact multipliers, the ideal twin of each requantisation, and the two widths in which rational-half-up computes."""

from fractions import Fraction

import numpy as np
import pytest

from bvverify import examples
from bvverify.errors import UnsupportedError
from bvverify.load.load import load
from bvverify.model import requant as rq
from bvverify.model.ideal import _ideal_staircase
from bvverify.model.staircase import Staircase

ONE = np.array([0.3], np.float32)
KINDS = {
    "shift": (rq.ShiftHalfUp(5), Fraction(1, 32)),
    "q31": (rq.Q31Double(np.array([3 << 29]), np.array([-4]), 7), Fraction(3, 64)),
    "q31 large": (rq.Q31Single(np.array([1 << 30]), np.array([2]), 7), Fraction(2)),
    "float32": (rq.Float32HalfEven(ONE, -3), Fraction(float(ONE[0]))),
    "float64": (rq.Float64Away(np.array([0.3]), -3), Fraction(0.3)),
    "by channel": (rq.ByChannel((rq.Qnnpack(ONE, 1),)), Fraction(float(ONE[0]))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_ideal_twin_rounds_the_exact_product_half_up(kind):
    requant, multiplier = KINDS[kind]
    assert rq.real_multiplier(requant) == (multiplier,)
    twin = Staircase(rq.idealised(requant), -128, 127)
    zero = rq.before_rounding(requant, 0, 0)
    acc = np.concatenate([np.arange(-3000, 3000), np.array([-(1 << 47), 1 << 47])])
    by_hand = [min(max((v * multiplier + zero + Fraction(1, 2)).__floor__(), -128), 127) for v in acc.tolist()]
    assert twin.apply(acc[:, None])[:, 0].tolist() == by_hand == twin.at(acc[:, None])[:, 0].tolist()
    assert rq.before_rounding(requant, 0, 12) == 12 * multiplier + zero


def test_int64_and_big_integers_agree():
    rng = np.random.default_rng(0)
    acc = np.concatenate([rng.integers(-(1 << 47), 1 << 47, 200), rng.integers(-3000, 3000, 200)])[:, None]
    for _ in range(50):
        multiplier = Fraction(int(rng.integers(1, 1 << 24)), 1 << int(rng.integers(10, 40)))
        fine = multiplier + Fraction(1, 1 << 90)  # too fine for int64
        values = [rq.apply(rq.RationalHalfUp((m,), 3), acc, -128, 127) for m in (multiplier, fine)]
        exact = [[min(max((v * m + 3 + Fraction(1, 2)).__floor__(), -128), 127) for v in acc[:, 0].tolist()] for m in (multiplier, fine)]
        assert [v[:, 0].tolist() for v in values] == exact


def test_a_mantissa_of_zero_moves_nothing():
    twin = Staircase(rq.idealised(rq.Q31HalfUp(np.array([0]), np.array([0]), 5)), -128, 127)
    assert twin.at(np.array([[-(1 << 47)], [0], [1 << 47]])).ravel().tolist() == [5, 5, 5]


def test_a_real_bias_has_no_twin():
    requant = rq.Fbgemm(ONE, ONE, ONE, True, 0)
    with pytest.raises(UnsupportedError, match=r"m\.x: node gemm: has no ideal twin: fbgemm adds a real bias"):
        _ideal_staircase("m.x", "gemm", Staircase(requant, 0, 255))


def test_any_profile_takes_the_suffix():
    path = examples.path("digits_mlp_qop.onnx")
    named = load(path, "onnxruntime+rational-half-up")
    assert named.semantics == load(path, "rational-half-up").semantics == "onnxruntime+rational-half-up"
    assert named.requantisations() == ("rational-half-up",)
