"""LiteRT's kernel modes on the bundled network: both answers occur, and LiteRT itself confirms each side of a difference."""

import json

import numpy as np
import pytest

from bvverify import examples
from bvverify.load.load import load
from bvverify.run import interpreter, oracle_litert

MODEL, IMAGES = examples.path(examples.TFLITE), examples.path(examples.IMAGES)
MODES = ("tflite-reference", "tflite-optimised", "tflite-xnnpack")


@pytest.mark.parametrize("semantics", MODES)
def test_the_bundled_network_runs_as_litert_runs_it(semantics):
    network = load(MODEL, semantics)
    images = np.load(IMAGES)["images"].reshape(-1, 8, 8, 1)
    given = np.concatenate([images, np.random.default_rng(0).random((200, 8, 8, 1), np.float32)])
    got = interpreter.declared_output(network, interpreter.run(network, interpreter.quantise_input(network, given)))
    assert np.array_equal(got, np.concatenate([oracle_litert.ask(network, x[None]) for x in given]))


@pytest.mark.parametrize(
    ("arguments", "verdict", "code"),
    [
        (("--class",), "differs", 10),
        (("--class", "--input", f"{IMAGES}::7", "--radius", 1), "equal", 0),
        (("--input", f"{IMAGES}::7", "--radius", 1), "differs", 10),
    ],
)
def test_reference_and_optimised_kernels(cli, arguments, verdict, code):
    outcome = cli("compare", MODEL, "--semantics", "tflite-reference", "--against", "tflite-optimised", *arguments, "--json")
    answer = json.loads(outcome.out)
    assert (outcome.code, answer["verdict"], answer["quantised_apart"]) == (code, verdict, True)
    if verdict == "differs":
        sides = answer["witness"]["a"], answer["witness"]["b"]
        assert sides[0] != sides[1]
        assert all(replay["agreed"] for side in sides for replay in side["replays"])
        assert all(side["replays"] for side in sides)
