"""explain: what it says of fresh results and of batch lines is so; a file that is none is refused in one line."""

import json

import numpy as np
import pytest

from bvverify import examples
from bvverify.cli import batch_row
from bvverify.cli.question import read_input
from bvverify.explain.answer import _tree as tree_of
from bvverify.load import certificate_file
from bvverify.load.instances import read_instances
from bvverify.load.load import load
from bvverify.pipeline import Options
from bvverify.run import interpreter


def _saved(cli, folder, *arguments):
    outcome = cli(*arguments, "--json")
    (folder / "result.json").write_text(outcome.out)
    return folder / "result.json", json.loads(outcome.out)


@pytest.fixture
def verified(cli, mlp, images, tmp_path):
    """A result that linear bounds decide, and its certificate's file."""
    proof = tmp_path / "proof.bvcert"
    near = ("--input", f"{images}::5", "--radius", "3")
    return (*_saved(cli, tmp_path, "robust", mlp, *near, "--certificate", proof), proof)


def test_verified(cli, verified):
    path, result, _ = verified
    facts = json.loads(cli("explain", path, "--json").out)
    assert (facts["verdict"], facts["stage"], facts["checked"]) == ("verified", "linear", result["checked"])
    margins = [m["least_margin"] for m in facts["facts"]["margins"] if m["least_margin"] is not None]
    assert len(margins) == 9
    assert min(margins) >= 0  # linear bounds alone decided
    for layer in facts["facts"]["layers"]:
        assert layer["neurons"] == layer["constant"] + layer["linear"] + layer["undecided"]
        assert layer["saturated"] <= layer["constant"]
    tree = facts["facts"]["tree"]
    assert (tree["trees"], tree["splits"], tree["deepest"]) == (9, 0, 0)
    assert tree["leaves"] == {"bound": result["checked"]["bound_leaves"], "interval": result["checked"]["interval_leaves"]}
    assert "20 claims about accumulators" in cli("explain", path).out


def test_without_a_certificate_and_without_a_check(cli, mlp, images, tmp_path):
    path, _ = _saved(cli, tmp_path, "robust", mlp, "--input", f"{images}::5", "--radius", "3", "--no-check")
    assert "Checked: nothing." in cli("explain", path).out


def test_the_counts_hold_on_samples(cli, verified, mlp, images):
    """A constant neuron is constant, and margins are at least what is guaranteed, on inputs of the box."""
    facts = json.loads(cli("explain", verified[0], "--json").out)["facts"]
    network, rng = load(mlp), np.random.default_rng(0)
    clean = read_input(network, f"{images}::5").x
    near = np.clip(clean + rng.integers(-3, 4, (200, *clean.shape)), 0, 255)
    tensors = interpreter.trace(network, near)
    for layer in facts["layers"]:
        values = tensors[layer["layer"]].reshape(200, -1)
        assert int((values.min(0) == values.max(0)).sum()) >= layer["constant"]
    y = tensors[network.output.tensor].reshape(200, -1)
    for m in facts["margins"]:
        assert m["least"] <= y[:, m["output"]].min()
        assert y[:, m["output"]].max() <= m["largest"]
        if m["least_margin"] is not None:
            assert (y[:, facts["label"]] - y[:, m["output"]]).min() >= m["least_margin"]


def test_falsified_by_a_label_and_batch_lines(cli, mlp, images, tmp_path):
    (tmp_path / "list.csv").write_text(f"model,input,label,radius\n{mlp},{images}::5,,3\n{mlp},{images}::5,9,1\n")
    answers = tmp_path / "answers.jsonl"
    # In this process; the pool of processes has tests of its own.
    lines = [batch_row.decide(batch_row.Task(row, Options(), None)) for row in read_instances(tmp_path / "list.csv")]
    answers.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "2 results; pick one with ::LINE" in cli("explain", answers).err
    at = {line["verdict"]: number for number, line in enumerate(lines)}
    outcome = cli("explain", f"{answers}::{at['verified']}")
    assert (outcome.code, outcome.first.partition(":")[0]) == (0, "verified")
    outcome = cli("explain", f"{answers}::{at['misclassified']}")
    assert outcome.code == 2
    assert "the verdict is 'misclassified' (the clean input's class is 2)" in outcome.err
    path, _ = _saved(cli, tmp_path, "robust", mlp, "--input", f"{images}::5", "--radius", "1", "--label", "9")
    outcome = cli("explain", path)
    assert outcome.first == "falsified: the class stays 9 (first index of the largest output)"
    assert "It is the clean input itself; its class is 2." in outcome.out
    assert "nothing had to be searched for" in outcome.out


def test_unknown_says_what_is_open(cli, cnn, images, tmp_path):
    path, result = _saved(cli, tmp_path, "robust", cnn, "--input", f"{images}::5", "--radius", "2", "--timeout", "0.001")
    assert (result["verdict"], result["open"]["ran_out"], result["open"]["total"]) == ("unknown", "time", 9)
    text = cli("explain", path).out
    assert "The time limit ran out with 9 of 9 ways to violate the property not excluded." in text
    assert "A longer --timeout." in text
    path.write_text(json.dumps(result | {"command": "attack"}))
    assert "attack proves nothing" in cli("explain", path).out


def test_a_property_file(cli, mlp, tmp_path):
    path, result = _saved(cli, tmp_path, "verify", mlp, examples.path(examples.PROPERTY))
    outcome = cli("explain", path)
    assert (outcome.code, outcome.first.split(":")[0]) == (0, result["verdict"])


def test_the_shape_of_a_tree(verified):
    """Two trees in preorder: a leaf, and ((leaf leaf) leaf)."""
    from dataclasses import replace

    made = certificate_file.read(verified[2])
    kinds, split = np.array([1, 0, 0, 2, 1, 3]), np.array([1, -1])
    forest = replace(made.forest, kind=kinds, split_op=split, split_unit=split, split_value=split)
    tree = tree_of([replace(made, forest=forest)])
    assert (tree.splits, tree.deepest, tree.split_layers) == (2, 2, ((0, 1), (2, 1)))
    assert dict(tree.leaves) == {"interval": 2, "bound": 1, "solver": 1}


def _without(*keys):
    def change(data):
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return change


def _set(key, value):
    return lambda data: data.__setitem__(key, value)


def _falsified(x):
    return lambda data: data.update(verdict="falsified", witness={"input": x, "replays": []})


WRONG = {
    "no verdict": (_without("verdict"), "verdict is missing"),
    "no model": (_without("asked", "model"), "asked.model is missing"),
    "no stages": (_without("stages"), "stages is missing"),
    "another kind": (_set("nodes", "many"), "nodes is 'many'"),
    "a number for a list": (_set("stages", 3), "stages is '3'"),
    "another command": (_set("command", "run"), "is what run printed"),
    "another model": (lambda d: d["model"].update(sha256="0" * 64), "about another model"),
    "a model that is gone": (lambda d: d["asked"].update(model="gone.onnx"), "gone.onnx: cannot be read"),
    "a verdict of none": (_set("verdict", "error"), "nothing to explain"),
    "no certificate there": (_set("certificate", ["gone.bvcert"]), "gone.bvcert"),
    "a witness of another size": (_falsified([1, 2]), "no input of the model"),
    "a witness that is none": (_falsified([0] * 64), "does not violate the property"),
    "a witness without a violation": (_set("witness", {"input": [0] * 64, "replays": []}), "holds a witness"),
    "no witness": (_set("verdict", "falsified"), "holds no witness"),
    "a certificate of another question": (lambda d: d["asked"].update(radius=2), "it is about another box of inputs"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_results(cli, verified, name):
    path, result, _ = verified
    change, words = WRONG[name]
    change(result)
    path.write_text(json.dumps(result))
    outcome = cli("explain", path)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert words in outcome.err


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"{}", b"[" * 100_000, b"\xff\xfe"])
def test_files_that_are_no_results(cli, tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    outcome = cli("explain", path)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert "x.json: " in outcome.err


def test_wrong_calls(cli, verified, tmp_path):
    assert cli("explain", tmp_path / "none.json").code == 2
    assert cli("explain", f"{verified[0]}::7").code == 1
    assert cli("explain", f"{verified[0]}::x").code == 1
