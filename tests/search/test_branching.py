"""Where a node is split: at a kink if one is left, else between the two ends of levels that the minimiser lies between."""

import numpy as np
import pytest
import torch

from bvverify.bounds import stairs
from bvverify.bounds.units import of_stairs
from bvverify.search import branching

STEPS, WIDTH = 20, 10
THRESHOLDS = WIDTH * np.arange(1, STEPS + 1)[None]


def _candidates(l, u, a, c, z):
    """The best candidate (score, place, value) of one row of units with twenty steps, ten accumulators each."""
    n = len(l)
    made = stairs._with_lines(0, THRESHOLDS, THRESHOLDS)
    unit = of_stairs(made, np.arange(n), n, (1, n), np.zeros(n, np.int64), np.zeros(n, np.int64), True)
    whole = (torch.tensor([v]) for v in (l, u))
    found = branching._steps(unit, *whole, *(torch.tensor([v], dtype=torch.float64) for v in (a, c, z)))
    score, place, value = (torch.cat([part[k] for part in found], 1)[0] for k in range(3))
    best = int(score.argmax())
    return float(score[best]), int(place[best]), int(value[best])


def _on_the_hull(a, c):
    """The result that the hull grants at an accumulator between kinks: right ends of levels for c > 0, left ends else, on a line."""
    return a / WIDTH - (1 - 1 / WIDTH if c > 0 else 0)


@pytest.mark.parametrize("c", [2.0, -2.0])
@pytest.mark.parametrize("a", [42.0, 45.0, 48.0, 95.0, 151.0])
def test_without_a_kink_both_sides_move_the_minimiser_to_an_end_of_a_level(a, c):
    score, _, value = _candidates([20], [185], [a], [c], [_on_the_hull(a, c)])
    assert score > 0
    ends = [k * WIDTH - (1 if c > 0 else 0) for k in range(1, STEPS + 1)]
    below, above = max(e for e in ends if e <= a), min(e for e in ends if e > a)
    first = [e for e in ends if e <= value]
    second = [e for e in ends if e > value]
    assert first[-1] == below
    assert second[0] == above
    assert value + 1 in THRESHOLDS


def test_of_units_without_a_kink_the_one_farthest_from_both_ends():
    c, a = [-2.0, -2.0, -2.0, -1.0], [42.0, 45.0, 48.0, 45.0]
    assert _candidates([20] * 4, [185] * 4, a, c, [_on_the_hull(v, w) for v, w in zip(a, c, strict=True)])[1] == 1


def test_a_kink_comes_first():
    """The first unit has its lower kink left, of which the minimiser grants a little; the second none, and a larger gap."""
    c, a = [-0.1, -5.0], [3.0, 45.0]
    score, place, value = _candidates([-30, 20], [185, 185], a, c, [0.5, 4.5])
    assert (place, value) == (0, WIDTH - 1)
    assert score > 1e-6


def test_what_has_one_level_is_not_split():
    assert _candidates([21], [25], [23.0], [1.0], [2.0])[0] < 0
