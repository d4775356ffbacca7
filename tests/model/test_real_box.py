"""Reals to float32, at the ends of its range."""

from fractions import Fraction

import numpy as np
import pytest

from bvverify.model.box import nearest_float32

LARGEST = Fraction(float(np.finfo(np.float32).max))


@pytest.mark.parametrize("value", [10**80, 10**999, 10**39, LARGEST * 2])
def test_beyond_the_largest_is_infinite(value):
    assert nearest_float32(Fraction(value)) == np.inf
    assert nearest_float32(-Fraction(value)) == -np.inf


def test_the_largest_is_itself():
    assert Fraction(float(nearest_float32(LARGEST))) == LARGEST
