"""The tie rule: the first index of the largest output is the class."""

import itertools

import numpy as np
import pytest

from bvverify.model.query import Property


@pytest.mark.parametrize("label", range(3))
def test_robustness_is_argmax_with_the_first_index_winning_ties(label):
    y = np.array(list(itertools.product(range(-2, 2), repeat=3)))
    violated = Property.robustness(label, 3).violated(np.zeros((len(y), 1), np.int64), y)
    assert (violated == (y.argmax(axis=1) != label)).all()
