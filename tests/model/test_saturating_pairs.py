"""The saturating-pairs accumulator against a plain definition of vpmaddubsw, and the verdicts about it against enumeration."""

import numpy as np
import pytest
import random_networks
import z3

from bvverify import pipeline
from bvverify.bounds import interval
from bvverify.encode.network import encode
from bvverify.model import saturating_pairs
from bvverify.model.network import Input, Network, Output, Provenance, output_form
from bvverify.model.ops import Conv2d, Dense, Reshape, Window, inputs
from bvverify.model.query import Box, Query
from bvverify.model.requant import Float32HalfEven, ShiftHalfUp
from bvverify.model.result import Verdict
from bvverify.model.saturating_pairs import EXCESS
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, UINT8, QType, Tensor
from bvverify.run import interpreter

INT16 = QType(16, signed=True)
PLAIN = Staircase(ShiftHalfUp(3), -(1 << 15), (1 << 15) - 1)


def saturating_sum(x, w, zero, bias):
    """One output of one input, in Python's integers: what the instruction does, pair by pair."""
    x, w = [*x, 0], [*w, 0]
    total = 0
    for i in range(0, len(x) - 1, 2):
        total += min(max(x[i] * w[i] + x[i + 1] * w[i + 1], -32768), 32767)
    return total - zero * sum(w) + bias


def built(layers, inputs, *, pairs=True):
    """A network of dense layers (weight, bias, staircase, zero point, type) on uint8; with ``pairs`` its accumulator saturates."""
    ops, tensors = [], [Tensor("x", (inputs,), UINT8)]
    for k, (weight, bias, staircase, zero, qtype) in enumerate(layers):
        op = Dense.of(f"layer {k}", len(ops), weight, bias, staircase, input_zero_point=zero)
        parts = saturating_pairs.expand(op, (inputs,), len(ops) + 1) if pairs else None
        for part in (op,) if parts is None else parts:
            ops.append(part)
            if part.name != op.name:
                size = len(part.weight) if isinstance(part, Dense) else inputs + len(ops[-2].weight)
                tensors.append(Tensor(part.name, (size,), saturating_pairs.EXCESS))
        tensors.append(Tensor(op.name, (len(weight),), qtype))
        inputs = len(weight)
    made = Provenance("made", "made", "made", "0" * 64)
    return Network(Input(tensors[0], (1, *tensors[0].shape)), tuple(ops), tuple(tensors), Output(len(ops), (1, inputs)), made)


def accumulator(network, x):
    """The accumulator of the last layer."""
    op = network.ops[-1]
    return interpreter.accumulate(op, interpreter.trace(network, x)[op.x])


def test_one_pair_at_every_edge():
    """Weights and inputs at all the places where one or two products reach the ends of int16, in every combination."""
    weights = np.array([-128, -127, -65, -64, -1, 0, 1, 64, 65, 126, 127])
    values = np.array([0, 1, 2, 127, 128, 129, 252, 253, 254, 255])
    w = np.stack([g.ravel() for g in np.meshgrid(weights, weights)], axis=1)
    x = np.stack([g.ravel() for g in np.meshgrid(values, values)], axis=1)
    bias = np.arange(len(w)) - 50
    acc = accumulator(built([(w, bias, PLAIN, 3, INT16)], 2), x)
    expected = [[saturating_sum(a.tolist(), b.tolist(), 3, int(c)) for b, c in zip(w, bias, strict=True)] for a in x]
    assert (acc == expected).all()
    exact = accumulator(built([(w, bias, PLAIN, 3, INT16)], 2, pairs=False), x)
    assert (exact != expected).any(axis=1).sum() > 10


@pytest.mark.parametrize("inputs", [1, 2, 3, 5, 8])
def test_random_layers_of_any_length(inputs):
    rng = np.random.default_rng(inputs)
    w, bias = rng.choice([-128, 127, 90, -90, 10], (6, inputs)), rng.integers(-9999, 9999, 6)
    x = rng.choice([0, 255, 200, 128, 60], (200, inputs))
    acc = accumulator(built([(w, bias, PLAIN, 77, INT16)], inputs), x)
    assert (acc == [[saturating_sum(a.tolist(), b.tolist(), 77, int(c)) for b, c in zip(w, bias, strict=True)] for a in x]).all()


def test_pairs_that_fit_cost_nothing():
    op = Dense.of("layer", 0, np.array([[64, 64, 127, -128, 127]]), np.zeros(1, np.int64), PLAIN)
    assert saturating_pairs.expand(op, (5,), 1) is None
    depthwise = Conv2d.of("c", 0, np.full((3, 1, 2, 2), 127), np.zeros(3, np.int64), PLAIN, window=Window((2, 2)), groups=3)
    assert saturating_pairs.expand(depthwise, (3, 4, 4), 1) is None


def convolved(rng):
    """A random convolution on uint8 that saturates, as a network, and its exact form; None where its padding is too wide."""
    groups, of_group = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    pads = tuple(int(rng.integers(0, k)) for k in (*kernel, *kernel))
    window = Window(kernel, (int(rng.integers(1, 3)), int(rng.integers(1, 3))), pads)
    shape, outputs = (groups * of_group, 4, 5), groups * int(rng.integers(2, 4))
    weight = rng.choice([-128, 127, -90, 90, 10], (outputs, of_group, *kernel))
    op = Conv2d.of(
        "c", 0, weight, rng.integers(-9999, 9999, outputs), PLAIN, window=window, groups=groups, input_zero_point=int(rng.integers(0, 256))
    )  # fmt: skip
    try:
        parts = saturating_pairs.expand(op, shape, 1)
    except ValueError:
        parts = None
    if parts is None:
        return None
    tensors = [Tensor("x", shape, UINT8)]
    tensors += [Tensor(p.name, (size, *shape[1:]), saturating_pairs.EXCESS) for p, size in zip(parts, _sizes(parts, shape), strict=False)]
    tensors.append(Tensor("c", (outputs, *window.output(*shape[1:])), INT16))
    made = Provenance("made", "made", "made", "0" * 64)
    return op, Network(Input(tensors[0], (1, *shape)), parts, tuple(tensors), Output(3, (1, *tensors[-1].shape)), made)


def _sizes(parts, shape):
    units = len(parts[0].weight)
    return units, shape[0] + units


def test_a_window_that_is_padded_everywhere_is_refused():
    window = Window((1, 2), padding=(0, 1, 0, 1))
    op = Conv2d.of("c", 0, np.full((1, 2, 1, 2), 127), np.zeros(1, np.int64), PLAIN, window=window)
    with pytest.raises(ValueError, match="padding is so wide"):
        saturating_pairs.expand(op, (2, 3, 3), 1)


def test_random_convolutions():
    """Every window by the plain definition: positions row by row, the group's channels at each, the raw zero point in the padding."""
    rng, tried = np.random.default_rng(0), 0
    while tried < 25:
        made = convolved(rng)
        if made is None:
            continue
        op, network = made
        tried += 1
        x = rng.choice([0, 255, 200, 128], (2, *network.input.tensor.shape))
        acc = accumulator(network, x)
        top, left, bottom, right = op.window.padding
        padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=op.input_zero_point)
        of_group, outputs = op.weight.shape[1], len(op.weight) // op.groups
        for b, o, i, j in np.ndindex(*acc.shape):
            r, s, first = i * op.window.strides[0], j * op.window.strides[1], o // outputs * of_group
            seen = padded[b, first : first + of_group, r : r + op.window.kernel[0], s : s + op.window.kernel[1]]
            xs, ws = (v.transpose(1, 2, 0).ravel().tolist() for v in (seen, op.weight[o]))
            assert acc[b, o, i, j] == saturating_sum(xs, ws, op.input_zero_point, int(op.bias[o]))


@pytest.mark.parametrize(("weight", "zero", "why"), [([[200, 200]], 0, "int8"), ([[100, 100]], 5, "zero point 0")])
def test_other_weights_are_refused(weight, zero, why):
    op = Dense.of("layer", 0, np.array(weight), np.zeros(1, np.int64), PLAIN, weight_zero_point=zero)
    with pytest.raises(ValueError, match=why):
        saturating_pairs.expand(op, (2,), 1)


def two_layers(rng, inputs):
    """Layers of which both saturate: bright hidden values, weights at both ends."""
    hidden = Staircase(Float32HalfEven(np.array([2.0**-8], np.float32), 0), 0, 255)
    last = Staircase(Float32HalfEven(np.array([2.0**-9], np.float32), 0), -128, 127)
    draw = lambda *shape: rng.choice([-128, -100, 70, 127], shape)  # noqa: E731
    return [
        (draw(4, inputs), rng.integers(20_000, 60_000, 4), hidden, int(rng.integers(0, 60)), UINT8),
        (draw(3, 4), rng.integers(-9999, 9999, 3), last, 0, INT8),
    ]


def question(seed):
    rng = np.random.default_rng(seed)
    layers = two_layers(rng, 3)
    network, exact = built(layers, 3), built(layers, 3, pairs=False)
    centre = rng.integers(110, 240, 3)
    where = Box.of(centre - rng.integers(0, 6, 3), centre + rng.integers(0, 6, 3))
    x = random_networks.points(where)
    y = interpreter.run(network, x)
    asked = random_networks.prop(rng, network, where, y)
    differs = bool((y != interpreter.run(exact, x)).any())
    return Query(network, where, asked), bool(asked.violated(x, y).any()), differs


def test_verdicts_are_those_of_enumeration():
    """Both engines and the encoding on 9 networks, of which most saturate on the box, with both verdicts among them."""
    verdicts, saturating = set(), 0
    for seed in range(17, 26):
        query, violated, differs = question(seed)
        saturating += differs
        expected = Verdict.FALSIFIED if violated else Verdict.VERIFIED
        verdicts.add(expected)
        result = pipeline.decide(query, pipeline.Options(timeout=120, runtimes=False))
        assert result.verdict is expected, seed
        bounds = interval.propagate(query.network, query.box)
        encoding = encode(query, bounds)
        solver = z3.Solver()
        solver.add(*encoding.constraints, encoding.violation)
        assert solver.check() == (z3.sat if violated else z3.unsat), seed
        assert bounds.contains(interpreter.trace(query.network, random_networks.points(query.box)))
    assert len(verdicts) == 2
    assert saturating > 4


def test_verdicts_about_convolutions_are_those_of_enumeration():
    """A convolution and a dense layer behind it, both with pairs that saturate."""
    verdicts, saturating, rng = set(), 0, np.random.default_rng(2)
    hidden = Staircase(Float32HalfEven(np.array([2.0**-9], np.float32), 0), 0, 255)
    last = Staircase(ShiftHalfUp(4), INT16.lo, INT16.hi)
    for _ in range(6):
        window = Window((2, 1), padding=(1, 0, 0, 0))
        weight, bias = rng.choice([-100, 66, 127], (2, 1, 2, 1)), rng.integers(10_000, 40_000, 2)
        conv = Conv2d.of("c", 0, weight, bias, hidden, window=window, input_zero_point=40)
        parts = saturating_pairs.expand(conv, (1, 2, 2), 1) or (conv,)
        flat = Reshape("flat", len(parts), (8,))
        dense = Dense.of("d", len(parts) + 1, rng.choice([-128, 127, 60], (3, 8)), rng.integers(-9999, 9999, 3), last)
        ops = (*parts, flat, *(saturating_pairs.expand(dense, (8,), len(parts) + 2) or (dense,)))
        shapes = [(1, 2, 2)]
        for op in ops:
            shapes.append(output_form(op, tuple(Tensor("", shapes[i], EXCESS) for i in inputs(op)))[0])
        types = [UINT8, *(UINT8 if op in (parts[-1], flat) else INT16 if op is ops[-1] else EXCESS for op in ops)]
        tensors = tuple(Tensor(f"t{i}", shape, qtype) for i, (shape, qtype) in enumerate(zip(shapes, types, strict=True)))
        made = Provenance("made", "made", "made", "0" * 64)
        network = Network(Input(tensors[0], (1, 1, 2, 2)), ops, tensors, Output(len(ops), (1, 3)), made)
        centre = rng.integers(100, 200, (1, 2, 2))
        where = Box.of(centre - rng.integers(0, 4, centre.shape), centre + rng.integers(0, 4, centre.shape))
        x = random_networks.points(where)
        tensors_of = interpreter.trace(network, x)
        saturating += any(tensors_of[i + 1].any() for i in saturating_pairs.excesses(network))
        asked = random_networks.prop(rng, network, where, tensors_of[-1])
        expected = Verdict.FALSIFIED if asked.violated(x.reshape(len(x), -1), tensors_of[-1]).any() else Verdict.VERIFIED
        verdicts.add(expected)
        query = Query(network, where, asked)
        assert pipeline.decide(query, pipeline.Options(timeout=120, runtimes=False)).verdict is expected
        encoding, solver = encode(query, interval.propagate(network, where)), z3.Solver()
        solver.add(*encoding.constraints, encoding.violation)
        assert solver.check() == (z3.sat if expected is Verdict.FALSIFIED else z3.unsat)
    assert len(verdicts) == 2
    assert saturating > 3


def test_the_smt_engine_decides():
    for seed in range(40, 42):
        query, violated, _ = question(seed)
        result = pipeline.decide(query, pipeline.Options(engine="smt", timeout=120, runtimes=False, trust_solver=True))
        assert result.verdict is (Verdict.FALSIFIED if violated else Verdict.VERIFIED), seed


class TestWhatIsRefused:
    """Layers that the instruction does not compute, or that would become too large."""

    @pytest.mark.parametrize(("weight", "zeros", "taken"), [
        ([[-128, -128]], [0], True), ([[127, 127]], [0], True), ([[-129, 5]], [0], False), ([[5, 128]], [0], False),
        ([[127, 127], [127, 127]], [0, 1], False), ([[127, 127], [127, 127]], [0, 0], True),
    ])  # fmt: skip
    def test_weights_that_are_no_int8(self, weight, zeros, taken):
        weight = np.array(weight)
        op = Dense.of("layer", 0, weight, np.zeros(len(weight), np.int64), PLAIN, weight_zero_point=np.array(zeros))
        if taken:
            assert saturating_pairs.expand(op, (2,), 1) is not None
        else:
            with pytest.raises(ValueError, match="int8 weights with zero point 0"):
                saturating_pairs.expand(op, (2,), 1)

    def test_too_many_excesses(self):
        """One pair, seen at every position of an image: 128 by 128 of them are modelled, one more row is not."""
        op = Conv2d.of("c", 0, np.full((1, 2, 1, 1), 127), np.zeros(1, np.int64), PLAIN, window=Window((1, 1)))
        assert saturating_pairs.expand(op, (2, 128, 128), 1) is not None
        with pytest.raises(ValueError, match="16512 pairs of products can leave int16; bvverify models up to 16384"):
            saturating_pairs.expand(op, (2, 129, 128), 1)


def test_the_parts_keep_the_width_of_the_accumulator():
    """The excesses are exact; what wraps is the layer's own sum. Their type is the narrowest that holds them."""
    dense = Dense.of("d", 0, np.array([[127, 127]]), np.zeros(1, np.int64), PLAIN, accumulator_bits=20)
    window = Window((1, 1))
    conv = Conv2d.of("c", 0, np.full((1, 2, 1, 1), 127), np.zeros(1, np.int64), PLAIN, window=window, accumulator_bits=21)
    for op, shape in ((dense, (2,)), (conv, (2, 3, 3))):
        excess, _, rest = saturating_pairs.expand(op, shape, 1)
        assert (excess.accumulator_bits, rest.accumulator_bits) == (None, op.accumulator_bits)
        assert (excess.staircase.lo, excess.staircase.hi) == (0, 32512)
    assert QType(EXCESS.bits - 1, signed=False).hi < 32512 <= EXCESS.hi


class TestWhereItMatters:
    """Networks that are the same function whether pairs saturate or not, and the operations that make excesses."""

    @staticmethod
    def _network(weight, *, pairs, qtype=UINT8, staircase=PLAIN):
        net = built([(np.array(weight), np.zeros(len(weight), np.int64), staircase, 0, INT16)], len(weight[0]), pairs=pairs)
        first = Tensor("x", net.input.tensor.shape, qtype)
        return Network(Input(first, net.input.file_shape), net.ops, (first, *net.tensors[1:]), net.output, net.provenance)

    @pytest.mark.parametrize(
        ("weight", "given", "never"),
        [
            ([[127, 127]], {"pairs": True}, False),
            ([[127, 127]], {"pairs": False}, False),
            ([[127, 127], [1, 1]], {"pairs": False}, False),
            ([[64, 64]], {"pairs": False}, True),
            ([[127, 127]], {"pairs": False, "qtype": INT8}, True),
            ([[200, 200]], {"pairs": False}, True),
            ([[128, 1]], {"pairs": False}, True),
        ],
    )
    def test_never_matter(self, weight, given, never):
        assert saturating_pairs.never_matter(self._network(weight, **given)) is never

    def test_other_operations_never_matter(self):
        flat = Network(
            Input(Tensor("x", (2, 1), UINT8), (1, 2, 1)), (Reshape("flat", 0, (2,)),),
            (Tensor("x", (2, 1), UINT8), Tensor("y", (2,), UINT8)),
            Output(1, (1, 2)), Provenance("made", "made", "made", "0" * 64),
        )  # fmt: skip
        assert saturating_pairs.never_matter(flat)
        assert saturating_pairs.excesses(flat) == []

    def test_excesses_are_known_by_their_ramp(self):
        assert saturating_pairs.excesses(self._network([[127, 127]], pairs=True)) == [0]
        for lookalike in (Staircase(ShiftHalfUp(0), 0, 32511), Staircase(ShiftHalfUp(1), 0, 32512), Staircase(ShiftHalfUp(0), -1, 32512)):
            assert saturating_pairs.excesses(self._network([[64, 64]], pairs=False, staircase=lookalike)) == []

    def test_the_feature_of_the_cpu(self):
        assert saturating_pairs.exact_with("pytorch-fbgemm:input=3") == "AVX512-VNNI"
        assert saturating_pairs.exact_with("onnxruntime") == "VNNI"


NOTHING = lambda op: np.zeros((len(op.weight), 1), np.int64)  # noqa: E731
MUTANTS = {
    "saturation left out": ("_signs", NOTHING),
    "the upper limit one too high": ("_limit", lambda sign: 32768),
    "the lower limit one too low": ("_limit", lambda sign: 32767),
    "upwards only": ("_signs", lambda op, signs=saturating_pairs._signs: np.maximum(signs(op), 0)),
    "downwards only": ("_signs", lambda op, signs=saturating_pairs._signs: np.minimum(signs(op), 0)),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_of_the_sum_die(monkeypatch, mutant):
    monkeypatch.setattr(saturating_pairs, *MUTANTS[mutant])
    with pytest.raises(AssertionError):
        test_one_pair_at_every_edge()


def test_another_order_in_a_convolution_dies(monkeypatch):
    """Pairs over positions first and channels last: the weight as the file holds it."""
    monkeypatch.setattr(saturating_pairs, "_in_order", lambda op: op.weight.reshape(len(op.weight), -1))
    with pytest.raises(AssertionError):
        test_random_convolutions()
