"""The tie rule: the first index of the largest output is the class."""

import itertools
from itertools import product

import numpy as np
import pytest

from bvverify.model.query import Box, Property


@pytest.mark.parametrize("label", range(3))
def test_robustness_is_argmax_with_the_first_index_winning_ties(label):
    y = np.array(list(itertools.product(range(-2, 2), repeat=3)))
    violated = Property.robustness(label, 3).violated(np.zeros((len(y), 1), np.int64), y)
    assert (violated == (y.argmax(axis=1) != label)).all()


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 2), (1, 2, 2)])
def test_every_input_of_a_small_box(shape):
    rng = np.random.default_rng(len(shape))
    for _ in range(20):
        lo = rng.integers(-3, 3, shape)
        hi = lo + rng.integers(0, 3, shape)
        every = Box.of(lo, hi).points(81)
        expected = {tuple(p) for p in product(*[range(a, b + 1) for a, b in zip(lo.ravel().tolist(), hi.ravel().tolist(), strict=True)])}
        assert every.shape == (len(expected), *shape)
        assert {tuple(p.ravel().tolist()) for p in every} == expected
        assert Box.of(lo, hi).points(len(expected)) is not None
        assert Box.of(lo, hi).points(len(expected) - 1) is None
    assert Box.of(np.zeros(5000, int), np.ones(5000, int)).points(10**9) is None
