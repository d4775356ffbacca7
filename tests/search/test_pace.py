"""How long the steps of a node's ascent are is learned from what longer and shorter ones gained."""

import pytest
import torch

from bvverify.search.pace import Pace

NUMBERS = list(range(400))


def gap(size, rows=400):
    return torch.full((rows,), -float(size), dtype=torch.float64)


def taught(best, size=4.0, rounds=60):
    """A pace whose nodes gain the more the nearer their steps are to ``best``."""
    pace = Pace()
    for _ in range(rounds):
        steps = pace.of(gap(size), NUMBERS).double()
        pace.learn(gap(size), gap(size) * (1 - 0.5 * torch.exp(-((steps / best).log() ** 2))), NUMBERS)
    return pace


def middle(pace, size=4.0):
    return float(pace.of(gap(size), NUMBERS).double().log().mean().exp())


@pytest.mark.parametrize("best", [0.03, 0.3, 2.0])
def test_it_finds_the_steps_that_gain_most(best):
    assert middle(taught(best)) == pytest.approx(best, rel=0.1)


def test_half_of_the_nodes_take_longer_steps_two_in_a_row():
    steps = Pace().of(gap(1.0), NUMBERS)
    longer = steps > steps.mean()
    assert int(longer.sum()) == len(NUMBERS) // 2
    assert torch.equal(longer[0::2], longer[1::2])


def test_gaps_of_other_sizes_learn_less_of_it():
    before, after = Pace(), taught(0.01)
    moved = [abs(float((after.log - before.log)[size + 8])) for size in (2, 3, 6)]
    assert moved[0] > moved[1] > moved[2] > 0


def test_it_is_the_same_for_the_same_nodes():
    assert torch.equal(taught(0.2).log, taught(0.2).log)


def test_nothing_is_learned_where_nothing_gains_or_nothing_can_be_compared():
    pace = Pace()
    before = pace.log.clone()
    pace.learn(gap(1.0), gap(1.0), NUMBERS)
    pace.learn(gap(1.0, 4), gap(0.5, 4), [0, 1, 4, 5])
    assert torch.equal(pace.log, before)


def test_the_first_bound_of_all_and_what_is_closed_have_a_place():
    pace = Pace()
    bounds = torch.tensor([-torch.inf, -torch.inf, -1e-30, -1e30], dtype=torch.float64)
    assert torch.isfinite(pace.of(bounds, [0, 2, 4, 6])).all()
    pace.learn(bounds, torch.tensor([-1.0, 3.0, 5.0, -torch.inf]), [0, 2, 4, 6])
    assert torch.isfinite(pace.log).all()


def test_a_closed_node_counts_no_more_for_being_far_above_zero():
    far, near = Pace(), Pace()
    longer = torch.tensor([n // 2 % 2 for n in NUMBERS], dtype=torch.bool)
    for pace, above in ((far, 100.0), (near, 0.01)):
        pace.learn(gap(1.0), torch.where(longer, above, -0.5).double(), NUMBERS)
    assert torch.equal(far.log, near.log)


@pytest.mark.parametrize(("power", "end"), [(-1, 0.005), (1, 4.0)])
def test_it_stays_within_limits(power, end):
    pace = Pace()
    for _ in range(100):
        gained = 0.001 * pace.of(gap(4.0), NUMBERS).double() ** power
        pace.learn(gap(4.0), gap(4.0) * (1 - gained), NUMBERS)
    assert middle(pace) == pytest.approx(end, rel=0.1)
