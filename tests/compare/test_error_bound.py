"""The network of integers that stands for one over the reals: every number of it, and the error, computed again one weight at a time."""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod

import numpy as np
import pytest

from bvverify.compare.approximate import _up, approximate, meaning_of_input
from bvverify.errors import UnsupportedError
from bvverify.load.onnx_float import output_shape
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Conv2d, Dense, MaxPool, Reshape, Window
from bvverify.model.query import Box
from bvverify.model.real import Affine, Convolution, Largest, RealNetwork, Relu, Shaped
from bvverify.model.requant import Float32HalfEven, ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import Cells, QType, Quantisation, Tensor
from bvverify.run import interpreter, real

FINE = Fraction(1, 1 << 64)


def up(value):
    """To a multiple of 2^-64."""
    return -(-value // FINE) * FINE


@dataclass
class Known:
    """Of the tensor at hand, by channel; errors and the unit in steps of the input."""

    unit: Fraction
    zero: int
    lo: list
    hi: list
    error: list


def layer(op, known, scale, *, relu):
    """Weights, biases and shift of a layer, and what is known behind it, by the module's first paragraph."""
    groups = op.groups if isinstance(op, Convolution) else 1
    padded = isinstance(op, Convolution) and any(op.window.padding)
    of_group, rows = op.weight.shape[1], []
    for r, row in enumerate(op.weight):
        first = r // (len(op.weight) // groups) * of_group
        flat = [(first + j, Fraction(float(w))) for j in range(of_group) for w in np.ravel(row[j])]
        rows.append(flat)
    span = [max(abs(low), abs(high)) for low, high in zip(known.lo, known.hi, strict=True)]
    largest = max(abs(w) for row in rows for _, w in row)
    reach = max(sum(abs(w) * span[c] for c, w in row) for row in rows) or Fraction(1)
    # The finest grid on which weights have 22 bits and sums stay below 2^43.
    k = next(k for k in range(300, -300, -1) if (largest or 1) * Fraction(2) ** k < 1 << 22 and reach * Fraction(2) ** k <= 1 << 43)
    step = Fraction(1, 2) ** k
    grid = known.unit * step
    weights, biases, lows, highs, errors = [], [], [], [], []
    for row, b in zip(rows, op.bias.tolist(), strict=True):
        integers = [round(w / step) for _, w in row]
        bias = round(Fraction(b) / (scale * grid))
        ends = [(w * known.lo[c], w * known.hi[c], *([0] if padded else [])) for (c, _), w in zip(row, integers, strict=True)]
        weights.append(integers)
        biases.append(bias)
        lows.append(sum(map(min, ends)) + bias)
        highs.append(sum(map(max, ends)) + bias)
        moved = up(sum(abs(w) * step * known.error[c] for (c, _), w in zip(row, integers, strict=True)))
        missed = up(sum(step / 2 * (up(known.unit * span[c]) + known.error[c]) for c, _ in row))
        errors.append(moved + missed + up(grid / 2))
    top = max([1, *highs, *([] if relu else [-low for low in lows])])
    shift = next(s for s in range(100) if top < (((1 << 14) - 2) if relu else ((1 << 13) - 2)) << s)
    unit = grid * 2**shift
    if shift:
        errors = [e + up(unit / 2) for e in errors]
    lows, highs = [low >> shift for low in lows], [(high >> shift) + 1 for high in highs]
    if relu:
        lows, highs = [max(low, 0) for low in lows], [max(high, 0) for high in highs]
    return np.array(weights).reshape(op.weight.shape), biases, shift, Known(unit, 0, lows, highs, errors)


def by_channel(box, zero, shape):
    flat = [(x - zero).reshape(shape[0], -1) for x in (box.lo, box.hi)]
    return Known(Fraction(1), zero, flat[0].min(axis=1).tolist(), flat[1].max(axis=1).tolist(), [Fraction(0)] * shape[0])


def shaped(known, read, shape):
    """By element, then by channel again."""
    each = prod(read[1:])
    lo, hi, error = ([v for v in side for _ in range(each)] for side in (known.lo, known.hi, known.error))
    size = prod(shape[1:])
    parts = [range(i, i + size) for i in range(0, len(lo), size)]
    return Known(
        known.unit, known.zero, [min(lo[i] for i in p) for p in parts], [max(hi[i] for i in p) for p in parts],
        [max(error[i] for i in p) for p in parts],
    )  # fmt: skip


def steps(made):
    return made.staircase.requant, made.staircase.lo, made.staircase.hi


def check(a, original, box):
    """Compare the approximation, operation by operation, and return it."""
    meaning = a.input.tensor.quantisation
    scale, found = Fraction(meaning.scale), approximate(a, original, box)
    network, at = found.network, 0
    known = by_channel(box, meaning.zero_point, original.shapes[0])
    if a.input.tensor.shape != original.shapes[0]:
        assert network.ops[0] == Reshape("shaped", 0, original.shapes[0])
        assert network.tensors[1] == Tensor("shaped", original.shapes[0], a.input.tensor.qtype)
        at = 1
    for i, op in enumerate(original.ops):
        shape = original.shapes[i + 1]
        match op:
            case Relu():
                continue
            case Largest():
                assert network.ops[at] == MaxPool(op.name, at, op.window)
                assert network.tensors[at + 1] == Tensor(op.name, shape, network.tensors[at].qtype)
            case Shaped():
                start = all(isinstance(o, Shaped) for o in original.ops[:i])
                known = by_channel(box, meaning.zero_point, shape) if start else shaped(known, original.shapes[i], shape)
                assert network.ops[at] == Reshape(op.name, at, shape)
                assert network.tensors[at + 1] == Tensor(op.name, shape, network.tensors[at].qtype)
            case _:
                relu = i + 1 < len(original.ops) and isinstance(original.ops[i + 1], Relu)
                zero = known.zero
                weights, biases, shift, known = layer(op, known, scale, relu=relu)
                made = network.ops[at]
                assert type(made) is (Dense if isinstance(op, Affine) else Conv2d)
                if isinstance(made, Conv2d):
                    assert (made.window, made.groups) == (op.window, op.groups)
                assert (made.name, made.x, made.input_zero_point, made.accumulator_bits) == (op.name, at, zero, None)
                assert np.array_equal(made.centred, weights)
                assert made.bias.tolist() == biases
                qtype = QType(14, signed=not relu)
                assert steps(made) == (ShiftHalfUp(shift), qtype.lo, qtype.hi)
                assert network.tensors[at + 1] == Tensor(op.name, shape, qtype)
        at += 1
    assert len(network.ops) == at
    assert found.unit == scale * known.unit
    assert list(found.error) == [scale * e for e in known.error]
    assert network.input == Input(a.input.tensor, a.input.file_shape, a.input.quantiser)
    assert network.output == Output(at, (1, original.outputs))
    return found


def integers(shape, classes, qtype=QType(8, True), scale=0.25, zero=3):  # noqa: B008
    """A network of integers with this input; what it computes does not matter."""
    n = prod(shape)
    tensors = (Tensor("x", shape, qtype, Quantisation(scale, zero)), Tensor("flat", (n,), qtype), Tensor("y", (classes,), QType(8, True)))
    staircase = Staircase(Float32HalfEven(np.array([0.01], np.float32), 0), -128, 127)
    weight = np.ones((classes, n), np.int64)
    ops = (Reshape("flat", 0, (n,)), Dense.of("y", 1, weight, np.zeros(classes, np.int64), staircase, input_zero_point=zero))
    return Network(Input(tensors[0], (1, *shape)), ops, tensors, Output(2, (1, classes)), Provenance("a.onnx", "made", "made", "2" * 64))


def reals(shape, *ops):
    shapes = [shape]
    for op in ops:
        shapes.append(output_shape(op, shapes[-1]))
    return RealNetwork("real.onnx", "1" * 64, (1, *shape), tuple(ops), tuple(shapes))


def affine(rng, out, of, size=1.0, bias=1.0):
    return Affine(f"affine{out}", rng.normal(0, size, (out, of)).astype(np.float32), rng.normal(0, bias, out).astype(np.float32))


def convolution(rng, out, of_group, window, groups):
    weight = rng.normal(0, 1, (out, of_group, *window.kernel)).astype(np.float32)
    return Convolution(f"conv{out}", weight, rng.normal(0, 1, out).astype(np.float32), window, groups)


PADDED, BARE = Window((2, 3), (1, 2), (1, 0, 0, 2)), Window((2, 2))
NETWORKS = {
    "one layer": lambda r: reals((3,), affine(r, 2, 3)),
    "three layers": lambda r: reals((3,), affine(r, 4, 3), Relu("r"), affine(r, 3, 4), Relu("s"), affine(r, 2, 3)),
    "no relu": lambda r: reals((3,), affine(r, 4, 3), affine(r, 2, 4)),
    "biases above weights": lambda r: reals((3,), affine(r, 4, 3, bias=400), Relu("r"), affine(r, 2, 4, bias=1)),
    "small weights": lambda r: reals((3,), affine(r, 4, 3, size=1e-9, bias=1e-9), Relu("r"), affine(r, 2, 4, size=1e-12, bias=1e-21)),
    "large weights": lambda r: reals((3,), affine(r, 4, 3, size=1e9), Relu("r"), affine(r, 2, 4, size=1e12, bias=1e3)),
    "convolutions": lambda r: reals(
        (2, 3, 4), convolution(r, 4, 1, PADDED, 2), Relu("r"), convolution(r, 2, 4, BARE, 1), Shaped("f", (4,)), affine(r, 2, 4)
    ),
    "groups of two": lambda r: reals(
        (4, 2, 2), convolution(r, 6, 2, BARE, 2), Relu("r"), Shaped("f", (6,)), affine(r, 2, 6)
    ),
    "groups of three": lambda r: reals((3, 2, 2), convolution(r, 6, 1, BARE, 3), Relu("r"), Shaped("f", (6,)), affine(r, 2, 6)),
    "two layers shaped to an image": lambda r: reals(
        (3,), affine(r, 4, 3), Relu("r"), affine(r, 8, 4), Shaped("g", (2, 4, 1)), convolution(r, 3, 2, Window((2, 1)), 1),
        Shaped("f", (9,)), affine(r, 2, 9),
    ),
    "maximum first": lambda r: reals((2, 3, 2), Largest("m", Window((2, 1))), Shaped("f", (8,)), affine(r, 3, 8)),
    "maximum between": lambda r: reals(
        (1, 3, 3), convolution(r, 2, 1, BARE, 1), Relu("r"), Largest("m", Window((2, 1))), Shaped("f", (4,)), affine(r, 3, 4)
    ),
    "shaped first": lambda r: reals((2, 2, 2), Shaped("f", (8,)), Shaped("g", (4, 2, 1)), Shaped("h", (8,)), affine(r, 3, 8)),
    "shaped to an image": lambda r: reals(
        (3,), affine(r, 8, 3), Shaped("g", (2, 2, 2)), convolution(r, 3, 2, BARE, 1), Relu("r"), Shaped("f", (3,)), affine(r, 2, 3)
    ),
    "image to image": lambda r: reals(
        (1, 3, 3), convolution(r, 4, 1, BARE, 1), Shaped("g", (2, 4, 2)), convolution(r, 2, 2, Window((4, 2)), 1), Shaped("f", (2,)),
        affine(r, 2, 2),
    ),
    "negative before relu": lambda r: reals(
        (3,), replace(affine(r, 4, 3), bias=np.full(4, -1e3, np.float32)), Relu("r"), affine(r, 2, 4, bias=1e-3)
    ),
}  # fmt: skip


def boxed(rng, a, width=9):
    shape, qtype = a.input.tensor.shape, a.input.tensor.qtype
    lo = rng.integers(qtype.lo, qtype.hi - width, shape)
    return Box.of(lo, lo + rng.integers(0, width + 1, shape))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", NETWORKS)
def test_every_number_of_the_approximation(name, seed):
    rng = np.random.default_rng(seed)
    original = NETWORKS[name](rng)
    a = integers(original.shapes[0], original.outputs, zero=[3, -120][seed])
    box = boxed(rng, a)
    found = check(a, original, box)
    for _ in range(3):
        x = rng.integers(box.lo, box.hi + 1)
        exact = real.run(original, x - [3, -120][seed], 0.25)
        near = interpreter.run(found.network, x[None]).ravel().tolist()
        assert all(abs(y - found.unit * z) <= e for y, z, e in zip(exact, near, found.error, strict=True))


@pytest.mark.parametrize(("inputs", "value"), [(255, 1.0), (256, 1.0), (257, 1.0), (64, 1.0), (300, 1.999)])
def test_sums_are_as_large_as_they_may_be(inputs, value):
    """An input of 16 bits at its lower end: the sum is what limits the grid, at a power of two and beside it."""
    a = integers((inputs,), 1, QType(16, True), 1.0, 0)
    box = Box.of(np.full(inputs, -(1 << 15)), np.full(inputs, 5))
    weight = np.full((1, inputs), value, np.float32)
    found = check(a, reals((inputs,), Affine("y", weight, np.zeros(1, np.float32))), box)
    assert int(found.network.ops[0].centred.sum()) << 15 <= 1 << 43


@pytest.mark.parametrize("top", [8189, 8190, 8191, 16379, 16380, 2])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("relu", [False, True])
def test_the_shift_is_the_smallest_that_leaves_room(top, sign, relu):
    """A sum of this many steps of the grid, at the ends of the type and beside them."""
    a = integers((1,), 1, QType(8, True), 1.0, 0)
    box = Box.of(np.zeros(1, int), np.zeros(1, int))
    # A weight of 2^21 makes it a grid of 1; the input is 0, so that it is the bias that counts.
    first = Affine("h", np.full((1, 1), 2.0**21, np.float32), np.full(1, sign * top * (2 if relu else 1), np.float32))
    rest = (Relu("r"), Affine("y", np.ones((1, 1), np.float32), np.zeros(1, np.float32))) if relu else ()
    check(a, reals((1,), first, *rest), box)


def test_weights_of_nothing_but_zeros():
    a = integers((2,), 2)
    zeros = Affine("y", np.zeros((2, 2), np.float32), np.array([0.5, -0.25], np.float32))
    box = Box.of(np.array([0, 1]), np.array([3, 3]))
    check(a, reals((2,), zeros), box)
    check(a, reals((2,), zeros, Relu("r"), replace(zeros, name="z")), box)


def test_one_neuron_by_hand():
    """0.3 on a grid of 2^-23 is off by at most half of it times 7; then half a step of the grid, and half a step after a shift by 11."""
    a = integers((1,), 1, QType(8, True), 0.5, 1)
    found = approximate(a, reals((1,), Affine("y", np.float32([[0.3]]), np.float32([0.2]))), Box.of(np.array([-6]), np.array([5])))
    made = found.network.ops[0]
    # 0.3 * 2^23 = 2516582.4 and 0.2 / (0.5 * 2^-23) = 3355443.2
    assert (int(made.centred[0, 0]), int(made.bias[0]), made.input_zero_point) == (2516582, 3355443, 1)
    # The sum is between -7 * 2516582 + 3355443 = -14260631 and 13421771: by 2^11 to stay above -8190.
    assert steps(made) == (ShiftHalfUp(11), -(1 << 13), (1 << 13) - 1)
    assert found.unit == Fraction(1, 2) * Fraction(2) ** -12
    assert found.error == (Fraction(1, 2) * (Fraction(7, 1 << 24) + Fraction(1, 1 << 24) + Fraction(1, 1 << 13)),)


class TestRefused:
    @staticmethod
    def one(weight, bias, box=(0, 0)):
        a = integers((1,), 1, QType(8, True), 1.0, 0)
        affine = Affine("y", np.array([[weight]], np.float32), np.array([bias], np.float32))
        return approximate(a, reals((1,), affine), Box.of(*(np.array([v]) for v in box)))

    @pytest.mark.parametrize("sign", [1, -1])
    def test_biases_beyond_the_largest_sum(self, sign):
        """The grid of a weight of 1 is 2^-21, and sums stay below 2^45."""
        assert self.one(1, sign * (2.0**24 - 1)).network.ops[0].bias.tolist() == [sign * ((1 << 45) - (1 << 21))]
        with pytest.raises(UnsupportedError, match="node y: its biases are too large"):
            self.one(1, sign * 2.0**24)
        with pytest.raises(UnsupportedError, match="node y: its biases are too large"):
            self.one(1, sign * (2.0**24 - 1), (0, 1) if sign > 0 else (-1, 0))

    def test_units_that_are_too_small(self):
        assert self.one(2.0**-114, 0, (0, 1)).unit == Fraction(1, 2) ** 126
        with pytest.raises(UnsupportedError, match=r"real.onnx: "):
            self.one(2.0**-115, 0, (0, 1))

    @pytest.mark.parametrize(
        "ops",
        [
            lambda r: (Relu("r"), affine(r, 2, 4)),
            lambda r: (affine(r, 2, 4), Relu("s"), Relu("r"), affine(r, 2, 2)),
            lambda r: (affine(r, 4, 4), Shaped("g", (2, 2, 1)), Relu("r"), Shaped("f", (4,)), affine(r, 2, 4)),
        ],
    )
    def test_a_relu_behind_no_layer(self, ops):
        original = reals((4,), *ops(np.random.default_rng(0)))
        with pytest.raises(UnsupportedError, match="node r: a ReLU behind anything but a layer with weights"):
            approximate(integers((4,), 2), original, Box.of(np.zeros(4, int), np.ones(4, int)))

    @pytest.mark.parametrize(
        "ops",
        [
            lambda r: (),
            lambda r: (Shaped("f", (4,)),),
            lambda r: (affine(r, 4, 4), Relu("r")),
            lambda r: (Shaped("g", (1, 2, 2)), convolution(r, 4, 1, BARE, 1)),
            lambda r: (Shaped("g", (1, 2, 2)), convolution(r, 4, 1, BARE, 1), Shaped("f", (4,))),
        ],
    )
    def test_a_network_that_ends_otherwise(self, ops):
        original = reals((4,), *ops(np.random.default_rng(0)))
        with pytest.raises(UnsupportedError, match=r"real.onnx: its last layer is no Gemm"):
            approximate(integers((4,), 4), original, Box.of(np.zeros(4, int), np.ones(4, int)))

    @pytest.mark.parametrize(("inputs", "classes"), [(3, 2), (5, 2), (4, 1), (4, 3)])
    def test_other_sizes(self, inputs, classes):
        original = reals((4,), affine(np.random.default_rng(0), 2, 4))
        box = Box.of(np.zeros(inputs, int), np.ones(inputs, int))
        with pytest.raises(UnsupportedError, match=f"have {inputs} inputs and {classes} and 4 and 2"):
            approximate(integers((inputs,), classes), original, box)


@pytest.mark.parametrize("flat", [(8,), (1, 2, 4), (4, 2, 1), (2, 4, 1)])
def test_an_input_of_another_shape_of_the_same_size(flat):
    rng = np.random.default_rng(0)
    original = reals((2, 2, 2), convolution(rng, 3, 2, BARE, 1), Relu("r"), Shaped("f", (3,)), affine(rng, 3, 3))
    a = integers(flat, 3)
    check(a, original, boxed(rng, a))


def test_the_quantiser_says_what_integers_stand_for_before_the_tensor_does():
    a = integers((2,), 2)
    other = Quantisation(0.125, -2)
    quantised = replace(a, input=replace(a.input, quantiser=other))
    assert meaning_of_input(a) == Quantisation(0.25, 3)
    assert meaning_of_input(quantised) == other
    original = reals((2,), affine(np.random.default_rng(0), 2, 2))
    close = approximate(quantised, original, Box.of(np.zeros(2, int), np.ones(2, int)))
    assert close.network.ops[0].input_zero_point == -2
    assert close.network.input.quantiser == other
    cells = replace(a, input=replace(a.input, quantiser=Cells((0.5,))))
    with pytest.raises(UnsupportedError, match="stand for no real numbers"):
        meaning_of_input(cells)


@pytest.mark.parametrize("bias", [[1e30, 0.5], [0.5, 1e30], [-1e30, 0.5], [0.5, -1e30]])
def test_biases_beyond_what_sums_may_reach_are_refused(bias):
    a = integers((2,), 2)
    last = Affine("y", np.ones((2, 2), np.float32), np.array(bias, np.float32))
    with pytest.raises(UnsupportedError, match="node y: its biases are too large"):
        approximate(a, reals((2,), last), Box.of(np.zeros(2, int), np.ones(2, int)))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("rest", [-1, 0, 1])
def test_padding_counts_to_the_step(sign, side, rest):
    """A window that may be all padding: the sum's range ends at the bias, which lies at, below or above a step of the shift."""
    a = integers((1, 1, 1), 2, QType(8, True), 1.0, 0)
    window, weight = Window((1, 1), (1, 1), (1, 0, 0, 0)), np.full((1, 1, 1, 1), sign, np.float32)
    bias = np.array([(side * (1 << 23) + rest) * 2.0**-21], np.float64)
    assert float(np.float32(bias[0])) == bias[0]
    conv = Convolution("c", weight, bias.astype(np.float32), window, 1)
    last = Affine("y", np.array([[1.0, 1.0], [0.3, -0.7]], np.float32), np.zeros(2, np.float32))
    check(a, reals((1, 1, 1), conv, Shaped("f", (2,)), last), Box.of(np.ones((1, 1, 1), int), np.ones((1, 1, 1), int)))


def test_rounding_up():
    values = np.array([-5, -4, 0, 3, 4, 5], object)
    assert _up(values, 2).tolist() == [-1, -1, 0, 1, 1, 2]
    assert _up(values, 0).tolist() == values.tolist()
    assert _up(values, -1).tolist() == [-10, -8, 0, 6, 8, 10]
