"""compare MODEL MODEL_B on the bundled networks: 8 against 6 bits, both outcomes, certified and replayed."""

import json

import numpy as np
import pytest

from bvverify import examples
from bvverify.load.load import load
from bvverify.run import interpreter

NARROW = {"mlp": "digits_mlp_6bit.onnx", "cnn": "digits_cnn_6bit.onnx"}
EQUAL = {"mlp": ("3", "1"), "cnn": ("5", "1")}
DIFFERS = {"mlp": ("3", "2"), "cnn": ("0", "2")}
"""Image and radius."""


@pytest.fixture(params=["mlp", "cnn"])
def pair(request):
    return request.param, examples.path(f"digits_{request.param}_qop.onnx"), examples.path(NARROW[request.param])


def _near(images, place):
    return "--input", f"{images}::{place[0]}", "--radius", place[1]


def test_equal_with_a_certificate(cli, pair, images, tmp_path):
    name, wide, narrow = pair
    file = tmp_path / "equal.cert"
    outcome = cli("compare", wide, narrow, "--class", *_near(images, EQUAL[name]), "--certificate", file)
    assert (outcome.code, outcome.first, outcome.err) == (0, "equal", "")
    checked = cli("check", file)
    assert (checked.code, checked.first) == (0, "accepted")
    assert f"{wide.name}, sha256" in checked.out
    assert f"against {narrow.name}, sha256" in checked.out
    # About another second model the certificate says nothing.
    assert cli("check", file, "--against-model", wide).code == 2


def test_differs_with_an_input_that_both_runtimes_replay(cli, pair, images, tmp_path):
    name, wide, narrow = pair
    file = tmp_path / "differs.json"
    outcome = cli("compare", wide, narrow, "--class", *_near(images, DIFFERS[name]), "--witness", file, "--json")
    answer = json.loads(outcome.out)
    assert (outcome.code, answer["verdict"], outcome.err) == (10, "differs", "")
    given = answer["witness"]["file_input"]
    x = np.array(given["data"], np.float32).reshape(given["shape"])
    for which, model in (("a", wide), ("b", narrow)):
        network = load(model)
        y = interpreter.run(network, interpreter.quantise_input(network, x)).ravel()
        told = answer["witness"][which]
        assert (told["output"], told["class"]) == (y.tolist(), int(y.argmax()))
        assert [r["agreed"] for r in told["replays"]] == [True]
    assert answer["witness"]["a"]["class"] != answer["witness"]["b"]["class"]
    assert answer["against_model"]["sha256"] == load(narrow).provenance.sha256
    replayed = cli("replay", file)
    assert (replayed.code, replayed.first) == (10, "differs")


def test_outputs_may_be_some_way_apart(cli, mlp, images):
    asked = ("compare", mlp, examples.path(NARROW["mlp"]), "--input", f"{images}::3", "--radius", "0")
    exact, near, far = (cli(*asked, *more) for more in ((), ("--delta", "1/2"), ("--delta", "100")))
    assert [o.first for o in (exact, near, far)] == ["differs", "differs", "equal"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("MLP", "MLP"), "is the same file as"),
        (("MLP", "NARROW", "NARROW"), "at most one second model"),
        (("MLP", "NARROW", "--class", "--delta", "1"), "--delta is about outputs"),
        (("MLP", "NARROW", "--layer", "x"), "leave out the second model"),
        (("MLP", "NARROW", "--delta", "wide"), "--delta"),
        (("MLP",), "name what to compare with"),
    ],
)
def test_what_cannot_be_asked_is_one_line(cli, mlp, arguments, complaint):
    names = {"MLP": str(mlp), "NARROW": str(examples.path(NARROW["mlp"]))}
    outcome = cli("compare", *(names.get(a, a) for a in arguments))
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.count("\n") == 1
    assert complaint in outcome.err
