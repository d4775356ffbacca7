"""A network of integers against a float original, over the reals: exact runs, proved errors, answers that equal enumeration."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from bvverify import examples, pipeline
from bvverify.cli.question import read_input
from bvverify.compare.answer import Answer
from bvverify.compare.approximate import approximate
from bvverify.compare.original import compare, differ, joint, question
from bvverify.errors import UnsupportedError
from bvverify.load.load import is_float, load, load_real
from bvverify.load.onnx_float import output_shape
from bvverify.model.box import around
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Dense, Reshape, Window
from bvverify.model.query import Box
from bvverify.model.real import Affine, Convolution, Largest, RealNetwork, Relu, Shaped
from bvverify.model.requant import Float32HalfEven
from bvverify.model.staircase import Staircase
from bvverify.model.types import QType, Quantisation, Tensor
from bvverify.run import interpreter, real

SCALE = float(np.float32(0.07))


def floats(rng, *shape, size=1.0):
    return (rng.normal(0, size, shape)).astype(np.float32)


def random_real(rng, shape, classes, kinds):
    """A network over the reals with layers of these kinds in front of a last dense one."""
    ops, shapes = [], [shape]

    def add(op):
        ops.append(op)
        shapes.append(output_shape(op, shapes[-1]))

    for kind in kinds:
        c, *image = shapes[-1]
        if kind == "conv":
            groups = c if rng.integers(2) else 1
            out = groups * int(rng.integers(1, 3))
            window = Window((2, 2), (1, int(rng.integers(1, 3))), tuple(rng.integers(0, 2, 4).tolist()))
            add(Convolution("conv", floats(rng, out, c // groups, 2, 2), floats(rng, out, size=0.3), window, groups))
            add(Relu("relu"))
        elif kind == "max":
            add(Largest("max", Window((2, 1), (1, 1), (1, 0, 0, 0))))
        elif kind == "dense":
            if image:
                add(Shaped("flat", (int(np.prod(shapes[-1])),)))
            add(Affine("dense", floats(rng, 4, shapes[-1][0]), floats(rng, 4, size=0.3)))
            if rng.integers(3):
                add(Relu("relu"))
    if len(shapes[-1]) > 1:
        add(Shaped("flat", (int(np.prod(shapes[-1])),)))
    add(Affine("last", floats(rng, classes, shapes[-1][0]), floats(rng, classes, size=0.3)))
    return RealNetwork("real.onnx", "1" * 64, (1, *shape), tuple(ops), tuple(shapes))


def rounded(rng, original, shape, classes):
    """A network of integers that has the last layer of ``original`` roughly, if that is all there is, or some other."""
    qtype = QType(4, signed=False)
    zero = int(rng.integers(0, 8))
    n = int(np.prod(shape))
    weight = original.ops[-1].weight if len(original.ops) == 2 else floats(rng, classes, n)
    step = float(np.abs(weight).max()) / 100
    integers = np.rint(weight / step).astype(np.int64)
    out = float(np.float32(SCALE * np.abs(weight).sum(axis=1).max() * 16 / 200))
    bias = np.rint(original.ops[-1].bias / (step * SCALE)).astype(np.int64)
    staircase = Staircase(Float32HalfEven(np.array([step * SCALE / out], np.float32), 3), -128, 127)
    meaning = Quantisation(SCALE, zero)
    tensors = [
        Tensor("x", shape, qtype, meaning),
        Tensor("flat", (n,), qtype),
        Tensor("y", (classes,), QType(8, True), Quantisation(out, 3)),
    ]
    ops = (Reshape("flat", 0, (n,)), Dense.of("layer", 1, integers, bias, staircase, input_zero_point=zero))
    made = Provenance("made.onnx", "made", "made", "2" * 64)
    return Network(Input(tensors[0], (1, *shape)), ops, tuple(tensors), Output(2, (1, classes)), made)


def pair(seed, kinds=(), shape=(1, 2, 2)):
    rng = np.random.default_rng(seed)
    original = random_real(rng, shape, 3, kinds)
    a = rounded(rng, original, shape, 3)
    lo = rng.integers(0, 13, shape)
    return a, original, Box.of(lo, np.minimum(lo + rng.integers(1, 3, shape), 15))


def by_floats(original, x, zero):
    """The original in float64, for a tolerance."""
    values = (x - zero) * SCALE
    return np.array([float(v) for v in real.run(original, x - zero, SCALE)]), values


@pytest.mark.parametrize("kinds", [(), ("dense",), ("dense", "dense"), ("conv",), ("conv", "max"), ("max", "conv", "dense")])
@pytest.mark.parametrize("seed", range(5))
def test_the_approximation_is_within_its_error(kinds, seed):
    a, original, box = pair(seed, kinds, (2, 3, 3))
    close = approximate(a, original, box)
    rng, zero, worst = np.random.default_rng(seed), a.input.tensor.quantisation.zero_point, 0.0
    for k in range(40):
        x = rng.integers(box.lo, box.hi + 1) if k % 2 else np.where(rng.integers(0, 2, box.lo.shape), box.lo, box.hi)
        exact = real.run(original, x - zero, SCALE)
        integers = interpreter.run(close.network, x[None]).ravel()
        tensors = interpreter.trace(close.network, x[None])
        for t, tensor in zip(tensors[1:], close.network.tensors[1:], strict=True):
            if tensor.qtype.bits == 14:
                assert (t < tensor.qtype.hi).all()
                assert not tensor.qtype.signed or (t > tensor.qtype.lo).all()
        for y, z, error in zip(exact, integers.tolist(), close.error, strict=True):
            assert abs(y - close.unit * z) <= error
            worst = max(worst, float(abs(y - close.unit * z) / error))
    assert worst > 0.05
    assert max(close.error) < 0.05


@pytest.mark.parametrize("seed", range(24))
def test_answers_are_those_of_enumeration(seed):
    a, original, box = pair(seed, [(), (), ("dense",), ("conv",)][seed % 4])
    every = box.points(100)
    zero, out = a.input.tensor.quantisation.zero_point, a.output_tensor.quantisation
    far = []
    for x in every:
        y = interpreter.run(a, x[None]).ravel()
        z = real.run(original, x - zero, SCALE)
        far.append(max(abs(Fraction(out.scale) * (int(p) - out.zero_point) - q) for p, q in zip(y, z, strict=True)))
    most = max(far)
    for delta in (most * Fraction(3, 4), most * Fraction(99, 100), most, most * Fraction(101, 100), None):
        found = compare(a, original, box, delta=delta, options=pipeline.Options(timeout=60))
        expected = any(differ(a, original, x, delta) for x in every)
        if delta is not None:
            assert expected == (most > delta)
        if found.answer is Answer.UNKNOWN:
            # Only where the error of the approximation leaves it open.
            assert delta is None or abs(most - delta) <= 2 * found.error
        else:
            assert (found.answer is Answer.DIFFERS) == expected
        if found.witness is not None:
            assert box.contains(found.witness.input)
            assert differ(a, original, found.witness.input, delta)
            assert found.reals == tuple(real.run(original, found.witness.input - zero, SCALE))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("by_class", [False, True])
def test_the_question_allows_for_the_error_on_the_right_side(seed, by_class):
    a, original, box = pair(seed, [(), ("dense",)][seed % 2])
    close = approximate(a, original, box)
    delta = None if by_class else Fraction(1, 8)
    network, every = joint(a, close.network), box.points(100)
    y = interpreter.run(network, every).reshape(len(every), -1)
    flat = every.reshape(len(every), -1)
    possible, sure = (question(a, close, delta, sure=s).violated(flat, y) for s in (False, True))
    really = np.array([differ(a, original, x, delta) for x in every])
    assert (really <= possible).all()
    assert (sure <= really).all()


def onnx_model(path, nodes, constants, shape, outputs):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, outputs])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def mixed(path):
    rng = np.random.default_rng(0)
    constants = {
        "w": floats(rng, 4, 1, 3, 3), "b": floats(rng, 4), "m": floats(rng, 16, 5), "c": floats(rng, 5), "g": floats(rng, 3, 5),
        "shape": np.array([1, -1]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["1"], pads=[1, 1, 1, 1], strides=[2, 2], group=2),
        helper.make_node("Relu", ["1"], ["2"]),
        helper.make_node("MaxPool", ["2"], ["3"], kernel_shape=[2, 2], strides=[1, 1]),
        helper.make_node("Reshape", ["3", "shape"], ["4"]),
        helper.make_node("MatMul", ["4", "m"], ["5"]),
        helper.make_node("Add", ["5", "c"], ["6"]),
        helper.make_node("Dropout", ["6"], ["7"]),
        helper.make_node("Relu", ["7"], ["8"]),
        helper.make_node("Gemm", ["8", "g"], ["y"], transB=1),
    ]
    return onnx_model(path, nodes, constants, (2, 5, 5), 3)


class TestFile:
    def test_it_computes_what_the_runtime_rounds(self, tmp_path):
        file = mixed(tmp_path / "mixed.onnx")
        assert is_float(file)
        network, rng = load_real(file), np.random.default_rng(1)
        session = ort.InferenceSession(str(file))
        for _ in range(5):
            x = rng.integers(-20, 20, (2, 5, 5))
            (expected,) = session.run(None, {"x": (x * np.float32(0.125)).astype(np.float32)[None]})
            found = [float(v) for v in real.run(network, x, 0.125)]
            assert np.allclose(found, expected[0], rtol=1e-5, atol=1e-5)

    def test_sums_are_exact(self, tmp_path):
        """2^24 + 1 has no float32, and the smallest float32 does not get lost beside it."""
        tiny = np.float32(2.0**-149)
        constants = {"g": np.array([[2.0**24, 1.0, tiny]], np.float32)}
        file = onnx_model(tmp_path / "sum.onnx", [helper.make_node("Gemm", ["x", "g"], ["y"], transB=1)], constants, (3,), 1)
        (y,) = real.run(load_real(file), np.array([1, 1, 3]), 1.0)
        assert y == Fraction(2) ** 24 + 1 + 3 * Fraction(2) ** -149

    @pytest.mark.parametrize(
        ("node", "complaint"),
        [
            (helper.make_node("Sigmoid", ["x"], ["y"], name="n"), "node n .Sigmoid.: has no place"),
            (helper.make_node("Gemm", ["x", "g"], ["y"], name="n", alpha=2.0), "node n .Gemm.: alpha"),
            (helper.make_node("Add", ["x", "g"], ["y"], name="n"), "node n .Add.: adds a constant to something else"),
            (helper.make_node("Add", ["x", "x"], ["y"], name="n"), "node n .Add.: reads something else than the node before"),
            (helper.make_node("Gemm", ["x", "bad"], ["y"], name="n"), "node n .Gemm.: its weight is not of finite float32"),
        ],
    )
    def test_what_has_no_place_is_refused_by_name(self, tmp_path, node, complaint):
        constants = {"g": np.ones((3, 3), np.float32), "bad": np.full((3, 3), np.nan, np.float32)}
        file = onnx_model(tmp_path / "f.onnx", [node], constants, (3,), 3)
        with pytest.raises(UnsupportedError, match=complaint):
            load_real(file)

    def test_integer_networks_are_none(self):
        assert not is_float(examples.path("digits_mlp_qop.onnx"))
        assert not is_float(examples.path("digits_mlp_qdq.onnx"))
        assert not is_float(examples.path(examples.TFLITE))
        assert is_float(examples.path("digits_cnn_float.onnx"))


class TestDigits:
    @pytest.mark.parametrize("name", ["mlp", "cnn"])
    def test_one_input_is_decided_exactly(self, name):
        a, original = load(examples.path(f"digits_{name}_qop.onnx")), load_real(examples.path(f"digits_{name}_float.onnx"))
        x = read_input(a, f"{examples.path(examples.IMAGES)}::3").x
        box = around(x, 0, a.input.tensor.qtype)
        meaning = a.output.dequantiser or a.output_tensor.quantisation
        y = interpreter.run(a, x[None]).ravel()
        z = real.run(original, x - a.input.tensor.quantisation.zero_point, a.input.tensor.quantisation.scale)
        most = max(abs(Fraction(meaning.scale) * (int(p) - meaning.zero_point) - q) for p, q in zip(y, z, strict=True))
        assert 0 < most < 1
        assert compare(a, original, box, delta=most + Fraction(1, 10)).answer is Answer.EQUAL
        assert compare(a, original, box, delta=most - Fraction(1, 10)).answer is Answer.DIFFERS

    def test_the_class_is_the_original_s_near_an_input(self):
        a, original = load(examples.path("digits_mlp_qop.onnx")), load_real(examples.path("digits_mlp_float.onnx"))
        x = read_input(a, f"{examples.path(examples.IMAGES)}::3").x
        found = compare(a, original, around(x, 1, a.input.tensor.qtype), delta=None, nominal=x)
        assert (found.answer, len(found.certificates)) == (Answer.EQUAL, 1)
        assert found.checked is not None

    def test_what_does_not_fit_is_refused(self):
        a, original = load(examples.path("digits_mlp_qop.onnx")), load_real(examples.path("digits_mlp_float.onnx"))
        box = around(np.zeros(a.input.tensor.shape, int), 0, a.input.tensor.qtype)
        with pytest.raises(UnsupportedError, match="64 inputs and 10"):
            approximate(a, replace(original, shapes=(*original.shapes[:-1], (9,))), box)
        tensors = tuple(replace(t, quantisation=None) for t in a.tensors)
        bare = replace(
            a, tensors=tensors, input=replace(a.input, tensor=tensors[0], quantiser=None), output=replace(a.output, dequantiser=None)
        )
        with pytest.raises(UnsupportedError, match="stand for no real numbers"):
            approximate(bare, original, box)
