"""Every point of a box lies inside the bounds, at every tensor and every accumulator; linear bounds lie below every value."""

import numpy as np
import pytest
import random_networks
from hypothesis import given, settings
from hypothesis import strategies as st

from bvverify.bounds import interval, linear
from bvverify.model.ops import Conv2d, Dense
from bvverify.run import interpreter


def _case(seed):
    rng = np.random.default_rng(seed)
    net = random_networks.network(rng)
    where = random_networks.box(rng, net)
    return rng, net, where, random_networks.points(where)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 10**9))
def test_intervals_contain_every_tensor_and_accumulator(seed):
    _, net, where, x = _case(seed)
    traced = interpreter.trace(net, x)
    bounds = interval.propagate(net, where)
    assert bounds.contains(traced)
    for index, op in enumerate(net.ops):
        if isinstance(op, Dense | Conv2d):
            acc = interpreter.accumulate(op, traced[op.x])
            assert (bounds.acc_lo[index] <= acc).all()
            assert (acc <= bounds.acc_hi[index]).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 10**9))
def test_linear_bounds_contain_every_point(seed):
    rng, net, where, x = _case(seed)
    traced = interpreter.trace(net, x)
    tightened, _ = linear.tighten(net, where, interval.propagate(net, where))
    assert tightened.contains(traced)
    rows = rng.integers(-3, 4, (4, net.output_tensor.size))
    over = rng.integers(-2, 3, (4, net.input.tensor.size))
    values = traced[-1] @ rows.T + x.reshape(len(x), -1) @ over.T
    assert (linear.lower(net, tightened, rows, over)[0] <= values.min(axis=0)).all()


@pytest.mark.parametrize("kind", random_networks.KINDS)
def test_a_box_of_one_point_has_no_slack_in_intervals(kind):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        net = random_networks.network(rng, [kind])
        where = random_networks.box(rng, net, most=1)
        traced = interpreter.trace(net, where.lo[None])
        bounds = interval.propagate(net, where)
        for lo, hi, t in zip(bounds.lo, bounds.hi, traced, strict=True):
            inside = (lo <= t[0]) & (t[0] <= hi)
            assert inside.all()


def test_an_accumulator_that_may_wrap_gets_its_whole_range():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(200):
        net = random_networks.network(rng, ["dense"])
        bounds = interval.propagate(net, random_networks.box(rng, net, 1 << 12))
        for index, op in enumerate(net.ops):
            if isinstance(op, Dense) and op.accumulator_bits in (5, 6):
                found += bool((bounds.acc_hi[index] >= 1 << (op.accumulator_bits - 1)).any())
    assert found > 20  # the generator does place accumulators beyond their width
