"""The kernel's ranges and bounds, number for number, against ``scalar_kernel`` on networks of every operation."""

from fractions import Fraction

import numpy as np
import pytest
import random_networks
import scalar_kernel

from bvverify.bounds import stairs
from bvverify.certify import ranges, steps
from bvverify.certify.dual import Dual
from bvverify.model import ops
from bvverify.model.certificate import INPUT, Multipliers, units
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.staircase import ACC_LIMIT, Staircase
from bvverify.model.types import QType, Tensor, frozen_array
from bvverify.run.exact import LIMIT

SEEDS = 45
OUT_OF_REACH = ACC_LIMIT + 1
ALL = [
    *((kind,) for kind in random_networks.KINDS),
    ("conv", "max"),
    ("max", "conv"),
    ("add", "concat"),
    ("table", "mean"),
    None,
    None,
    None,
]
"""Every operation by itself as well: many, and small."""
ROWS = 5


def _integers(rng, shape, bits):
    """Of up to that many bits, and of either sign."""
    return np.array([int(rng.integers(-(1 << int(b)), 1 << int(b))) for b in rng.integers(0, bits, int(np.prod(shape)))], np.int64).reshape(
        shape
    )


class Case:
    """A network, a box, and for each of some rows limits on the units of some operations, all from a seed."""

    def __init__(self, seed):
        rng = self.rng = np.random.default_rng(seed)
        self.network = random_networks.network(rng, ALL[seed % len(ALL)])
        self.box = random_networks.box(rng, self.network)
        self.frame, self.net = ranges.Frame(self.network), scalar_kernel.Net(self.network)
        self.whole = ranges.propagate(self.frame, self.box.lo[None], self.box.hi[None], {})
        self.limits = {}
        for index in [INPUT, *self.whole.acc]:
            lo, hi = (self.box.lo.reshape(1, -1), self.box.hi.reshape(1, -1)) if index == INPUT else self.whole.acc[index]
            if rng.integers(2):
                rows = ROWS if rng.integers(4) else 1
                size = (rows, units(self.network, index))
                free = rng.integers(3, size=size) > 0
                a, b = (np.sort(rng.integers(lo - 1, hi + 2, size=(2, *size)), axis=0)) if rng.integers(8) else (hi + 1, hi)
                self.limits[index] = np.where(free, -ranges.ANYTHING, a), np.where(free, ranges.ANYTHING, b)

    def of_row(self, row):
        return {op: tuple(side[row if len(side) > 1 else 0].tolist() for side in pair) for op, pair in self.limits.items()}

    def expected(self, row, opaque=None):
        return scalar_kernel.ranges(self.net, self.box.lo.ravel().tolist(), self.box.hi.ravel().tolist(), self.of_row(row), opaque)


def _row(array, row):
    return array[row if len(array) > 1 else 0].ravel().tolist()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_range_of_every_part(seed):
    case = Case(seed)
    held = ranges.propagate(case.frame, case.box.lo[None], case.box.hi[None], case.limits, case.whole.opaque)
    assert held.opaque == case.whole.opaque
    for row in range(ROWS):
        expected = case.expected(row, case.whole.opaque)
        assert bool(_row(held.empty, row)[0]) == (expected is None)
        if expected is None:
            continue
        for t, tensor in enumerate(expected[0]):
            assert list(zip(_row(held.lo[t], row), _row(held.hi[t], row), strict=True)) == tensor
        for op, accumulators in expected[1].items():
            assert list(zip(*(_row(side, row) for side in held.acc[op]), strict=True)) == accumulators


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_could_wrap_on_the_whole_box(seed):
    case = Case(seed)
    expected = scalar_kernel.ranges(case.net, case.box.lo.ravel().tolist(), case.box.hi.ravel().tolist(), {})
    assert case.whole.opaque == expected[2]
    for t, tensor in enumerate(expected[0]):
        assert list(zip(_row(case.whole.lo[t], 0), _row(case.whole.hi[t], 0), strict=True)) == tensor


@pytest.mark.parametrize("bits", [6, 30, 62])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_bound(seed, bits):
    """Forms on the output, the input and a tensor between; multipliers of their own exponents on some operations."""
    case = Case(seed)
    rng, network = case.rng, case.network
    held = ranges.propagate(case.frame, case.box.lo[None], case.box.hi[None], case.limits, case.whole.opaque)
    values = {op: _integers(rng, (ROWS, units(network, op)), bits) for op in case.whole.acc if units(network, op) and rng.integers(6)}
    exponents = {op: int(rng.integers(-3, 5)) for op in values}
    dual = Dual(case.frame, ROWS)
    forms = {
        t: (_integers(rng, (ROWS, *network.tensors[t].shape), bits), e)
        for t, e in ((len(network.ops), 0), (len(network.ops) // 2, 2), (0, 1))
    }
    for tensor, (form, exponent) in forms.items():
        dual.add_form(tensor, form, exponent)
    start = _integers(rng, (ROWS,), bits)
    dual.add_constant(start, 1)
    some = rng.permutation(ROWS)[:3] if rng.integers(2) else np.arange(ROWS)
    if len(some) < ROWS:
        dual = Dual(case.frame, len(some))
        for tensor, (form, exponent) in forms.items():
            dual.add_form(tensor, form[some], exponent)
        dual.add_constant(start[some], 1)
        held = held.at(some)
    bound, exponent = dual.lower(held, Multipliers(ROWS, values, exponents).at(some))
    for at, row in enumerate(some):
        expected = case.expected(row, case.whole.opaque)
        if expected is None:
            continue
        given = {t: [Fraction(int(v), 1 << e) for v in form[row].ravel()] for t, (form, e) in forms.items()}
        m = {op: [Fraction(int(v)) / Fraction(2) ** exponents[op] for v in values[op][row]] for op in values}
        assert Fraction(int(bound[at])) / Fraction(2) ** exponent == Fraction(int(start[row]), 2) + scalar_kernel.lower(
            case.net, expected, given, m
        )


def test_three_tensors_side_by_side():
    """The first two of a concat are not all of it."""
    rng = np.random.default_rng(3)
    shape, stairs = (1, 2, 2), Staircase(ShiftHalfUp(1), -9, 9)
    ops_ = [ops.Clamp("low", 0, -5, 1), ops.Clamp("high", 0, -1, 6), ops.Concat("all", (1, 0, 2), 0), ops.Reshape("flat", 3, (12,))]
    ops_.append(ops.Dense.of("last", 4, rng.integers(-4, 5, (2, 12)), np.zeros(2, np.int64), stairs))
    qtype = QType(5, True)
    tensors = [
        Tensor(n, s, qtype) for n, s in (("x", shape), ("low", shape), ("high", shape), ("all", (3, 2, 2)), ("flat", (12,)), ("last", (2,)))
    ]
    made = Provenance("made", "made", "made", "0" * 64)
    network = Network(Input(tensors[0], (1, *shape)), tuple(ops_), tuple(tensors), Output(5, (1, 2)), made)
    frame, net = ranges.Frame(network), scalar_kernel.Net(network)
    lo, hi = np.full((1, *shape), -7), np.array([[[[3, 5], [7, -2]]]])
    held, expected = ranges.propagate(frame, lo, hi, {}), scalar_kernel.ranges(net, lo.ravel().tolist(), hi.ravel().tolist(), {})
    for t, tensor in enumerate(expected[0]):
        assert list(zip(_row(held.lo[t], 0), _row(held.hi[t], 0), strict=True)) == tensor
    dual, form = Dual(frame, 1), np.array([[3, -2]])
    m = rng.integers(-6, 7, (1, 2))
    dual.add_form(5, form, 0)
    bound, exponent = dual.lower(held, Multipliers(1, {4: m}, {4: 1}))
    proved = scalar_kernel.lower(net, expected, {5: [3, -2]}, {4: [Fraction(int(v), 2) for v in m[0]]})
    assert Fraction(int(bound[0]), 1 << exponent) == proved


def _one_layer(op, x, out):
    made = Provenance("made", "made", "made", "0" * 64)
    return Network(Input(x, (1, *x.shape)), (op,), (x, out), Output(1, (1, *out.shape)), made)


def test_the_lines_of_thresholds_that_need_big_integers():
    """Differences of 2^48 times thousands of steps: beyond int64, and just below it."""
    for count, size in (((1 << 14) - 1, ACC_LIMIT - 1), ((1 << 16) - 2, ACC_LIMIT - 1), (3, ACC_LIMIT - 1), (1 << 13, 5), (3, 1 << 45)):
        low = np.array([[-size] * count + [size]])
        middle = np.array([[-size] * (count // 2) + [size] * (count - count // 2 + 1)])
        for table in (low, middle, -low[:, ::-1]):
            _same_lines(table, table)
    uneven = np.array([[0, 1, 5, 30]]), np.array([[0, 10, 20, 31]])
    _same_lines(*uneven)
    _same_lines(np.array([[0, 3, 4]]), np.array([[0, 3, 4]]))
    # Within reach are the last three alone, where the line has passed 2^63: exact only in big integers.
    for below in range((1 << 12) - 4, (1 << 12) + 1):
        last = np.array([[-OUT_OF_REACH] * below + [-(1 << 34), -7, 1 << 34]])
        made, right = steps._make(0, last, last), scalar_kernel.on_a_line(last[0].tolist(), down=False)
        assert made.right[0, -3:].tolist() == [(t - 1) * (1 << made.bits) for t in right[-3:]]


def _same_lines(early, late):
    made, relaxed = steps._make(0, early, late), stairs._with_lines(0, early, late)
    left = scalar_kernel.on_a_line(early[0].tolist(), down=True)
    right = scalar_kernel.on_a_line(late[0].tolist(), down=False)
    assert made.left[0].tolist() == relaxed.left[0].tolist() == [t * (1 << made.bits) for t in left]
    assert made.right[0].tolist() == relaxed.right[0].tolist() == [(t - 1) * (1 << made.bits) for t in right]


def test_the_least_on_a_table_of_numbers_of_any_size():
    rng = np.random.default_rng(4)
    for bits in (5, 40, 52, 61):
        op = ops.Lookup("table", 0, -4, frozen_array(rng.integers(-200, 200, 12), np.int64))
        c, m = _integers(rng, (30, 4), bits), _integers(rng, (30, 4), bits)
        l = rng.integers(-4, 8, (30, 4))
        u = np.minimum(l + rng.integers(0, 6, (30, 4)), 7)
        found = steps.least_on_table(op, c, m, l, u)
        for at in np.ndindex(30, 4):
            least = scalar_kernel.least_on_table(op, int(c[at]), int(m[at]), int(l[at]), int(u[at]))
            assert found[at] == min(least, LIMIT)


@pytest.mark.parametrize("bits", [6, 45, 61])
def test_the_least_on_steps_of_numbers_of_any_size(bits):
    rng = np.random.default_rng(bits)
    for size in (0, 1, 2, 3, 4, 9):
        early = np.sort(rng.integers(-60, 60, (2, size)), axis=1)
        late = early + rng.integers(0, 2, (2, size)).cumsum(axis=1)
        made = steps._make(-3, early, late)
        l = rng.integers(-70, 60, (40, 6))
        u = l + rng.integers(0, 90, (40, 6))
        c, m = _integers(rng, (40, 6), bits), _integers(rng, (40, 6), bits)
        found = steps.least_on_steps(made, c, m, l, u, (2, 3))
        for row, unit in np.ndindex(40, 6):
            channel = unit // 3
            one = (-3, early[channel].tolist(), late[channel].tolist())
            least = scalar_kernel.least_on_steps(one, *(int(v[row, unit]) for v in (c, m, l, u)))
            assert found[row, unit] == least * (1 << made.bits)


def _scalar(steps_, c, m, l, u):
    """``steps.least_on_steps`` of one unit of which the step function has ``lo`` and thresholds, beside the scalar one."""
    lo, thresholds = steps_
    table = np.array([thresholds])
    made = steps._make(lo, table, table)
    found = steps.least_on_steps(made, *(np.array([[v]]) for v in (c, m, l, u)), (1,))
    return int(found[0, 0]), scalar_kernel.least_on_steps((lo, thresholds, thresholds), c, m, l, u) * (1 << made.bits)


OVERFLOWS = {
    "a level far below zero": ((-120, [0, 1]), 1 << 58, 0, -5, 5),
    "a range far wider than the thresholds": ((0, [0, 1, 2]), 1, 1 << 30, -(1 << 45), 1 << 45),
    "levels from nothing to many": ((0, list(range(255))), 1 << 58, 0, -5, 300),
    "a spread as large as the accumulators": ((0, [0, 0, 0, 0, 1 << 47]), 0, 1 << 16, -1, 1 << 47),
    "both large, of unlike signs": ((-3, [0, 5, 9]), -(1 << 60), 1 << 50, -(1 << 20), 1 << 20),
}


@pytest.mark.parametrize("kind", OVERFLOWS)
@pytest.mark.parametrize("sign", [1, -1])
def test_what_int64_would_not_hold_is_computed_in_big_integers(kind, sign):
    lo, c, m, l, u = OVERFLOWS[kind]
    found, expected = _scalar(lo, sign * c, sign * m, l, u)
    assert found == expected


@pytest.mark.parametrize(
    ("c", "m", "l", "u"),
    [(1, 1 << 61, -8, 7), (1 << 61, 0, -8, 7), (0, 1 << 61, -8, 7), (0, 1 << 60, -8, 8), (0, 1 << 61, -8, 0), (0, -(1 << 61), 0, 8)],
)
def test_tables_of_what_int64_would_not_hold(c, m, l, u):
    op = ops.Lookup("table", 0, -8, frozen_array(np.arange(-100, -83), np.int64))
    found = steps.least_on_table(op, *(np.array([[v]]) for v in (c, m, l, u)))
    assert int(found[0, 0]) == min(scalar_kernel.least_on_table(op, c, m, l, u), LIMIT)


@pytest.mark.parametrize(("lo", "hi"), [(0, 15), (-16, 0), (-16, 15), (3, 3)])
@pytest.mark.parametrize("c", [1 << 61, -(1 << 61), 5])
def test_a_form_on_the_input_alone(c, lo, hi):
    x = Tensor("x", (1,), QType(5, True))
    op = ops.Dense.of("same", 0, np.array([[1]]), np.array([0]), Staircase(ShiftHalfUp(0), -16, 15))
    frame = ranges.Frame(_one_layer(op, x, Tensor("same", (1,), QType(5, True))))
    dual = Dual(frame, 1)
    dual.add_form(0, np.array([[c]]), 0)
    bound, exponent = dual.lower(ranges.propagate(frame, np.array([[lo]]), np.array([[hi]]), {}), Multipliers(1, {}, {}))
    assert (int(bound[0]), exponent) == (min(c * lo, c * hi), 0)


def _sums(qtype, rule, lo=-40, hi=40):
    """A sum of the two halves of an input, and a row over it."""
    wide = QType(16, True)
    tensors = (
        Tensor("x", (2, 1, 1), qtype), Tensor("a", (1, 1, 1), wide), Tensor("b", (1, 1, 1), wide), Tensor("sum", (1, 1, 1), wide),
    )  # fmt: skip
    pick = [np.array(v, np.int64).reshape(1, 2, 1, 1) for v in ((1, 0), (0, 1))]
    stairs = Staircase(ShiftHalfUp(0), qtype.lo, qtype.hi)
    halves = [
        ops.Conv2d.of(name, 0, weight, np.zeros(1, np.int64), stairs, window=ops.Window((1, 1)))
        for name, weight in zip("ab", pick, strict=True)
    ]
    made = Provenance("made", "made", "made", "0" * 64)
    narrow = tuple(Tensor(t.name, t.shape, qtype) if t.name in "ab" else t for t in tensors)
    return Network(Input(tensors[0], (1, 2, 1, 1)), (*halves, ops.Add("sum", 1, 2, rule, lo, hi)), narrow, Output(3, (1, 1, 1, 1)), made)


def test_a_rounded_sum_at_every_pair():
    """Where the sum alone does not say to which side it is rounded, each pair of values still has the result that it has."""
    ambiguous = 0
    for a, b, c in ((0.3, 0.7, 0.0), (0.3, 0.7, 0.5), (1 / 3, 1 / 7, 0.5)):
        network = _sums(QType(5, True), ops.FmaAdd(float(np.float32(a)), float(np.float32(b)), c))
        frame, net = ranges.Frame(network), scalar_kernel.Net(network)
        ambiguous += int((frame.steps[2].early < frame.steps[2].late).sum())
        for pair in np.ndindex(32, 32):
            x = np.array(pair).reshape(1, 2, 1, 1) - 16
            held = ranges.propagate(frame, x, x, {})
            value = int(ranges.interpreter.run(network, x).ravel()[0])
            assert (int(held.lo[3].ravel()[0]), int(held.hi[3].ravel()[0])) == (value, value)
            assert scalar_kernel.ranges(net, x.ravel().tolist(), x.ravel().tolist(), {})[0][3] == [(value, value)]
    assert ambiguous > 4


def test_a_sum_of_too_many_pairs_for_thresholds():
    """Its result is known by its ranges alone, and a form on it is least at their ends."""
    network = _sums(QType(11, True), ops.FmaAdd(0.5, 0.25, 0.0))
    frame, net = ranges.Frame(network), scalar_kernel.Net(network)
    assert frame.steps[2] is None
    lo, hi = np.array([-30, 5]).reshape(1, 2, 1, 1), np.array([30, 90]).reshape(1, 2, 1, 1)
    held, expected = ranges.propagate(frame, lo, hi, {}), scalar_kernel.ranges(net, [-30, 5], [30, 90], {})
    assert (held.lo[3].item(), held.hi[3].item()) == expected[0][3][0]
    assert held.lo[3].item() < held.hi[3].item()
    dual = Dual(frame, 1)
    dual.add_form(3, np.array([-3]).reshape(1, 1, 1, 1), 0)
    bound, exponent = dual.lower(held, Multipliers(1, {}, {}))
    assert (int(bound[0]), exponent) == (-3 * held.hi[3].item(), 0)


class TestAccumulatorsBeyondTheThresholds:
    """Accumulators past 2^48 are refused: thresholds are not known there."""

    @pytest.mark.parametrize(("weight", "refused"), [(1 << 40, False), ((1 << 40) + 1, True), (-(1 << 40), False), (-(1 << 40) - 1, True)])
    def test_at_the_limit(self, weight, refused):
        x = Tensor("x", (1,), QType(9, False))
        op = ops.Dense.of("wide", 0, np.array([[weight]]), np.array([0]), Staircase(ShiftHalfUp(3), -2, 2), accumulator_bits=None)
        frame = ranges.Frame(_one_layer(op, x, Tensor("wide", (1,), QType(8, True))))
        box = np.array([[0]]), np.array([[256]])
        if refused:
            with pytest.raises(ValueError, match=r"wide could pass 2\^48"):
                ranges.propagate(frame, *box, {})
        else:
            assert sorted(abs(int(v[0, 0])) for v in ranges.propagate(frame, *box, {}).acc[0]) == [0, 1 << 48]


class TestWhatHasNoUnits:
    def test_is_an_error_where_units_are_wanted(self):
        x = Tensor("x", (2,), QType(8, False))
        frame = ranges.Frame(_one_layer(ops.Reshape("flat", 0, (2,)), x, Tensor("flat", (2,), QType(8, False))))
        some = [np.zeros((1, 2), np.int64)]
        with pytest.raises(ValueError, match="flat has no units"):
            ranges._accumulators(frame, 0, some, some)
        with pytest.raises(ValueError, match="flat has no units"):
            ranges._results(frame, 0, some, some, some[0], some[0], False)


def test_limits_are_beyond_every_accumulator():
    assert ranges.ANYTHING > ACC_LIMIT
    assert ranges.ANYTHING + 1 < LIMIT
