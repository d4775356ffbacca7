"""The lemma of ``certify.steps`` and the corners of ``bounds.stairs`` against every accumulator, one by one."""

import numpy as np
import pytest

from bvverify.bounds import stairs
from bvverify.bounds.interval import Range
from bvverify.certify import steps
from bvverify.model.staircase import ACC_LIMIT

OUT_OF_REACH = ACC_LIMIT + 1
THRESHOLDS = np.array(
    [
        # A channel that never reaches the levels at which the other one is irregular, nor the first ones from below.
        [-ACC_LIMIT, -ACC_LIMIT, 0, 10, 20, OUT_OF_REACH, OUT_OF_REACH, OUT_OF_REACH, OUT_OF_REACH],
        [-70, -5, 0, 10, 20, 30, 31, 32, 90],
        [0, 1, 2, 3, 4, 5, 6, 7, 8],
    ]
)


def _least(channel, c, m, l, u):
    a = np.arange(l, u + 1)
    return int((c * np.searchsorted(THRESHOLDS[channel], a, side="right") - m * a).min())


@pytest.mark.parametrize("seed", range(40))
def test_no_accumulator_is_below_the_least_on_steps(seed):
    rng = np.random.default_rng(seed)
    made, relaxed = steps._make(0, THRESHOLDS, THRESHOLDS), stairs._with_spread(0, THRESHOLDS, THRESHOLDS)
    l = rng.integers(-80, 60, (50, 3))
    u = l + rng.integers(0, 120, (50, 3))
    c, m = rng.integers(-300, 300, (50, 3)), rng.integers(-30, 30, (50, 3))
    proved = steps.least_on_steps(made, c, m, l, u, (3,))
    for row in range(50):
        corners = stairs.corners(relaxed, Range(l[row], u[row]))
        linear = (c[row] * corners.z - m[row] * corners.a).min(axis=0) - np.abs(m[row]) * corners.spread
        for channel in range(3):
            exact = _least(channel, int(c[row, channel]), int(m[row, channel]), int(l[row, channel]), int(u[row, channel]))
            assert proved[row, channel] <= exact
            assert linear[channel] <= exact


def test_each_channel_has_a_spread_of_its_own():
    assert steps._make(0, THRESHOLDS, THRESHOLDS).spread.tolist() == stairs._with_spread(0, THRESHOLDS, THRESHOLDS).spread.tolist()
    one_by_one = [int(steps._make(0, row[None], row[None]).spread[0]) for row in THRESHOLDS]
    assert steps._make(0, THRESHOLDS, THRESHOLDS).spread.tolist() == one_by_one
    assert one_by_one[0] == one_by_one[2] == 0 < one_by_one[1]
