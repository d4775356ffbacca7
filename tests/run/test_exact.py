"""Exact integers on arrays, the linear parts the other way round, and the thresholds of rounded sums, against plain Python."""

import itertools

import numpy as np
import pytest
import random_networks

from bvverify.model import ops
from bvverify.model.certificate import units
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Add, AvgPool, Conv2d, FmaAdd, MaxPool, Reshape, ShiftAdd, Window, inputs
from bvverify.model.types import QType, Tensor
from bvverify.run import exact, interpreter
from bvverify.run.add_thresholds import MOST_PAIRS, thresholds_of_add
from bvverify.run.adjoint import adjoint, scatter, windows
from bvverify.run.exact import EXACT_FLOAT, LIMIT

BIG = ((1 << 63) - 1, LIMIT - 1, LIMIT // 2, (1 << 53) + 1, 1 << 53, 3, 1)


def _array(values):
    return np.array(values, np.int64)


class TestIntegers:
    """Right whatever the size, and int64 as long as nothing can overflow."""

    def test_magnitude(self):
        assert exact.magnitude(_array([3, -7, 5])) == 7
        assert exact.magnitude(_array([[9, -7]])) == 9
        assert exact.magnitude(np.zeros((0, 3), np.int64)) == 0
        assert exact.magnitude(np.array([1 << 80, -(1 << 90)], object)) == 1 << 90

    @pytest.mark.parametrize("limit", [LIMIT - 1, LIMIT])
    def test_fit_turns_to_big_integers_at_the_limit(self, limit):
        made = exact.fit(limit, _array([1]), _array([2]))
        assert [a.dtype for a in made] == [np.dtype(np.int64 if limit < LIMIT else object)] * 2
        assert LIMIT == 1 << 62

    @pytest.mark.parametrize(("a", "b"), list(itertools.product(BIG, BIG)))
    def test_sums_and_multiples(self, a, b):
        for s, t in itertools.product((1, -1), (1, -1)):
            assert exact.add(_array([s * a, 1]), _array([t * b, 2])).tolist() == [s * a + t * b, 3]
            assert exact.scale(_array([s * a, 2]), t * b).tolist() == [s * a * t * b, 2 * t * b]

    @pytest.mark.parametrize("bits", [3, 20, 26, 27, 31, 40, 61])
    @pytest.mark.parametrize("inner", [1, 5, 64])
    def test_products(self, bits, inner):
        rng = np.random.default_rng(bits)
        a, b = (rng.integers(-(1 << bits), 1 << bits, shape) for shape in ((3, inner), (inner, 4)))
        found = exact.product(a, b)
        assert found.tolist() == (a.astype(object) @ b.astype(object)).tolist()
        stacked = exact.product(np.stack([a, -a]), b[None])
        assert stacked.tolist() == [found.tolist(), (-found).tolist()]

    def test_products_are_exact_up_to_the_last_float(self):
        """One more than float64 holds: 2^53 + 1."""
        for first, last in ((EXACT_FLOAT, 1), (EXACT_FLOAT - 1, 1), (EXACT_FLOAT - 2, 1)):
            assert exact.product(_array([[1, 1]]), _array([[first], [last]])).tolist() == [[first + last]]
        assert EXACT_FLOAT == 1 << 53

    def test_products_of_what_alone_is_too_large(self):
        """The sum of a column, taken to find the limit, must not overflow itself."""
        column = _array([[LIMIT - 1]] * 5)
        assert exact.product(_array([[1, 0, 0, 0, 1]]), column).tolist() == [[2 * (LIMIT - 1)]]
        assert exact.product(_array([[1, 1, 1, 0, 0]]), column).tolist() == [[3 * (LIMIT - 1)]]
        assert exact.product(_array([[0] * 5]), column).tolist() == [[0]]

    def test_products_of_many_large_columns(self):
        """The limit is of one column, however many there are."""
        large = (1 << 61) + 1
        assert exact.product(_array([[3]]), _array([[large] * 8])).tolist() == [[3 * large] * 8]

    @pytest.mark.parametrize("value", [*BIG, -5])
    def test_totals(self, value):
        rows = _array([[[value, value], [value, 1]], [[0, 1], [2, 3]]])
        assert exact.total(rows).tolist() == [3 * value + 1, 6]
        assert exact.total(_array([value])).tolist() == [value]
        assert exact.total(_array([[value] * 9])).tolist() == [9 * value]

    def test_narrow(self):
        assert exact.narrow(np.array([LIMIT - 1, -3], object)).dtype == np.int64
        assert exact.narrow(np.array([LIMIT, -3], object)).dtype == object
        assert exact.narrow(np.array([LIMIT, -3], object)).tolist() == [LIMIT, -3]

    @pytest.mark.parametrize(("a", "b"), [(0, 0), (3, 0), (0, 3), (-2, 5), (60, -60)])
    def test_at_one_scale(self, a, b):
        (x, e), (y, f) = exact.common((_array([5]), a), (_array([-7]), b))
        assert e == f == max(a, b)
        assert (x.tolist(), y.tolist()) == ([5 << (e - a)], [-7 << (e - b)])
        total, exponent = exact.add_scaled((_array([5]), a), (_array([-7]), b))
        assert (total.tolist(), exponent) == ([(5 << (e - a)) - (7 << (e - b))], e)


def _accumulators(network, index, tensors):
    """The accumulators of an operation at a batch of inputs, (batch, units), from the definitions."""
    op = network.ops[index]
    xs = [tensors[t] for t in inputs(op)]
    match op:
        case ops.Dense() | ops.Conv2d():
            return interpreter.accumulate(op, xs[0]).reshape(len(xs[0]), -1)
        case AvgPool(rule=rule):
            return interpreter.window_sums(op.window, rule, xs[0]).reshape(len(xs[0]), -1)
        case Add():
            a, b = op.rule.weights
            return (a * xs[0] + b * xs[1]).reshape(len(xs[0]), -1)
        case _:
            return xs[0].reshape(len(xs[0]), -1)


KINDS = ("dense", "conv", "add", "shift add", "q31 add", "mean", "clamp", "table")


@pytest.mark.parametrize("bits", [4, 40, 61])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_a_form_over_accumulators_is_one_over_what_they_sum(kind, seed, bits):
    rng = np.random.default_rng(seed)
    network = random_networks.network(rng, (kind, kind))
    qtype = network.input.tensor.qtype
    tensors = interpreter.trace(network, rng.integers(qtype.lo, qtype.hi + 1, (20, *network.input.tensor.shape)))
    tried = 0
    for index, op in enumerate(network.ops):
        if isinstance(op, MaxPool) or not units(network, index):
            continue
        tried += 1
        m = rng.integers(-(1 << bits), 1 << bits, (3, units(network, index)))
        forms, constant = adjoint(network, index, m)
        acc = _accumulators(network, index, tensors).astype(object)
        for row in range(3):
            expected = (acc * m[row].astype(object)).sum(axis=1)
            found = sum((f[row].astype(object).reshape(1, -1) * tensors[t].reshape(20, -1).astype(object)).sum(axis=1) for t, f in forms)
            assert (found + int(constant[row]) == expected).all()
            assert all(f.shape == (3, *network.tensors[t].shape) for t, f in forms)
    assert tried


def test_what_has_no_linear_accumulator():
    x = Tensor("x", (2, 1), QType(8, True))
    network = Network(
        Input(x, (1, 2, 1)), (Reshape("flat", 0, (2,)),), (x, Tensor("flat", (2,), QType(8, True))), Output(1, (1, 2)),
        Provenance("made", "made", "made", "0" * 64),
    )  # fmt: skip
    with pytest.raises(ValueError, match="flat has no linear accumulator"):
        adjoint(network, 0, np.zeros((1, 2), np.int64))


@pytest.mark.parametrize("seed", range(25))
def test_windows_and_back(seed):
    rng = np.random.default_rng(seed)
    kernel = tuple(int(v) for v in rng.integers(1, 4, 2))
    dilations = tuple(int(v) for v in rng.integers(1, 3, 2))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    window = Window(kernel, tuple(int(v) for v in rng.integers(1, 4, 2)), tuple(int(v) for v in rng.integers(0, 3, 4)), dilations)
    shape = (int(rng.integers(1, 4)), reach[0] + int(rng.integers(0, 3)), reach[1] + int(rng.integers(0, 4)))
    op = MaxPool("pool", 0, window)
    x = rng.integers(-50, 50, (2, *shape))
    elements, inside = windows(x, op, -77)
    rows, columns = window.output(*shape[1:])
    assert elements.shape == (2, shape[0], kernel[0] * kernel[1], rows, columns)
    parts = rng.integers(-9, 9, elements.shape)
    back = np.zeros((2, *shape), np.int64)
    for p, (i, j) in enumerate(np.ndindex(*kernel)):
        for a, b in np.ndindex(rows, columns):
            row = a * window.strides[0] + i * dilations[0] - window.padding[0]
            column = b * window.strides[1] + j * dilations[1] - window.padding[1]
            within = 0 <= row < shape[1] and 0 <= column < shape[2]
            assert inside[p, a, b] == within
            assert (elements[:, :, p, a, b] == (x[:, :, row, column] if within else -77)).all()
            if within:
                back[:, :, row, column] += parts[:, :, p, a, b]
    assert (scatter(parts, op, shape) == back).all()


def test_scattered_parts_may_need_big_integers():
    op = MaxPool("pool", 0, Window((1, 5), (1, 1), (0, 4, 0, 4)))
    parts = np.full((1, 1, 5, 1, 5), 1 << 61)
    assert scatter(parts, op, (1, 1, 1)).tolist() == [[[[5 << 61]]]]


def _sum(bits_a, bits_b, rule, lo=-5, hi=6):
    x = Tensor("x", (1, 1, 1), QType(2, True))
    one = np.ones((1, 1, 1, 1), np.int64)
    stairs = random_networks.Staircase(random_networks.ShiftHalfUp(0), -2, 1)
    convs = [Conv2d.of(n, 0, one, np.zeros(1, np.int64), stairs, window=Window((1, 1))) for n in "ab"]
    tensors = (
        x,
        Tensor("a", (1, 1, 1), QType(bits_a, True)),
        Tensor("b", (1, 1, 1), QType(bits_b, False)),
        Tensor("s", (1, 1, 1), QType(8, True)),
    )
    positive = random_networks.Staircase(random_networks.ShiftHalfUp(0), 0, 1)
    convs[1] = Conv2d.of("b", 0, one, np.zeros(1, np.int64), positive, window=Window((1, 1)))
    made = Provenance("made", "made", "made", "0" * 64)
    return Network(Input(x, (1, 1, 1, 1)), (*convs, Add("s", 1, 2, rule, lo, hi)), tensors, Output(3, (1, 1, 1, 1)), made)


@pytest.mark.parametrize(
    "rule", [FmaAdd(*(float(np.float32(v)) for v in (0.3, 0.7, 0.5))), ShiftAdd(5, 3, 7, 2, 1), FmaAdd(0.0078125, 0.0078125, 0.0)]
)
@pytest.mark.parametrize(("bits_a", "bits_b"), [(5, 5), (3, 6), (8, 2)])
def test_thresholds_of_a_rounded_sum(rule, bits_a, bits_b):
    network = _sum(bits_a, bits_b, rule)
    op = network.ops[2]
    lo, (early,), (late,) = thresholds_of_add(network, op)
    a, b = range(-(1 << (bits_a - 1)), 1 << (bits_a - 1)), range(1 << bits_b)
    pairs = [
        (op.rule.weights[0] * u + op.rule.weights[1] * v, int(interpreter.evaluate(op, [np.array([u]), np.array([v])])[0]))
        for u, v in itertools.product(a, b)
    ]
    assert lo == min(z for _, z in pairs)
    levels = range(lo + 1, max(z for _, z in pairs) + 1)
    assert len(early) == len(late) == len(levels)
    for k, level in enumerate(levels):
        assert early[k] == min(acc for acc, z in pairs if z >= level)
        assert late[k] == max(acc for acc, z in pairs if z < level) + 1


def test_sums_of_too_many_pairs():
    """2^20 pairs are gone through, not twice as many."""
    assert thresholds_of_add(_sum(10, 10, FmaAdd(0.5, 0.5, 0.0)), _sum(10, 10, FmaAdd(0.5, 0.5, 0.0)).ops[2]) is not None
    network = _sum(11, 10, FmaAdd(0.5, 0.5, 0.0))
    assert thresholds_of_add(network, network.ops[2]) is None
    assert MOST_PAIRS == 1 << 20
