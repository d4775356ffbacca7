"""compare MODEL ORIGINAL, a network of floats, on the bundled networks: both outcomes, certified and replayed."""

import json
from fractions import Fraction

import numpy as np
import pytest

from bvverify import examples
from bvverify.load.load import load, load_real
from bvverify.model.box import quantise
from bvverify.run import interpreter, real

MLP, CNN = ((examples.path(f"digits_{n}_qop.onnx"), examples.path(f"digits_{n}_float.onnx")) for n in ("mlp", "cnn"))


def near(images, image, radius):
    return "--input", f"{images}::{image}", "--radius", radius


def test_equal_in_class_with_a_certificate(cli, images, tmp_path):
    file = tmp_path / "equal.bvcert"
    outcome = cli("compare", *MLP, "--class", *near(images, 3, 1), "--certificate", file)
    assert (outcome.code, outcome.first, outcome.err) == (0, "equal", "")
    assert "the class is that of" in outcome.out
    assert "over the reals" in outcome.out
    assert "(proved); the verdict allows for that" in outcome.out
    checked = cli("check", file)
    assert (checked.code, checked.first) == (0, "accepted")
    assert "onnxruntime against real numbers" in checked.out
    assert "the error of the integers that stand for a float network" in checked.out
    # About another original it says nothing.
    assert cli("check", file, "--against-model", CNN[1]).code == 2


def test_differs_with_an_input_whose_reals_are_exact(cli, images, tmp_path):
    file = tmp_path / "x.npy"
    words = ("compare", *CNN, "--delta", "1/16", *near(images, 5, 0))
    outcome = cli(*words, "--witness", file)
    assert (outcome.code, outcome.first, outcome.err) == (10, "differs", "")
    assert "onnxruntime" in outcome.out
    answer = json.loads(cli(*words, "--json").out)
    a, original = load(CNN[0]), load_real(CNN[1])
    x = np.array(answer["witness"]["input"]).reshape(a.input.tensor.shape)
    meaning, out = a.input.tensor.quantisation, a.output.dequantiser or a.output_tensor.quantisation
    assert np.array_equal(quantise(np.load(file)[0], meaning, a.input.tensor.qtype), x)
    y = interpreter.run(a, x[None]).ravel().tolist()
    z = real.run(original, x - meaning.zero_point, meaning.scale)
    assert answer["witness"]["output"] == y
    assert [Fraction(v) for v in answer["witness"]["reals"]] == z
    assert max(abs(Fraction(out.scale) * (p - out.zero_point) - q) for p, q in zip(y, z, strict=True)) > Fraction(1, 16)
    assert answer["against"] == "real numbers"
    assert answer["witness"]["replays"][0]["agreed"] is True


def test_equal_in_outputs(cli, images):
    outcome = cli("compare", *MLP, "--delta", "1", *near(images, 3, 1), "--json")
    answer = json.loads(outcome.out)
    assert (outcome.code, answer["verdict"], answer["witness"]) == (0, "equal", None)
    assert 0 < answer["error"] < 0.01
    assert answer["checked"]["solver_leaves"] == 0


def test_no_time_is_unknown(cli, images):
    outcome = cli("compare", *CNN, "--delta", "1/2", *near(images, 1, 2), "--timeout", "0.5")
    assert (outcome.code, outcome.first) == (5, "unknown")


def test_a_file_that_cannot_be_written_loses_nothing(cli, images, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    outcome = cli("compare", *MLP, "--class", *near(images, 3, 0), "--certificate", folder)
    assert outcome.code == 1
    assert str(folder) in outcome.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((*MLP,), "say how far apart outputs may be (--delta R), or ask"),
        ((*MLP, "--class", "--delta", "1"), "say how far apart outputs may be (--delta R), or ask"),
        ((*MLP[::-1], "--class"), "is a network of floats; name it second"),
        ((MLP[1], "--against", "rational"), "is a network of floats; name it second"),
        ((*MLP, "--class", "--against", "rational"), "leave out --against and --layer"),
        ((*MLP, "--class", "--witness", "x.json"), "x.json: an output file ends in .npy"),
        ((*MLP, "--delta", "-1"), "--delta -1"),
        ((CNN[0], MLP[1], "--class", "--layer", "x"), "leave out --against and --layer"),
    ],
)
def test_what_cannot_be_asked_is_one_line(cli, words, complaint):
    outcome = cli("compare", *words)
    assert (outcome.code, outcome.out) == (1, "")
    assert complaint in outcome.err
    assert outcome.err.count("\n") == 1
