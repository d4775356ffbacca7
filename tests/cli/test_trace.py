"""trace: the JSON object against the interpreter, and what is refused."""

import json
import re
from fractions import Fraction

import pytest

from bvverify import examples
from bvverify.cli.question import read_input
from bvverify.load.load import load
from bvverify.run import interpreter

TFLITE = str(examples.path(examples.TFLITE))


def test_layers_in_json(cli, cnn, images):
    answer = json.loads(cli("trace", cnn, "--input", f"{images}::5", "--json").out)
    network = load(cnn)
    y = interpreter.run(network, read_input(network, f"{images}::5").x[None]).ravel()
    assert (answer["output"], answer["class"]) == (y.tolist(), int(y.argmax()))
    assert [tuple(layer["shape"]) for layer in answer["layers"]] == [t.shape for t in network.tensors]
    for layer in answer["layers"]:
        for near in layer["nearest"]:
            one = json.loads(cli("trace", cnn, "--input", f"{images}::5", "--json", "--neuron", _name(layer, near)).out)["calculation"]
            rounding = one["rounding"]
            assert (one["output"], one["accumulator"]["held"]) == (near["output"], near["accumulator"])
            assert Fraction(rounding["value"]) + rounding["zero_point"] == Fraction(near["value"])
            if near["kind"] == "tie":
                assert Fraction(rounding["distance"]) == Fraction(near["distance"])
            if near["kind"] == "overflow":
                assert one["accumulator"]["headroom"] == Fraction(near["distance"])


def _name(layer, near):
    return f"{layer['layer']}:{','.join(map(str, near['element']))}"


def test_the_input_is_quantised_step_by_step(cli, mlp, images):
    outcome = cli("trace", mlp, "--input", f"{images}::5", "--neuron", "0:0,0,2")
    assert "the real number 0.8125" in outcome.out
    assert "= 13   (layer 0, Quantise, quantise, divide-half-even)" in outcome.out


def test_against_shows_where_it_began_and_how_it_travels(cli, images):
    near = ("--input", f"{images}::5", "--semantics", "tflite-reference", "--against", "tflite-optimised")
    answer = json.loads(cli("trace", TFLITE, *near, "--json").out)
    a, b = (load(TFLITE, s) for s in ("tflite-reference", "tflite-optimised"))
    x = read_input(a, f"{images}::5").x
    ours, theirs = (interpreter.trace(n, x[None]) for n in (a, b))
    differ = [i for i in range(len(ours)) if (ours[i] != theirs[i]).any()]
    assert [s["layer"] for s in answer["spread"]] == differ
    assert [s["differing"] for s in answer["spread"]] == [int((ours[i] != theirs[i]).sum()) for i in differ]
    assert answer["first"]["layer"] == differ[0]
    one, other = answer["calculations"]
    element = (0, *answer["first"]["element"])
    assert (one["output"], other["output"]) == (ours[differ[0]][element], theirs[differ[0]][element])
    assert one["accumulator"] == other["accumulator"]


def test_against_where_nothing_differs(cli, mlp, images):
    outcome = cli("trace", mlp, "--input", f"{images}::5", "--against", "rational")
    assert (outcome.code, "every tensor is the same under both" in outcome.out) == (0, True)
    both = cli("trace", mlp, "--input", f"{images}::5", "--against", "rational", "--neuron", "3:1")
    assert "float32-half-even" in both.out
    assert "rational-half-up" in both.out
    assert json.loads(cli("trace", mlp, "--input", f"{images}::5", "--against", "rational", "--json").out)["calculations"] is None


def test_colours_on_a_terminal_only(cli, cnn, images, monkeypatch):
    plain = cli("trace", cnn, "--input", f"{images}::5", "--neuron", "1:3").out
    assert "\x1b" not in plain
    monkeypatch.setattr("bvverify.cli.draw.colours", lambda stream=None: True)
    coloured = cli("trace", cnn, "--input", f"{images}::5", "--neuron", "1:3").out
    assert "\x1b[33m" in coloured
    assert re.sub(r"\x1b\[\d*m", "", coloured) == plain


BRIGHT, BRIGHT_IMAGES = examples.path(examples.BRIGHT), examples.path(examples.BRIGHT_IMAGES)
PAIRS = "onnxruntime, accumulator saturating-pairs"
WRONG = {
    "no such layer": (["MLP", "--input", "IMAGES::5", "--neuron", "nowhere:0"], "no layer 'nowhere'"),
    "no neuron": (["MLP", "--input", "IMAGES::5", "--neuron", "2"], "a layer and a neuron"),
    "too far": (["MLP", "--input", "IMAGES::5", "--neuron", "2:32"], "shape (32,)"),
    "axes": (["MLP", "--input", "IMAGES::5", "--neuron", "2:1,1"], "is no neuron of the shape"),
    "the same semantics": (["MLP", "--input", "IMAGES::5", "--against", "onnxruntime"], "both are onnxruntime"),
    "no such semantics": (["MLP", "--input", "IMAGES::5", "--against", "nobody"], "no such profile"),
    "other tensors": ([BRIGHT, "--input", f"{BRIGHT_IMAGES}::0", "--against", PAIRS], "different tensors"),
    "many inputs": (["MLP", "--input", "IMAGES"], "pick one"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls(cli, mlp, images, name):
    arguments, words = WRONG[name]
    outcome = cli("trace", *(str(a).replace("MLP", mlp).replace("IMAGES", images) for a in arguments))
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (1, "", 1)
    assert words in outcome.err
