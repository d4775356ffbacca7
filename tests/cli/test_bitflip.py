"""``bvverify bitflip``: what it prints, lists and refuses."""

import csv
import json

import numpy as np
import pytest

from bvverify import examples
from bvverify.bitflip import single
from bvverify.cli import bitflip_report
from bvverify.cli.question import read_input
from bvverify.errors import UnsupportedError
from bvverify.load.load import load


@pytest.fixture(scope="module")
def image():
    return f"{examples.path(examples.IMAGES)}::7"


def test_every_flip_is_listed_and_the_worst_are_named(cli, mlp, image, tmp_path):
    outcome = cli("bitflip", mlp, "--input", image, "--list", tmp_path / "flips.csv", "--json")
    answer = json.loads(outcome.out)
    assert (outcome.code, answer["verdict"], answer["label"], answer["semantics"]) == (10, "falsified", 3, "onnxruntime")
    rows = list(csv.DictReader((tmp_path / "flips.csv").read_text().splitlines()))
    assert len(rows) == answer["changing"] == sum(layer["changing"] for layer in answer["by_layer"]) > 100
    assert len({(r["layer"], r["kind"], r["index"]) for r in rows}) == answer["vulnerable"]
    assert answer["flips"] == sum(layer["parameters"] * layer["bits"] for layer in answer["by_layer"])
    for row in rows:
        bits = 8 if row["kind"] == "weight" else 32
        change = (int(row["stored"]) ^ int(row["flipped"])) & ((1 << bits) - 1)
        assert change == sum(1 << int(b) for b in row["bits"].split())
        assert int(row["class"]) != 3
    counts = [w["flips"] for w in answer["worst"]]
    assert counts == sorted(counts, reverse=True)
    for worst in answer["worst"]:
        place = worst["layer"], worst["kind"], " ".join(map(str, worst["index"]))
        same = [r for r in rows if (r["layer"], r["kind"], r["index"]) == place]
        assert len(same) == worst["flips"]
    for layer in answer["by_layer"]:
        mine = [r["bits"] for r in rows if (r["layer"], r["kind"]) == (layer["layer"], layer["kind"])]
        assert layer["by_bit"] == [mine.count(str(b)) for b in range(layer["bits"])]


def test_the_lines_and_the_picture(cli, cnn, image):
    outcome = cli("bitflip", cnn, "--input", image, "--bits", "2", "--parameters", "weights")
    assert (outcome.code, outcome.first) == (10, "falsified")
    assert "stays 3 with up to 2 flipped bits in any one stored parameter" in outcome.out
    assert "vulnerable weights of layer2_node" in outcome.out
    assert "bias" not in outcome.out
    assert outcome.err == ""


def test_no_flip_of_a_layer_changes_the_class(cli, mlp, image):
    outcome = cli("bitflip", mlp, "--input", image, "--layer", "layer0_node", "--parameters", "weights", "--json")
    answer = json.loads(outcome.out)
    assert (outcome.code, answer["verdict"], answer["changing"], answer["worst"]) == (0, "verified", 0, [])
    assert [layer["layer"] for layer in answer["by_layer"]] == ["layer0_node"]


@pytest.mark.parametrize("name", ["digits_mlp_qop.onnx", "digits_cnn_qdq.onnx", examples.TFLITE])
def test_the_worst_flip_is_written_and_run_by_the_runtime_of_its_format(cli, image, tmp_path, name):
    file = tmp_path / f"flipped{examples.path(name).suffix}"
    outcome = cli("bitflip", examples.path(name), "--input", image, "--write", file)
    assert outcome.code == 10
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("  written ")]
    assert "replayed by the interpreter, " in line
    answer = json.loads(cli("bitflip", examples.path(name), "--input", image, "--write", file, "--json").out)
    assert len(answer["replayed_by"]) == 2
    x = read_input(load(file), image).x
    assert single.predicted(load(file), x) == answer["worst"][0]["class"] != answer["label"]


def test_a_flip_that_cannot_be_written_loses_nothing(cli, mlp, image, tmp_path, monkeypatch):
    def refuse(*_):
        raise UnsupportedError("it cannot be written")

    monkeypatch.setattr(bitflip_report, "written", refuse)
    outcome = cli("bitflip", mlp, "--input", image, "--write", tmp_path / "f.onnx")
    assert (outcome.code, outcome.first) == (2, "falsified")
    assert "it cannot be written" in outcome.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--bits", "0"], "--bits 0: 1 to 3 bits"),
        (["--bits", "4"], "--bits 4: 1 to 3 bits"),
        (["--layer", "nowhere"], "--layer nowhere: "),
        (["--list", "flips.txt"], "flips.txt"),
    ],
)
def test_what_cannot_be_asked_is_one_line(cli, mlp, image, words, complaint):
    outcome = cli("bitflip", mlp, "--input", image, *words)
    assert (outcome.code, outcome.out) == (1, "")
    assert complaint in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_flip_that_the_whole_network_does_not_confirm_is_loud(cli, mlp, image, monkeypatch):
    find = single.find

    def wrong(*arguments):
        found = find(*arguments)
        changed = np.where(found.outcome >= 0, (found.outcome + 1) % 10, found.outcome).astype(np.int16)
        return single.Flips(found.part, found.masks, changed)

    monkeypatch.setattr(single, "find", wrong)
    outcome = cli("bitflip", mlp, "--input", image)
    assert outcome.code == 6
    assert "please report this" in outcome.err


def test_a_missed_flip_is_loud(cli, mlp, image, monkeypatch):
    """The sample holds flips that were found to change nothing."""
    network = load(examples.path("digits_mlp_qop.onnx"))
    assert network.semantics == "onnxruntime"
    monkeypatch.setattr(single, "find", lambda net, x, part, bits, report: _blind(net, x, part, bits))
    outcome = cli("bitflip", mlp, "--input", image, "--layer", "layer1_node", "--parameters", "biases")
    assert outcome.code == 6


def _blind(network, x, part, bits):
    chosen = single.masks(part.bits, bits)
    return single.Flips(part, chosen, np.full((len(chosen), *part.values.shape), single.SAME, np.int16))
