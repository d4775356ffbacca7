"""The steps of every requantisation end where ``run`` ends, on 10,000 neurons each, at steps of the staircase and anywhere."""

from fractions import Fraction

import numpy as np
import pytest

from bvverify.explain import rules
from bvverify.model import requant as rq
from bvverify.model.box import quantise
from bvverify.model.staircase import ACC_LIMIT, Staircase
from bvverify.model.types import INT8, UINT8, Quantisation

NEURONS = 10_000
CHANNELS = 20


def _multipliers(rng):
    """Real multipliers: everyday ones, powers of two and their halves (ties), and one or two large ones."""
    real = np.exp(rng.uniform(np.log(1e-5), np.log(0.9), CHANNELS))
    real[:4] = [0.5, 2.0**-7, 3 * 2.0**-9, 1.75]
    return real


def _q31(rng):
    return (np.array(v) for v in zip(*(rq.q31(float(m)) for m in _multipliers(rng)), strict=True))


def _fbgemm(rng, per_channel, bias=True):
    m = _multipliers(rng).astype(np.float32)
    scale = np.exp(rng.uniform(-9, -2, CHANNELS)).astype(np.float32)
    return rq.Fbgemm(m, rng.normal(0, 1, CHANNELS).astype(np.float32) if bias else None, scale, per_channel, 3)


def _rational(rng):
    return rq.RationalHalfUp(tuple(Fraction(int(rng.integers(1, 900)), int(rng.integers(900, 90_000))) for _ in range(CHANNELS)), 7)


MAKERS = {
    "shift-half-up": lambda rng: rq.ShiftHalfUp(int(rng.integers(0, 14))),
    "q31-double": lambda rng: rq.Q31Double(*_q31(rng), -5),
    "q31-half-up": lambda rng: rq.Q31HalfUp(*_q31(rng), 11),
    "q31-single": lambda rng: rq.Q31Single(*_q31(rng), 4),
    "float32-half-even": lambda rng: rq.Float32HalfEven(_multipliers(rng).astype(np.float32), -3),
    "fbgemm per channel": lambda rng: _fbgemm(rng, per_channel=True),
    "fbgemm per tensor": lambda rng: _fbgemm(rng, per_channel=False),
    "fbgemm without bias": lambda rng: _fbgemm(rng, per_channel=True, bias=False),
    "qnnpack": lambda rng: rq.Qnnpack(_multipliers(rng).astype(np.float32), 100),
    "float64-away": lambda rng: rq.Float64Away(_multipliers(rng), 9),
    "rational-half-up": _rational,
    "by channel": lambda rng: rq.ByChannel((rq.Q31HalfUp(*(v[:16] for v in _q31(rng)), 0), rq.Q31Double(*(v[16:] for v in _q31(rng)), 0))),
}


def accumulators(rng, staircase, rows):
    """(rows, channels): half of them at a threshold or a unit off it, the rest anywhere that int32 and the rule's reach allow."""
    steps = np.broadcast_to(staircase.thresholds, (CHANNELS, staircase.thresholds.shape[1]))
    at = np.take_along_axis(steps, rng.integers(0, steps.shape[1], (CHANNELS, rows)), axis=1).T + rng.integers(-1, 2, (rows, CHANNELS))
    anywhere = (rng.choice([-1, 1], (rows, CHANNELS)) * 2.0 ** rng.uniform(0, 30.9, (rows, CHANNELS))).astype(np.int64)
    acc = np.where((rng.random((rows, CHANNELS)) < 0.5) & (np.abs(at) < ACC_LIMIT), at, anywhere)
    limit = rq.reach(staircase.requant)
    most = np.int64((1 << 31) - 1) if limit is None else np.minimum(limit, (1 << 31) - 1)
    return np.clip(acc, -most, most)


@pytest.mark.parametrize("name", MAKERS)
def test_steps_end_where_run_ends(name):
    rng = np.random.default_rng(sum(map(ord, name)))
    rows = NEURONS // CHANNELS
    requant = MAKERS[name](rng)
    lo, hi = ((-128, 127), (0, 255), (-100, 90))[int(rng.integers(3))]
    staircase = Staircase(requant, lo, hi)
    acc = accumulators(rng, staircase, rows)
    out = staircase.apply(acc)
    made = [[rules.requantise(requant, c, int(a), lo, hi) for c, a in enumerate(row)] for row in acc]
    assert [[r.output for r in row] for row in made] == out.tolist()
    assert len({r.output for row in made for r in row}) > 60  # they do not all saturate


def test_a_value_before_rounding_is_what_compare_shows():
    rng = np.random.default_rng(1)
    for name, make in MAKERS.items():
        requant = make(rng)
        for _ in range(50):
            channel, acc = int(rng.integers(CHANNELS)), int(rng.integers(-(10**6), 10**6))
            made = rules.requantise(requant, channel, acc, -128, 127)
            assert made.value + made.zero_point == rq.before_rounding(requant, channel, acc), name


ROUNDINGS = ("divide-half-even", "divide-half-away", "multiply-half-even", "multiply-add-half-even")


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_quantisers(rounding):
    rng = np.random.default_rng(len(rounding))
    for qtype in (INT8, UINT8):
        quantiser = Quantisation(float(np.float32(rng.choice([1 / 16, 0.0123, 0.1]))), int(rng.integers(qtype.lo, qtype.hi)), rounding)
        ties = (rng.integers(-200, 200, 500) + 0.5) * quantiser.scale
        x = np.concatenate([ties, rng.normal(0, 5, 500)]).astype(np.float32)
        assert [rules.quantise(quantiser, qtype, v).output for v in x] == quantise(x, quantiser, qtype).tolist()


def test_double_rounding_by_hand():
    """-112.5 in the issue trackers: the high half rounds up to a tie, which then goes away from zero; one rounding stays below."""
    mantissa, shift = np.array([1 << 30]), np.array([0])
    twice = rules.requantise(rq.Q31Double(mantissa, np.array([-1]), 0), 0, -450, -128, 127)
    assert [(s.exact, s.result) for s in twice.steps] == [(-225, -225), (Fraction(-225, 2), -113)]
    assert twice.steps[1].distance == 0
    assert rules.requantise(rq.Q31HalfUp(mantissa, np.array([-1]), 0), 0, -450, -128, 127).output == -112
    assert rules.requantise(rq.Q31Single(mantissa, shift, 0), 0, -225, -128, 127).output == -112
    assert rules.requantise(rq.Float32HalfEven(np.array([0.25], np.float32), 0), 0, -450, -128, 127).output == -112
    saturated = rules.requantise(rq.Float32HalfEven(np.array([0.25], np.float32), 5), 0, 1000, -128, 127)
    assert (saturated.unclamped, saturated.output, saturated.saturated) == (255, 127, "high")
