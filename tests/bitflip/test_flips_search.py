"""Verdicts about flipped bits against trying every flip at every input."""

import numpy as np
import pytest
from tiny_flips import KINDS, decided, holds, question

from bvverify import examples
from bvverify.bitflip import search, single
from bvverify.bitflip.ask import Flip, Question
from bvverify.cli.question import read_input
from bvverify.errors import InternalError
from bvverify.load.load import load
from bvverify.model.box import around


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("blind", [False, True], ids=["attack", "no attack"])
def test_one_parameter_equals_brute_force(kinds, blind, monkeypatch):
    if blind:
        monkeypatch.setattr(search, "greedy", lambda *_: None)
    rng, verdicts = np.random.default_rng(len(str(kinds)) + blind), []
    for _ in range(4):
        asked, x = question(rng, kinds, most=5_000)
        verdicts.append(decided(asked, x, holds(asked)).verdict)
    assert "falsified" in verdicts


@pytest.mark.parametrize("kinds", [("dense",), ("conv",), ("concat", "dense"), ("dense", "dense")])
@pytest.mark.parametrize("blind", [False, True], ids=["attack", "no attack"])
def test_two_parameters_equal_brute_force(kinds, blind, monkeypatch):
    if blind:
        monkeypatch.setattr(search, "greedy", lambda *_: None)
    rng = np.random.default_rng(len(str(kinds)))
    for _ in range(2):
        asked, x = question(rng, kinds, parameters=2, most=3_000, moving=2)
        decided(asked, x, holds(asked))


@pytest.fixture(scope="module")
def network():
    return load(examples.path("digits_mlp_qop.onnx"))


class TestDigits:
    """The bundled network, where bounds close whole units at once."""

    def asked(self, network, image, **more):
        x = read_input(network, f"{examples.path(examples.IMAGES)}::{image}").x
        label = single.predicted(network, x)
        layer = (network.ops[0].name if hasattr(network.ops[0], "weight") else network.ops[1].name,)
        return Question(network, around(x, 1, network.input.tensor.qtype), label, ("weight",), layer, **more), x

    def test_a_proof_of_one_part_a_unit(self, network):
        asked, x = self.asked(network, 1)
        found = decided(asked, x, True)
        assert [step[0] for step in found.steps] == ["leaf"] * 32

    def test_two_parameters_are_found(self, network):
        asked, x = self.asked(network, 10, parameters=2)
        found = decided(asked, x, False)
        assert len(found.flips) == 2

    def test_no_time_is_unknown(self, network):
        asked, x = self.asked(network, 1)
        found = search.search(asked, x, 0.3)
        assert found.verdict == "unknown"
        assert "time limit" in found.reason
        assert found.open_nodes > 0 or found.stage == "the network as it is"

    def test_flips_that_do_not_replay_are_loud(self, network, monkeypatch):
        asked, x = self.asked(network, 1)
        monkeypatch.setattr(search, "greedy", lambda *_: (x, (Flip(0, (0, 0), 1),)))
        with pytest.raises(InternalError, match="do not replay"):
            search.search(asked, x, 30)
