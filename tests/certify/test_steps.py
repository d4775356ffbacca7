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


def _drawn(seed):
    rng = np.random.default_rng(seed)
    l = rng.integers(-80, 60, (50, 3))
    return rng, rng.integers(-300, 300, (50, 3)), rng.integers(-30, 30, (50, 3)), l, l + rng.integers(0, 120, (50, 3))


@pytest.mark.parametrize("seed", range(40))
def test_no_accumulator_is_below_the_least_on_steps(seed):
    _, c, m, l, u = _drawn(seed)
    made, relaxed = steps._make(0, THRESHOLDS, THRESHOLDS), stairs._with_lines(0, THRESHOLDS, THRESHOLDS)
    proved = steps.least_on_steps(made, c, m, l, u, (3,))
    for row in range(50):
        corners = stairs.corners(relaxed, Range(l[row], u[row]))
        linear = (c[row] * corners.z - m[row] * corners.a).min(axis=0)
        for channel in range(3):
            exact = _least(channel, int(c[row, channel]), int(m[row, channel]), int(l[row, channel]), int(u[row, channel]))
            assert proved[row, channel] <= exact << made.bits
            assert linear[channel] << made.bits <= proved[row, channel]


@pytest.mark.parametrize("seed", range(40))
def test_in_a_narrower_range_the_least_is_never_smaller(seed):
    """What was proved once holds where a search has narrowed ranges above it meanwhile: also where early and late thresholds differ."""
    rng, c, m, l, u = _drawn(seed)
    late = THRESHOLDS + rng.integers(0, 4, THRESHOLDS.shape)
    made = steps._make(0, THRESHOLDS, np.maximum.accumulate(late, axis=1))
    wide = steps.least_on_steps(made, c, m, l, u, (3,))
    for _ in range(8):
        l = rng.integers(l, u + 1)
        u = rng.integers(l, u + 1)
        narrow = steps.least_on_steps(made, c, m, l, u, (3,))
        assert (narrow >= wide).all()
        wide = narrow


def test_rounded_thresholds_are_moved_by_two_at_most_and_by_less_than_one_on_average():
    k = np.arange(255)
    for slope in (1, 3, 0.37, 17.3, 862.96, 1234.567):
        rounded = np.unique(np.ceil(slope * k).astype(np.int64))[None]
        made, relaxed = steps._make(0, rounded, rounded), stairs._with_lines(0, rounded, rounded)
        assert (made.left == relaxed.left).all()
        assert (made.right == relaxed.right).all()
        assert made.bits == relaxed.bits
        one = 1 << made.bits
        down, up = rounded * one - made.left, made.right - (rounded - 1) * one
        assert down.min() >= 0 <= up.min()
        # The line through the first and the last is off by one more at most, at one end.
        assert max(down.max(), up.max()) <= (0 if slope == int(slope) else 2 * one)
        assert up.mean() <= one


def test_each_channel_has_a_line_of_its_own():
    made, relaxed = steps._make(0, THRESHOLDS, THRESHOLDS), stairs._with_lines(0, THRESHOLDS, THRESHOLDS)
    for channel, row in enumerate(THRESHOLDS):
        inside = np.abs(row) < ACC_LIMIT
        alone = steps._make(0, row[None], row[None])
        for side in ("left", "right"):
            assert (getattr(made, side)[channel][inside] == getattr(alone, side)[0][inside]).all()
            assert (getattr(made, side)[channel][inside] == getattr(relaxed, side)[channel][inside]).all()
    straight = THRESHOLDS[2] << made.bits
    assert (made.left[2] == straight).all()
    assert (made.right[2] == straight - (1 << made.bits)).all()
    assert (made.left[1] < THRESHOLDS[1] << made.bits).any()
