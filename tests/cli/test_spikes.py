"""``bvverify spikes``: verdicts, proofs, witnesses, and what it refuses."""

import json

import numpy as np
import pytest


@pytest.fixture
def model(tmp_path):
    """A network whose first class wins since a neuron reaches the threshold exactly: 64 + 36 = 100."""
    np.save(tmp_path / "20_3_2_2_weights_0.npy", np.array([[64.0, 36.0, 1.0], [0.0, 0.0, 101.0]])[..., None])
    np.save(tmp_path / "20_3_2_2_weights_1.npy", np.array([[101.0, 0.0], [0.0, 101.0]])[..., None])
    np.save(tmp_path / "x.npy", np.array([255, 255, 100], np.uint8))
    return tmp_path / "20_3_2_2"


def test_verdicts_proofs_and_witnesses(cli, model, tmp_path):
    asked = ("spikes", model, "--input", tmp_path / "x.npy", "--threshold", "non-strict")
    proof, witness = tmp_path / "proof.json", tmp_path / "w.npy"
    good = cli(*asked, "--delta", 3, "--certificate", proof, "--json")
    answer = json.loads(good.out)
    assert (good.code, answer["verdict"], answer["label"], answer["output_times"]) == (0, "verified", 0, [2, 13])
    assert answer["semantics"] == "time-to-first-spike:threshold=>=,steps=20,grid=2^-20"
    checked = cli(*asked, "--delta", 3, "--check", proof)
    assert (checked.code, checked.first.partition(":")[0]) == (0, "accepted")
    other = cli(*asked, "--delta", 4, "--check", proof)
    assert other.code == 2
    assert "another network, input or question" in other.err
    bad = cli(*asked, "--delta", 11, "--witness", witness, "--json")
    answer = json.loads(bad.out)
    assert (bad.code, answer["verdict"]) == (10, "falsified")
    assert answer["total_shift"] == sum(abs(a - b) for _, a, b in answer["moved"]) <= 11
    np.save(tmp_path / "y.npy", np.array(answer["witness_values"], np.uint8))
    assert (
        json.loads(cli(*asked[:3], tmp_path / "y.npy", *asked[4:], "--delta", 0, "--json").out)["output_times"]
        == answer["witness_output_times"]
    )
    assert np.load(witness).shape == (3,)
    assert cli(*asked, "--each", 1).first == "verified"
    assert cli(*asked, "--delta", 11).first == "falsified"


def test_the_two_thresholds_are_two_networks(cli, model, tmp_path):
    said = {
        name: json.loads(cli("spikes", model, "--input", tmp_path / "x.npy", "--threshold", name, "--delta", 0, "--json").out)
        for name in ("strict", "non-strict")
    }
    assert said["non-strict"]["output_times"] == [2, 13]
    assert (said["strict"]["label"], said["strict"]["output_times"]) == (0, [13, 13])  # 101 with the third input, in the step of the other
    assert (said["strict"]["verdict"], said["non-strict"]["verdict"]) == ("falsified", "verified")


def test_the_trace_says_where_the_thresholds_part(cli, model, tmp_path):
    asked = ("spikes", model, "--input", tmp_path / "x.npy", "--trace")
    outcome = cli(*asked, "--threshold", "non-strict")
    assert (outcome.code, outcome.first) == (0, "class 0")
    assert "the thresholds part at neuron 0 of layer 1: at step 1 its potential is\n    64 + 36 = 100, the threshold itself" in outcome.out
    assert ">= lets it spike at 1; > waits until 12" in outcome.out
    answer = json.loads(cli(*asked, "--json").out)
    assert answer["times"] == [[0, 0, 11], [12, 12], [13, 13]]
    assert answer["parting"] == {"layer": 1, "neuron": 0, "loose": 1, "strict": 12, "terms": [[0, 64 << 20], [1, 36 << 20]]}
    np.save(tmp_path / "x.npy", np.array([0, 0, 0], np.uint8))
    assert "every neuron spikes at the same step" in cli(*asked).out


def test_a_tampered_proof_is_rejected(cli, model, tmp_path):
    asked = ("spikes", model, "--input", tmp_path / "x.npy", "--delta", 0)
    first = ("--threshold", "non-strict", "--certificate", tmp_path / "p.json")
    cli(*asked, *first)
    saved = json.loads((tmp_path / "p.json").read_text())
    (tmp_path / "p.json").write_text(json.dumps(saved | {"steps": []}))
    outcome = cli(*asked, "--threshold", "non-strict", "--check", tmp_path / "p.json")
    assert (outcome.code, outcome.first) == (6, "rejected: 1 parts are left open")
    for text, words in (("{", "cannot be read"), ("[]", "no proof about spikes"), (json.dumps(saved | {"version": 2}), "version 2")):
        (tmp_path / "p.json").write_text(text)
        outcome = cli(*asked, "--threshold", "non-strict", "--check", tmp_path / "p.json")
        assert outcome.code == 2
        assert words in outcome.err


def test_what_is_refused_is_named(cli, model, tmp_path):
    image = tmp_path / "x.npy"
    np.save(tmp_path / "long.npy", np.zeros(4))
    np.save(tmp_path / "half.npy", np.full(3, 0.5))
    for words, arguments in (
        ("give --delta", (model, "--input", image)),
        ("there is no nothing_weights_0.npy", (tmp_path / "nothing", "--input", image, "--delta", 1)),
        ("4 values, but 20_3_2_2 takes 3", (model, "--input", tmp_path / "long.npy", "--delta", 1)),
        ("in integers", (model, "--input", tmp_path / "half.npy", "--delta", 1)),
        ("has 2 classes", (model, "--input", image, "--delta", 1, "--label", 2)),
        ("none at which a neuron can spike", (model, "--input", image, "--delta", 1, "--steps", 2)),
    ):
        outcome = cli("spikes", *arguments)
        assert outcome.code in {1, 2}
        assert words in outcome.err
        assert len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.array([["a", "b"]]), "not numbers"),
        (np.array([[np.nan, 1.0]]), "NaN or infinite"),
        (np.array([1.0, 2.0]), "finite weights"),
        (np.full((2, 3), 1e300), "coarser --grid"),
        (np.ones((2, 5)), "5 inputs, but the layer before has 2"),
    ],
)
def test_files_that_hold_no_layer(cli, model, tmp_path, content, words):
    np.save(tmp_path / "20_3_2_2_weights_1.npy", content)
    outcome = cli("spikes", model, "--input", tmp_path / "x.npy", "--delta", 1)
    assert outcome.code == 2
    assert words in outcome.err


def test_files_that_are_no_arrays(cli, model, tmp_path):
    file = tmp_path / "20_3_2_2_weights_0.npy"
    whole = file.read_bytes()
    for content in (b"", b"x", whole[:40], whole[:-1], b"\x93NUMPY\x01\x00\x10\x00{(((((((((((((("):
        file.write_bytes(content)
        outcome = cli("spikes", file, "--input", tmp_path / "x.npy", "--delta", 1)
        assert outcome.code == 2, content
        assert str(file) in outcome.err
    file.write_bytes(whole)
    file.rename(tmp_path / "net_weights_0.npy")
    outcome = cli("spikes", tmp_path / "net_weights_0.npy", "--input", tmp_path / "x.npy", "--delta", 1)
    assert "give --steps" in outcome.err
