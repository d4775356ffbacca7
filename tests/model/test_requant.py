"""Every requantisation, channel by channel, against its formula in Python's integers and fractions; its reach, its limits, its names."""

from dataclasses import fields
from fractions import Fraction as Q

import numpy as np
import pytest

from bvverify.model import requant as rq
from bvverify.model.box import nearest_float32
from bvverify.model.staircase import ACC_LIMIT, Staircase

LO, HI = -128, 127
M32 = np.array([0.0123, 0.3, 1.75], np.float32)
M64 = np.array([0.0123, 0.5, 1.75])
BIAS, SCALE = np.array([-1.3, 0.0, 7.25], np.float32), np.array([0.011, 0.02, 0.5], np.float32)
MANTISSA, SHIFT = np.array([1 << 30, (1 << 31) - 1, 0x5A82799A, 0]), np.array([-9, 3, 0, -62])
RATIONALS = (Q(1, 3), Q(22, 7), Q(1, 10**9 + 7))
KINDS = {
    "shift-half-up": rq.ShiftHalfUp(6),
    "q31-double": rq.Q31Double(MANTISSA, SHIFT, 3),
    "q31-half-up": rq.Q31HalfUp(MANTISSA, SHIFT, -4),
    "q31-single": rq.Q31Single(MANTISSA, SHIFT, 5),
    "float32-half-even": rq.Float32HalfEven(M32, -6),
    "qnnpack": rq.Qnnpack(M32, 7),
    "fbgemm": rq.Fbgemm(M32, BIAS, SCALE, True, -8),
    "fbgemm, one scale": rq.Fbgemm(M32, BIAS, SCALE, False, -8),
    "fbgemm, no bias": rq.Fbgemm(M32, None, SCALE, True, 2),
    "fbgemm, neither": rq.Fbgemm(M32, None, SCALE, False, 2),
    "float64-away": rq.Float64Away(M64, 9),
    "rational-half-up": rq.RationalHalfUp(RATIONALS, -10),
    "by channel": rq.ByChannel((rq.Float32HalfEven(M32[:1], 1), rq.Q31Single(MANTISSA[:2], SHIFT[:2], 0), rq.Float64Away(M64, 2))),
}


def fl(value):
    """One rounding to float32, of a fraction."""
    return Q(float(nearest_float32(Q(value))))


def half_up(value):
    return (Q(value) + Q(1, 2)).__floor__()


def away(value):
    return half_up(value) if value > 0 else -half_up(-value)


def at(values, channel):
    return Q(float(values[channel % len(values)]))


def by_hand(requant, channel, acc):
    """The formula of the table at the head of ``requant``, before the clamp."""
    match requant:
        case rq.ShiftHalfUp(shift=shift):
            return half_up(Q(acc, 1 << shift)) if shift else acc
        case rq.Q31Double() | rq.Q31HalfUp():
            shift = int(requant.shift[channel])
            high = half_up(Q((acc << max(shift, 0)) * int(requant.mantissa[channel]), 1 << 31))
            return (away if isinstance(requant, rq.Q31Double) else half_up)(Q(high, 1 << max(-shift, 0))) + requant.zero_point
        case rq.Q31Single():
            return half_up(Q(acc * int(requant.mantissa[channel])) * Q(2) ** (int(requant.shift[channel]) - 31)) + requant.zero_point
        case rq.Float32HalfEven() | rq.Qnnpack():
            return round(fl(fl(acc) * at(requant.multiplier, channel))) + requant.zero_point
        case rq.Fbgemm(multiplier=multiplier, bias=bias, scale=scale):
            total = fl(acc)
            if bias is not None and requant.per_channel:
                total = fl(total + fl(at(bias, channel) / at(scale, channel)))
            elif bias is not None:
                total = fl(at(bias, channel) * fl(1 / at(scale, channel)) + total)
            return round(fl(total * at(multiplier, channel))) + requant.zero_point
        case rq.Float64Away(multiplier=multiplier):
            return away(Q(float(acc) * float(multiplier[channel % len(multiplier)]))) + requant.zero_point
        case rq.RationalHalfUp(multiplier=multiplier):
            return half_up(acc * multiplier[channel % len(multiplier)]) + requant.zero_point
        case rq.ByChannel(parts=parts):
            for part in parts:
                if channel < rq.channels(part):
                    return by_hand(part, channel, acc)
                channel -= rq.channels(part)
    raise AssertionError(requant)


def accumulators(requant):
    """Small ones, random ones, and both ends of what the runtime can take: (n, channels)."""
    rng, count = np.random.default_rng(0), rq.channels(requant)
    ends = rq.reach(requant)
    ends = np.full(count, 1 << 40) if ends is None else np.minimum(ends, 1 << 40)
    wide = np.stack([rng.integers(-end, end, 60, endpoint=True) for end in ends.tolist()], axis=1)
    near = rng.integers(-3000, 3000, (300, count))
    return np.concatenate([near, wide, ends[None], -ends[None], np.arange(-40, 40)[:, None].repeat(count, 1)])


@pytest.mark.parametrize("kind", KINDS)
def test_every_channel_follows_its_formula(kind):
    requant, acc = KINDS[kind], accumulators(KINDS[kind])
    expected = [[min(max(by_hand(requant, c, a), LO), HI) for c, a in enumerate(row)] for row in acc.tolist()]
    assert rq.apply(requant, acc, LO, HI).tolist() == expected
    # As in a convolution: channels along axis 1, whatever follows.
    grid = acc[: len(acc) // 6 * 6].reshape(-1, 3, 2, acc.shape[1]).transpose(0, 3, 1, 2)
    shaped = np.array(expected)[: len(acc) // 6 * 6].reshape(-1, 3, 2, acc.shape[1]).transpose(0, 3, 1, 2)
    assert (rq.apply(requant, np.ascontiguousarray(grid), LO, HI) == shaped).all()


@pytest.mark.parametrize("kind", KINDS)
def test_beyond_the_reach_it_stays_what_it_is_at_its_end(kind):
    requant, ends = KINDS[kind], rq.reach(KINDS[kind])
    if ends is None:
        ends = np.full(rq.channels(requant), 1 << 47)
    ends = np.minimum(ends, 1 << 47)
    for sign in (1, -1):
        at_end = rq.apply(requant, sign * ends[None], -(1 << 15), (1 << 15) - 1)
        beyond = rq.apply(requant, sign * np.maximum(ends, 1 << 47)[None], -(1 << 15), (1 << 15) - 1)
        assert ((beyond == at_end) | (rq.reach(requant) is None) | (ends == 1 << 47)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_one_multiplier_serves_all_channels(kind):
    if kind == "by channel":
        return
    requant = KINDS[kind]
    values = {f.name: getattr(requant, f.name) for f in fields(requant)}
    one = type(requant)(**{name: value[:1] if isinstance(value, np.ndarray | tuple) else value for name, value in values.items()})
    assert rq.channels(one) == 1
    acc = np.arange(-900, 900).reshape(-1, 3, 2)
    assert rq.apply(one, acc, -50, 60).ravel().tolist() == [min(max(by_hand(one, 0, a), -50), 60) for a in acc.ravel().tolist()]


def test_channels_and_names():
    assert {kind: rq.channels(requant) for kind, requant in KINDS.items() if kind in ("shift-half-up", "q31-single", "by channel")} == {
        "shift-half-up": 1,
        "q31-single": 4,
        "by channel": 6,
    }
    for kind, requant in KINDS.items():
        assert rq.name(requant) == ("float32-half-even+q31-single+float64-away" if kind == "by channel" else kind.partition(",")[0])
    assert rq.name(rq.ByChannel((rq.Qnnpack(M32, 0), rq.Qnnpack(M32, 1)))) == "qnnpack"


def test_q31_at_every_exponent():
    """At the largest and the smallest mantissa, and accumulators up to the reach, of either sign."""
    shift = np.arange(-62, 31)
    for mantissa in (1 << 30, (1 << 31) - 1, 0):
        for kind in (rq.Q31Double, rq.Q31HalfUp, rq.Q31Single):
            requant = kind(np.full(len(shift), mantissa), shift, 0)
            ends = rq.reach(requant)
            for acc in (ends, -ends, ends // 3, -(ends // 7), np.ones_like(ends), -np.ones_like(ends)):
                found = rq.apply(requant, acc[None], LO, HI)[0].tolist()
                assert found == [min(max(by_hand(requant, c, a), LO), HI) for c, a in enumerate(acc.tolist())]


@pytest.mark.parametrize(
    "multipliers",
    [(Q(1 << 62), Q(1)), (Q((1 << 62) + 1),), (Q(1, 3), Q((1 << 80) - 1, 1 << 90)), (Q((1 << 30) + 1, (1 << 52) - 1), Q(1, 1 << 20))],
    ids=["whole", "large", "wide and narrow", "narrow"],
)
def test_rational_half_up_in_either_width(multipliers):
    requant = rq.RationalHalfUp(multipliers, 4)
    near = [half_up(Q(k) / m) + e for m in multipliers for k in range(-140, 140, 7) for e in (-1, 0, 1)]
    acc = np.array([v for v in [*near, 1 << 47, -(1 << 47), (1 << 47) - 1, 0, 1, -1] if abs(v) <= 1 << 47])
    rows = acc[:, None].repeat(len(multipliers), 1)
    expected = [[min(max(half_up(a * m) + 4, LO), HI) for m in multipliers] for a in acc.tolist()]
    assert rq.apply(requant, rows, LO, HI).tolist() == expected


@pytest.mark.parametrize("top", [7, 101])
def test_rational_half_up_next_to_its_ties(top):
    """Products of 59 bits, a unit on either side of a tie: neither float64 nor a sloppy end of the range gets them right."""
    bottom, inverse = (1 << 50) - 27, pow(top, -1, (1 << 50) - 27)
    acc = [sign * ((bottom + e) // 2 * inverse % bottom) for e in (-3, -1, 1, 3) for sign in (1, -1)]
    requant = rq.RationalHalfUp((Q(top, bottom),), 0)
    assert rq.apply(requant, np.array(acc)[:, None], LO, HI)[:, 0].tolist() == [half_up(a * Q(top, bottom)) for a in acc]


class TestReach:
    """The largest accumulator whose product a 32-bit kernel can hold, with room for what is added and rounded behind it."""

    ROOM = (1 << 31) - (1 << 17)

    def test_what_cannot_overflow_has_none(self):
        assert [kind for kind, requant in KINDS.items() if rq.reach(requant) is None] == [
            "shift-half-up",
            "float32-half-even",
            "rational-half-up",
        ]

    def test_q31_shifts_the_accumulator_left_first(self):
        assert rq.reach(rq.Q31Double(MANTISSA, SHIFT, 0)).tolist() == [self.ROOM, self.ROOM >> 3, self.ROOM, self.ROOM]

    @pytest.mark.parametrize("kind", [rq.Qnnpack, rq.Float64Away])
    def test_a_product_stays_in_the_room(self, kind):
        multiplier = np.array([0.001, 1.0, 3.0, 1000.0], np.float32 if kind is rq.Qnnpack else np.float64)
        assert rq.reach(kind(multiplier, 0)).tolist() == [(1 << 31) - 1, self.ROOM, self.ROOM // 3, int(self.ROOM / 1000)]

    def test_fbgemm_adds_its_bias_before(self):
        multiplier, scale = np.array([0.001, 1.0, 4.0], np.float32), np.array([0.5, 0.25, 2.0], np.float32)
        bias = np.array([1.0, -3.0, 10.0], np.float32)
        assert rq.reach(rq.Fbgemm(multiplier, bias, scale, True, 0)).tolist() == [
            (1 << 31) - 1 - 4 - 2,
            self.ROOM - 24 - 2,
            self.ROOM // 4 - 10 - 2,
        ]
        assert rq.reach(rq.Fbgemm(multiplier, None, scale, True, 0)).tolist() == [(1 << 31) - 3, self.ROOM - 2, self.ROOM // 4 - 2]
        # Rounded down: a half more would be one too many.
        uneven = rq.Fbgemm(np.ones(1, np.float32), np.full(1, 0.3, np.float32), np.ones(1, np.float32), True, 0)
        assert rq.reach(uneven).tolist() == [self.ROOM - 3]

    def test_blocks_of_channels_have_their_own(self):
        blocks = rq.ByChannel((rq.Float32HalfEven(M32[:2], 0), rq.Q31Single(MANTISSA[:2], SHIFT[:2], 0)))
        assert rq.reach(blocks).tolist() == [(1 << 63) - 1] * 2 + [self.ROOM, self.ROOM >> 3]


def test_rational_half_up_of_a_tiny_multiplier_and_two_levels():
    bottom = (1 << 62) - 1
    acc = [0, 1, -1, (1 << 61) - 1, 1 << 61, -(1 << 61), 1 - (1 << 61), 3 << 60, -(3 << 60)]
    found = rq.apply(rq.RationalHalfUp((Q(1, bottom),), 0), np.array(acc)[:, None], 0, 1)
    assert found[:, 0].tolist() == [max(half_up(Q(a, bottom)), 0) for a in acc] == [0, 0, 0, 0, 1, 0, 0, 1, 0]


def test_what_fbgemm_adds():
    assert KINDS["fbgemm"].offset.tolist() == (BIAS / SCALE).tolist()
    assert KINDS["fbgemm, no bias"].offset.tolist() == [0, 0, 0]
    assert KINDS["fbgemm, neither"].offset.tolist() == (np.float32(1) / SCALE).tolist()


class TestMultipliers:
    """The real numbers that a requantisation stands for."""

    def test_they_are_exact(self):
        assert rq.real_multiplier(rq.ShiftHalfUp(0)) == (Q(1),)
        assert rq.real_multiplier(rq.Q31HalfUp(MANTISSA, SHIFT, 0)) == (
            Q(1, 1 << 10),
            Q((1 << 31) - 1, 1 << 28),
            Q(0x5A82799A, 1 << 31),
            Q(0),
        )
        assert rq.real_multiplier(rq.RationalHalfUp(RATIONALS, 0)) == RATIONALS
        parts = rq.ByChannel((rq.RationalHalfUp(RATIONALS, 0), rq.Float64Away(M64, 0)))
        assert rq.real_multiplier(parts) == (*RATIONALS, *map(Q, M64.tolist()))

    def test_a_channel_of_blocks(self):
        blocks = KINDS["by channel"]
        first, second, third = blocks.parts
        assert [rq.of_channel(blocks, c) for c in range(6)] == [(first, 0), (second, 0), (second, 1), (third, 0), (third, 1), (third, 2)]
        assert [rq.zero_point_of(blocks, c) for c in range(6)] == [1, 0, 0, 2, 2, 2]
        with pytest.raises(ValueError, match="only 6 channels"):
            rq.of_channel(blocks, 6)
        assert rq.of_channel(first, 5) == (first, 5)
        assert rq.zero_point_of(rq.ShiftHalfUp(3), 0) == 0

    @pytest.mark.parametrize("kind", KINDS)
    def test_before_rounding_is_the_real_number(self, kind):
        requant = KINDS[kind]
        for channel in range(rq.channels(requant)):
            part, inner = rq.of_channel(requant, channel)
            multiplier, added = rq.real_multiplier(part)[inner % len(rq.real_multiplier(part))], Q(0)
            if kind in ("fbgemm", "fbgemm, one scale"):
                added = at(BIAS, inner) / at(SCALE, inner)
            assert rq.before_rounding(requant, channel, -77) == (added - 77) * multiplier + rq.zero_point_of(part, inner)

    def test_before_rounding_where_one_multiplier_serves_all(self):
        one = rq.Fbgemm(M32[:1], BIAS[:1], SCALE[:1], False, -8)
        assert rq.before_rounding(one, 4, 10) == (10 + at(BIAS, 0) / at(SCALE, 0)) * at(M32, 0) - 8
        assert rq.before_rounding(rq.Float32HalfEven(M32[:1], 1), 4, 10) == 10 * at(M32, 0) + 1

    def test_the_ideal_twin(self):
        assert rq.idealised(rq.ShiftHalfUp(4)) == rq.RationalHalfUp((Q(1, 16),), 0)
        assert rq.idealised(rq.Q31Single(MANTISSA, SHIFT, 5)).multiplier[3] == Q(1, 1 << 62)
        assert rq.idealised(rq.Fbgemm(M32, None, SCALE, True, 2)) == rq.RationalHalfUp(tuple(map(Q, M32.tolist())), 2)
        blocks = rq.ByChannel((rq.ShiftHalfUp(4), rq.Float64Away(M64, 2)))
        assert rq.idealised(blocks) == rq.ByChannel((rq.RationalHalfUp((Q(1, 16),), 0), rq.RationalHalfUp(tuple(map(Q, M64.tolist())), 2)))
        with pytest.raises(ValueError, match="adds a real bias"):
            rq.idealised(KINDS["fbgemm"])


class TestQ31:
    """TFLite's QuantizeMultiplier, against the nearest fraction."""

    def test_the_mantissa_has_31_bits_and_is_the_nearest(self):
        rng = np.random.default_rng(1)
        for real in [*np.exp2(rng.uniform(-31, 30, 300)), 0.5, 1.0, 0.75, 2.0**-32, 2.0**29, float(np.nextafter(2.0**30, 0)) / 2]:
            mantissa, shift = rq.q31(float(real))
            assert 1 << 30 <= mantissa < 1 << 31
            assert abs(Q(mantissa) * Q(2) ** (shift - 31) - Q(float(real))) <= Q(2) ** (shift - 32)

    def test_a_tie_is_rounded_away(self):
        assert rq.q31(float(Q((1 << 31) + 1, 1 << 32))) == ((1 << 30) + 1, 0)
        assert rq.q31(float(Q((1 << 31) + 3, 1 << 32))) == ((1 << 30) + 2, 0)

    def test_what_is_rounded_up_to_32_bits_is_halved(self):
        assert rq.q31(1 - 2.0**-40) == (1 << 30, 1)
        assert rq.q31(2.0**30 - 2.0**-10) == ((1 << 31) - 1, 30)

    @pytest.mark.parametrize(
        ("real", "made"),
        [
            (0.0, (0, 0)),
            (2.0**-32, (1 << 30, -31)),
            (2.0**-33, (0, 0)),
            (1.999 * 2.0**-33, (0, 0)),
            (2.0**29, (1 << 30, 30)),
            (1.5 * 2.0**29, (3 << 29, 30)),
            (2.0**30, ((1 << 31) - 1, 30)),
            (2.0**40, ((1 << 31) - 1, 30)),
        ],
    )
    def test_the_ends(self, real, made):
        assert rq.q31(real) == made


class TestRefused:
    """Data that no runtime holds."""

    @pytest.mark.parametrize("shift", [-1, 63])
    def test_shifts(self, shift):
        with pytest.raises(ValueError, match="0 to 62"):
            rq.ShiftHalfUp(shift)

    def test_the_largest_shift(self):
        assert rq.apply(rq.ShiftHalfUp(62), np.array([[1 << 60, -(1 << 60)]]), LO, HI).tolist() == [[0, 0]]

    @pytest.mark.parametrize(
        ("mantissa", "shift", "complaint"),
        [
            ([[1 << 30]], [[0]], "of one length"),
            ([1 << 30, 1 << 30], [0], "of one length"),
            ([(1 << 30) - 1], [0], "31 bits"),
            ([1 << 31], [0], "31 bits"),
            ([1], [0], "31 bits"),
            ([-(1 << 30)], [0], "31 bits"),
            ([1 << 30, 1 << 31], [0, 0], "31 bits"),
            ([1 << 30], [-63], "-62 to 30"),
            ([1 << 30], [31], "-62 to 30"),
            ([1 << 30, 1 << 30], [0, 31], "-62 to 30"),
        ],
    )
    def test_q31_multipliers(self, mantissa, shift, complaint):
        with pytest.raises(ValueError, match=complaint):
            rq.Q31Single(np.array(mantissa), np.array(shift), 0)

    @pytest.mark.parametrize(
        ("kind", "values", "complaint"),
        [
            (rq.Float32HalfEven, M64, "vector of float32"),
            (rq.Float64Away, M32, "vector of float64"),
            (rq.Qnnpack, M32[None], "vector of float32"),
            (rq.Qnnpack, np.array([1, 0], np.float32), "positive and finite"),
            (rq.Qnnpack, np.array([1, -1], np.float32), "positive and finite"),
            (rq.Float64Away, np.array([np.inf, 1.0]), "positive and finite"),
            (rq.Float64Away, np.array([1.0, np.nan]), "positive and finite"),
        ],
    )
    def test_float_multipliers(self, kind, values, complaint):
        with pytest.raises(ValueError, match=complaint):
            kind(values, 0)

    @pytest.mark.parametrize(
        ("multiplier", "bias", "scale", "complaint"),
        [
            (M32, BIAS, SCALE[:2], "one scale"),
            (M32, BIAS.astype(np.float64), SCALE, "the bias"),
            (M32, BIAS[:2], SCALE, "the bias"),
            (M32, np.array([0, np.inf, 0], np.float32), SCALE, "the bias"),
            (M32, BIAS, -SCALE, "positive"),
        ],
    )
    def test_fbgemm(self, multiplier, bias, scale, complaint):
        with pytest.raises(ValueError, match=complaint):
            rq.Fbgemm(multiplier, bias, scale, True, 0)

    @pytest.mark.parametrize("multiplier", [(), (Q(0),), (Q(1), Q(-1)), (Q(1), Q(0))])
    def test_rationals(self, multiplier):
        with pytest.raises(ValueError, match="positive"):
            rq.RationalHalfUp(multiplier, 0)

    def test_an_empty_clamp(self):
        with pytest.raises(ValueError, match=r"empty clamp: \[4, 3\]"):
            Staircase(rq.ShiftHalfUp(1), 4, 3)
        assert Staircase(rq.ShiftHalfUp(1), 4, 4).thresholds.shape == (1, 0)


def test_frozen_means_frozen():
    """What was given is copied, and what is held cannot be written to."""
    given = [M32.copy(), BIAS.copy(), SCALE.copy(), MANTISSA.copy(), SHIFT.copy(), M64.copy()]
    made = rq.Fbgemm(given[0], given[1], given[2], True, 0)
    q31, away64, plain = rq.Q31Double(given[3], given[4], 0), rq.Float64Away(given[5], 0), rq.Float32HalfEven(given[0], 0)
    thresholds = Staircase(rq.ShiftHalfUp(1), 0, 3).thresholds
    for held in (made.multiplier, made.bias, made.scale, q31.mantissa, q31.shift, away64.multiplier, plain.multiplier, thresholds):
        assert not held.flags.writeable
    for array in given:
        array[:] = 1
    assert (made.multiplier == M32).all()
    assert (q31.shift == SHIFT).all()


@pytest.mark.parametrize("kind", KINDS)
def test_thresholds_are_where_the_formula_steps(kind):
    requant = KINDS[kind]
    staircase = Staircase(requant, -3, 4)
    assert staircase.thresholds.shape == (rq.channels(requant), 7)
    ends = rq.reach(requant)
    for channel, row in enumerate(staircase.thresholds.tolist()):
        end = ACC_LIMIT if ends is None else min(int(ends[channel]), ACC_LIMIT)
        for level, threshold in zip(range(-2, 5), row, strict=True):
            if abs(threshold) < end:
                assert by_hand(requant, channel, threshold) >= level > by_hand(requant, channel, threshold - 1)


def test_levels_out_of_reach():
    """A level that no accumulator reaches, and one that each does."""
    still = Staircase(rq.ShiftHalfUp(62), -2, 2)
    assert still.thresholds.tolist() == [[-ACC_LIMIT, -ACC_LIMIT, ACC_LIMIT + 1, ACC_LIMIT + 1]]
    assert Staircase(rq.ShiftHalfUp(62), -1, 0).thresholds.tolist() == [[-ACC_LIMIT]]
    assert ACC_LIMIT == 1 << 48
    acc = np.array([[-(1 << 48), 0, 1 << 48]])
    assert still.at(acc).tolist() == [[0, 0, 0]]
