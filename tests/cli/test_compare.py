"""compare: the answer's line, the exit code, the JSON object, what is saved, and what is refused."""

import json
import re
from fractions import Fraction

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bvverify import examples
from bvverify.load.load import load
from bvverify.run import interpreter

NEAR = {"equal": ("7", "1"), "differs": ("5", "1")}
"""Image and radius at which the bundled CNN, as ONNX Runtime computes it, is or is not its ideal twin."""
FIELDS = {"schema_version", "command", "verdict", "stage", "reason", "seconds", "asked", "model", "semantics", "against", "parting"}


def _near(images, outcome):
    image, radius = NEAR[outcome]
    return "--input", f"{images}::{image}", "--radius", radius


def test_equal_by_agreement_on_the_whole_input_space(cli, mlp):
    outcome = cli("compare", mlp, "--against", "rational")
    assert (outcome.code, outcome.first, outcome.err) == (0, "equal", "")
    assert "induction over the operations; ranges: exact integer intervals" in outcome.out
    assert "onnxruntime+rational-half-up (rational-half-up)" in outcome.out


def test_equal_near_an_image(cli, cnn, images):
    outcome = cli("compare", cnn, "--against", "rational", *_near(images, "equal"))
    assert (outcome.code, outcome.first) == (0, "equal")


def test_differs_and_everything_that_is_said_is_so(cli, cnn, images, tmp_path):
    saved = tmp_path / "x.npy"
    outcome = cli("compare", cnn, "--against", "rational", *_near(images, "differs"), "--witness", saved, "--json")
    answer = json.loads(outcome.out)
    assert (outcome.code, answer["verdict"], outcome.err) == (10, "differs", "")
    assert set(answer) >= FIELDS
    x = np.load(saved)
    a, b = (load(cnn, s) for s in (answer["semantics"], answer["against"]))
    ours, theirs = (interpreter.run(n, interpreter.quantise_input(n, x))[0].ravel().tolist() for n in (a, b))
    assert ours != theirs
    assert (answer["witness"]["a"]["output"], answer["witness"]["b"]["output"]) == (ours, theirs)
    assert [r["agreed"] for r in answer["witness"]["a"]["replays"]] == [True]  # by ONNX Runtime itself
    assert answer["witness"]["b"]["replays"] == []
    parting = answer["parting"]
    one, other = parting["roundings"]
    value = Fraction(one["multiplier"]) * parting["accumulator"]
    assert Fraction(one["value"]) - value == 0  # the zero point of this layer
    assert Fraction(one["tie"]) + Fraction(one["distance"]) == Fraction(one["value"])
    assert other["result"] == (value + Fraction(1, 2)).__floor__() != one["result"]
    text = cli("compare", cnn, "--against", "rational", *_near(images, "differs")).out
    assert "layer1_node[7, " in text
    assert "below the tie 161.5: becomes 162" in text
    assert "below the tie 161.5: becomes 161" in text


def test_the_class_stays_with_a_certificate_that_can_be_checked(cli, cnn, images, tmp_path):
    saved = tmp_path / "proof.bvcert"
    near = _near(images, "differs")
    outcome = cli("compare", cnn, "--against", "rational", "--class", *near, "--certificate", saved)
    assert (outcome.code, outcome.first) == (0, "equal")
    assert "by the kernel" in outcome.out
    checked = cli("check", saved)
    assert (checked.code, checked.first) == (0, "accepted")
    assert "onnxruntime against onnxruntime+rational-half-up" in checked.out
    assert cli("check", saved, *near).code == 1


def test_no_certificate_where_thresholds_are_the_proof(cli, mlp, tmp_path):
    outcome = cli("compare", mlp, "--against", "rational", "--certificate", tmp_path / "proof.bvcert")
    assert "no certificate" in outcome.out
    assert not (tmp_path / "proof.bvcert").exists()


def test_unknown_says_what_ran_out(cli, cnn):
    outcome = cli("compare", cnn, "--against", "rational", "--timeout", "1e-9")
    assert (outcome.code, outcome.first) == (5, "unknown")
    assert "time limit" in outcome.out
    assert "may begin  layer1_node: 4 of 32 elements" in outcome.out


def test_one_layer(cli, cnn, tmp_path):
    assert cli("compare", cnn, "--against", "rational", "--layer", "layer0_node").first == "equal"
    saved = tmp_path / "x.npy"
    outcome = cli("compare", cnn, "--against", "rational", "--layer", "layer1_node", "--witness", saved, "--json")
    answer = json.loads(outcome.out)
    assert (outcome.code, answer["verdict"]) == (10, "differs")
    a, b = load(cnn), load(cnn, "rational-half-up")
    index = [op.name for op in a.ops].index("layer1_node")
    ours, theirs = (interpreter.evaluate(n.ops[index], [np.load(saved)[None]])[0] for n in (a, b))
    at = tuple(answer["parting"]["element"])
    assert [int(ours[at]), int(theirs[at])] == answer["parting"]["results"]
    assert ours[at] != theirs[at]
    assert answer["parting"]["accumulator"] == 19725


def test_a_property_file_gives_the_boxes(cli, mlp):
    outcome = cli("compare", mlp, examples.path(examples.PROPERTY), "--against", "rational")
    assert (outcome.code, outcome.first) == (0, "equal")


@pytest.mark.parametrize(
    ("extra", "code", "word"),
    [
        (["--against", "onnxruntime"], 1, "both are onnxruntime"),
        (["--against", "nonsense"], 1, "no such profile"),
        (["--against", "rational", "--layer", "nowhere"], 1, "it has layer0_flat_node, layer0_node"),
        (["--against", "rational", "--layer", "layer0_node", "--class"], 1, "leave out"),
        (["--against", "rational", "--radius", "1"], 1, "--input FILE"),
        (["--against", "rational", "--witness", "x.txt"], 1, "ends in"),
        (["--against", "fixed-point:bits=6"], 1, "ONNX file"),
    ],
)
def test_what_is_refused(cli, mlp, extra, code, word):
    outcome = cli("compare", mlp, *extra)
    assert (outcome.code, outcome.out) == (code, "")
    assert word in outcome.err
    assert outcome.err.count("\n") == 1


def _signed(path):
    """A signed QDQ graph of one convolution."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-9, 9, (2, 1, 1, 1)).astype(np.int8)
    values = {"s": np.float32(0.1), "z": np.int8(0), "w": weight, "ws": np.float32(0.1)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "z"], ["wd"]),
        helper.make_node("Conv", ["d", "wd"], ["c"], name="conv", kernel_shape=[1, 1]),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["cq"], name="requantise"),
        helper.make_node("DequantizeLinear", ["cq", "s", "z"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 1, 2, 2]), ("y", [1, 2, 2, 2]))]
    constants = [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in values.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_signed_integers_are_held_against_shifted_ones(cli, tmp_path):
    """By default a signed pair is read as uint8, with the option as int8: the same numbers, 128 apart, and the same roundings."""
    path = _signed(tmp_path / "signed.onnx")
    assert load(path).input.tensor.qtype != load(path, "onnxruntime:qdqisint8allowed=1").input.tensor.qtype
    outcome = cli("compare", path, "--against", "onnxruntime:qdqisint8allowed=1")
    assert (outcome.code, outcome.first) == (0, "equal")
    outcome = cli("compare", path, "--against", "onnxruntime:qdqisint8allowed=1+rational-half-up")
    assert (outcome.code, outcome.first) == (0, "equal")


def test_fixed_point_widths(cli, tmp_path):
    """Outputs of two widths are on two scales; their classes can be compared, and so can one width with its ideal."""
    rng = np.random.default_rng(0)
    path = tmp_path / "n.h5"
    with h5py.File(path, "w") as file:
        for name, shape in (("dense_0", (6, 8)), ("dense_1", (8, 4))):
            group = file.create_group(f"{name}/{name}")
            group["kernel:0"], group["bias:0"] = (rng.normal(0, 0.4, s).astype(np.float32) for s in (shape, shape[1:]))
    six = ("compare", path, "--semantics", "fixed-point:bits=6,input_bits=4", "--against")
    eight = "fixed-point:bits=8,input_bits=4"
    assert cli(*six, eight).code == 2
    assert "ask about the class" in cli(*six, eight).err
    assert cli(*six, "fixed-point:bits=6,input_bits=5", "--class").code == 2
    assert "sums up other numbers" in cli(*six, eight, "--layer", "dense_0").err
    outcome = cli(*six, eight, "--class", "--json")
    answer = json.loads(outcome.out)
    assert (outcome.code, answer["verdict"]) == (10, "differs")
    assert answer["witness"]["a"]["class"] != answer["witness"]["b"]["class"]
    assert answer["parting"]["roundings"] == []  # the sums differ already
    assert cli(*six, "rational").first == "equal"


def test_a_rounding_is_shown_before_the_zero_point(cli):
    arguments = ("compare", examples.path(examples.TFLITE), "--semantics", "tflite-reference", "--against", "tflite-optimised", "--class")
    report, text = json.loads(cli(*arguments, "--json").out), cli(*arguments).out
    for name, r in zip("AB", report["parting"]["roundings"], strict=True):
        product = Fraction(r["multiplier"]) * report["parting"]["accumulator"]
        assert Fraction(r["value"]) == product + r["zero_point"]
        assert r["zero_point"] == -128
        shown = re.search(rf"rounds {name} .* is (\S+), (\S+) below the tie (\S+): becomes (\d+), with zero point -128: (-?\d+)", text)
        assert abs(float(shown[1]) - float(product)) < 1e-6
        assert float(shown[3]) - float(shown[1]) == pytest.approx(float(shown[2]), rel=0.01)
        assert int(shown[4]) - 128 == int(shown[5]) == r["result"]


@pytest.mark.parametrize(
    ("model", "arguments", "says", "silent"),
    [
        (
            examples.TFLITE,
            ["compare", "--against", "cmsis"],
            "--against cmsis: there is no such profile; did you mean cmsis-nn?",
            "onnxruntime",
        ),
        (examples.TFLITE, ["compare", "--against", "tflite-optimized"], "did you mean tflite-optimised? It is one of", "pytorch"),
        ("digits_mlp_qop.onnx", ["compare", "--against", "cmsis-nn"], "--against cmsis-nn: ", "--semantics"),
        (
            "digits_mlp_qop.onnx",
            ["compare", "--against", "zz"],
            "--against zz: there is no such profile; it is one of onnxruntime,",
            "mean",
        ),
        ("digits_mlp_qop.onnx", ["compare", "--against", "rational", "--semantics", "onnx"], "--semantics onnx: ", "tflite"),
    ],
)
def test_an_unknown_profile_names_the_option_and_what_fits_the_file(cli, model, arguments, says, silent):
    outcome = cli(*arguments, examples.path(model))
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert says in outcome.err
    assert silent not in outcome.err.replace(str(examples.path(model)), "")
