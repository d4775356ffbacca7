"""``bvverify bitflip``: what it prints, lists and refuses."""

import csv
import json

import numpy as np
import pytest

from bvverify import examples
from bvverify.bitflip import kernel, proof_file, single
from bvverify.bitflip.ask import Question
from bvverify.cli import bitflip_box, bitflip_report
from bvverify.cli.question import read_input
from bvverify.errors import UnsupportedError
from bvverify.load.load import load
from bvverify.model.box import around


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
    outcome = cli("bitflip", cnn, "--input", image, "--bits", "2", "--stored", "weights")
    assert (outcome.code, outcome.first) == (10, "falsified")
    assert "stays 3 with up to 2 flipped bits in any one stored parameter" in outcome.out
    assert "vulnerable weights of layer2_node" in outcome.out
    assert "bias" not in outcome.out
    assert outcome.err == ""


def test_no_flip_of_a_layer_changes_the_class(cli, mlp, image):
    outcome = cli("bitflip", mlp, "--input", image, "--layer", "layer0_node", "--stored", "weights", "--json")
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
    outcome = cli("bitflip", mlp, "--input", image, "--layer", "layer1_node", "--stored", "biases")
    assert outcome.code == 6


def _blind(network, x, part, bits):
    chosen = single.masks(part.bits, bits)
    return single.Flips(part, chosen, np.full((len(chosen), *part.values.shape), single.SAME, np.int16))


def box_words(image, *more):
    return ["--input", image, "--radius", "1", "--layer", "layer0_node", "--stored", "weights", *more]


class TestBox:
    """All inputs within a radius, several parameters, proofs."""

    def test_a_proof_is_saved_and_checked_again(self, cli, mlp, tmp_path):
        image, file = f"{examples.path(examples.IMAGES)}::1", tmp_path / "p.bvflips"
        outcome = cli("bitflip", mlp, *box_words(image, "--certificate", file))
        assert (outcome.code, outcome.first) == (0, "verified")
        assert "stays 0 within radius 1 with one flipped bit in any one stored parameter" in outcome.out
        assert "32 choices of units in 32 parts" in outcome.out
        outcome = cli("bitflip", mlp, *box_words(image, "--check", file))
        assert (outcome.code, outcome.first.partition(":")[0]) == (0, "accepted")
        answer = json.loads(cli("bitflip", mlp, *box_words(image, "--check", file, "--json")).out)
        assert (answer["accepted"], answer["proof"]["choices"], answer["semantics"]) == (True, 32, "onnxruntime")
        for other in (["--bits", "2"], ["--parameters", "2"]):
            outcome = cli("bitflip", mlp, *box_words(image, "--check", file, *other))
            assert (outcome.code, outcome.out) == (2, "")
            assert "is about another network, input or question" in outcome.err

    def test_a_proof_that_does_not_hold_is_rejected(self, cli, mlp, tmp_path):
        image, file = f"{examples.path(examples.IMAGES)}::1", tmp_path / "p.bvflips"
        cli("bitflip", mlp, *box_words(image, "--certificate", file))
        network = load(mlp)
        x = read_input(network, image).x
        asked = Question(network, around(x, 1, network.input.tensor.qtype), 0, ("weight",), ("layer0_node",))
        steps, certificates = proof_file.read(file, asked)
        file.write_bytes(proof_file.to_bytes(asked, steps[:-1], certificates))
        outcome = cli("bitflip", mlp, *box_words(image, "--check", file))
        assert (outcome.code, outcome.first) == (6, "rejected: 1 parts of the proof are missing")
        answer = json.loads(cli("bitflip", mlp, *box_words(image, "--check", file, "--json")).out)
        assert (answer["accepted"], answer["reason"]) == (False, "1 parts of the proof are missing")

    def test_flips_and_an_input_are_found_written_and_replayed(self, cli, mlp, tmp_path):
        image = f"{examples.path(examples.IMAGES)}::10"
        model, witness = tmp_path / "flipped.onnx", tmp_path / "x.npy"
        outcome = cli("bitflip", mlp, *box_words(image, "--parameters", "2", "--write", model, "--witness", witness, "--json"))
        answer = json.loads(outcome.out)
        assert (outcome.code, answer["verdict"], answer["label"], answer["hit"]) == (10, "falsified", 5, 2)
        assert len(answer["flips"]) == 2
        assert answer["replayed_by"][0] == "the interpreter"
        assert len(answer["replayed_by"]) == 2
        x = np.load(witness)
        assert x.tolist() == answer["input_values"]
        assert single.predicted(load(model), x) == answer["class"] != 5
        text = cli("bitflip", mlp, *box_words(image, "--parameters", "2")).out
        assert "with one flipped bit in each of up to 2 stored parameters" in text
        for flip in answer["flips"]:
            where = f"{flip['layer']} {flip['kind']}[{','.join(map(str, flip['index']))}]"
            assert f"  flip       {where}, bit {flip['bits'][0]}: {flip['stored']} becomes {flip['flipped']}\n" in text

    def test_no_flip_is_needed(self, cli, mlp):
        outcome = cli("bitflip", mlp, *box_words(f"{examples.path(examples.IMAGES)}::6"))
        assert (outcome.code, outcome.first) == (10, "falsified")
        assert "none is needed: the network as it is violates the property in the box" in outcome.out
        assert "  input      moved at " in outcome.out

    def test_no_time_is_unknown(self, cli, mlp):
        outcome = cli("bitflip", mlp, *box_words(f"{examples.path(examples.IMAGES)}::1", "--timeout", "0.01"))
        assert (outcome.code, outcome.first) == (5, "unknown")
        assert "the time limit ran out" in outcome.out

    def test_one_input_can_be_proved_as_well(self, cli, mlp, tmp_path):
        words = ["--input", f"{examples.path(examples.IMAGES)}::1", "--layer", "layer0_node", "--stored", "weights"]
        outcome = cli("bitflip", mlp, *words, "--certificate", tmp_path / "p.bvflips", "--json")
        answer = json.loads(outcome.out)
        assert (outcome.code, answer["radius"], answer["verdict"]) == (0, 0, "verified")
        assert cli("bitflip", mlp, *words, "--check", tmp_path / "p.bvflips").code == 0

    def test_a_witness_that_cannot_be_written_loses_nothing(self, cli, mlp, tmp_path, monkeypatch):
        monkeypatch.setattr(bitflip_box.np, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        outcome = cli("bitflip", mlp, *box_words(f"{examples.path(examples.IMAGES)}::6", "--witness", tmp_path / "x.npy"))
        assert (outcome.code, outcome.first) == (1, "falsified")
        assert "No space left on device" in outcome.err

    def test_a_rejected_proof_of_our_own_is_loud(self, cli, mlp, monkeypatch):
        def refuse(*_):
            raise kernel.Rejected("step 0: no")

        monkeypatch.setattr(proof_file, "checked", refuse)
        outcome = cli("bitflip", mlp, *box_words(f"{examples.path(examples.IMAGES)}::1"))
        assert (outcome.code, outcome.out) == (6, "")
        assert "rejects our own proof: step 0: no; please report this" in outcome.err

    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            (["--parameters", "0"], "--parameters 0: at least one"),
            (["--radius", "300"], "--radius 300: "),
            (["--radius", "1", "--list", "flips.csv"], "--list: is for one input"),
            (["--radius", "1", "--certificate", "p.txt"], "p.txt: an output file ends in .bvflips"),
            (["--radius", "1", "--check", "nowhere.bvflips"], "nowhere.bvflips: cannot be read"),
        ],
    )
    def test_what_cannot_be_asked_is_one_line(self, cli, mlp, image, words, complaint):
        outcome = cli("bitflip", mlp, "--input", image, *words)
        assert (outcome.code in (1, 2), outcome.out) == (True, "")
        assert complaint in outcome.err
        assert outcome.err.count("\n") == 1
