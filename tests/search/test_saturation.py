"""The cuts at saturations cover what they should: by enumeration of small outputs."""

import itertools

import numpy as np
import pytest

from bvverify.model.query import Linear, Property
from bvverify.search.saturation import cuts

BOTTOM, TOP = -2, 2


@pytest.mark.parametrize("seed", range(200))
def test_what_is_left_after_the_cuts_has_no_far_end_or_no_cut_was_possible(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 4))
    lo = rng.integers(BOTTOM, TOP + 1, n)
    hi = np.array([rng.integers(v, TOP + 1) for v in lo])
    row = Linear(rng.integers(-2, 3, n), int(rng.integers(-3, 4)), None)
    points = np.array(list(itertools.product(*(range(a, b + 1) for a, b in zip(lo, hi, strict=True)))))
    left = np.ones(len(points), bool)
    for cut in cuts(row, lo, hi, BOTTOM, TOP):
        aside = left & (points[:, cut.output] == (BOTTOM if cut.lower else TOP))
        assert aside.any()
        if cut.met:
            assert (points[points[:, cut.output] == (BOTTOM if cut.lower else TOP)] @ row.outputs <= row.bound).all()
        left &= ~aside
    assert left.any()


def test_a_strict_rival_costs_two_cuts_that_close_at_once_and_a_tying_one_four():
    strict, tying = Property.robustness(0, 2).violation[0][0], Property.robustness(1, 2).violation[0][0]
    lo, hi = np.array([BOTTOM, BOTTOM]), np.array([TOP, TOP])
    assert [(c.output, c.lower, c.met) for c in cuts(strict, lo, hi, BOTTOM, TOP)] == [(0, False, False), (1, True, False)]
    assert [(c.output, c.lower, c.met) for c in cuts(tying, lo, hi, BOTTOM, TOP)] == [
        (1, True, True), (0, False, True), (1, False, False), (0, True, False),
    ]  # fmt: skip
