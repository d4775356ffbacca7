"""Requantisations against their definitions in exact arithmetic, and thresholds against the operation."""

from fractions import Fraction

import numpy as np
import pytest

from bvverify.model.box import nearest_float32, quantise
from bvverify.model.float32 import fma
from bvverify.model.requant import Float32HalfEven, ShiftHalfUp, apply
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, Quantisation


@pytest.mark.parametrize("shift", range(6))
@pytest.mark.parametrize(("lo", "hi"), [(-4, 3), (0, 7), (-16, 15)])
def test_shift_half_up_is_the_floor_of_the_quotient_plus_a_half(shift, lo, hi):
    for acc in range(-600, 600):
        expected = min(max((Fraction(acc, 1 << shift) + Fraction(1, 2)).__floor__(), lo), hi)
        assert apply(ShiftHalfUp(shift), np.array([[acc]]), lo, hi)[0, 0] == (expected if shift else min(max(acc, lo), hi))


@pytest.mark.parametrize("multiplier", [0.5, 0.25, 0.125, 0.1, 0.37, 1.5, 0.0078125])
@pytest.mark.parametrize("zero", [-3, 0, 5])
def test_float32_half_even_rounds_to_even_before_the_zero_point(multiplier, zero):
    m = np.float32(multiplier)
    for acc in range(-300, 300):
        product = Fraction(float(nearest_float32(Fraction(acc) * Fraction(float(m)))))
        expected = min(max(round(product) + zero, -16), 15)  # Python rounds halves to even
        assert apply(Float32HalfEven(np.array([m]), zero), np.array([[acc]]), -16, 15)[0, 0] == expected


@pytest.mark.parametrize("requant", [ShiftHalfUp(0), ShiftHalfUp(3), Float32HalfEven(np.array([0.01, 0.3, 2.5], np.float32), 4)])
def test_thresholds_are_the_operation(requant):
    staircase = Staircase(requant, -20, 30)
    acc = np.arange(-9000, 9000)[:, None].repeat(3, axis=1)
    assert (staircase.apply(acc) == staircase.at(acc)).all()


def test_fma_rounds_once():
    rng = np.random.default_rng(0)
    a = rng.integers(-128, 256, 3000).astype(np.float32)
    b = rng.random(3000, np.float32) * 3
    c = (rng.normal(size=3000) * 100).astype(np.float32)
    c[::3] = -(a * b)[::3]  # cancellation
    exact = [nearest_float32(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))) for x, y, z in zip(a, b, c, strict=True)]
    assert (fma(a, b, c) == np.array(exact)).all()


def test_every_int8_goes_through_dequantise_and_back():
    q = np.arange(-128, 128)
    for scale in (0.1, 1 / 255, 0.0078125, 3.7):
        s = Quantisation(float(np.float32(scale)), -7)
        assert (quantise((q + 7).astype(np.float32) * np.float32(scale), s, INT8) == q).all()
