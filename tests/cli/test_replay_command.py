"""replay believes nothing that a file says."""

import json
import shutil

import pytest

from bvverify import examples
from bvverify.cli import main


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("witness") / "w.json"
    model, images = examples.path("digits_mlp_qop.onnx"), examples.path(examples.IMAGES)
    assert main(["robust", str(model), "--input", f"{images}::7", "--radius", "3", "--witness", str(path)]) == 10
    return path


def test_a_witness_replays(cli, saved):
    outcome = cli("replay", saved)
    assert (outcome.code, outcome.first, outcome.err) == (10, "falsified", "")
    assert "interpreter agrees" in outcome.out
    assert "onnxruntime" in outcome.out.partition("replayed")[2]


def test_what_json_prints_replays_and_prints_as_json(cli, mlp, images, saved, tmp_path):
    printed = tmp_path / "result.json"
    printed.write_text(cli("robust", mlp, "--input", f"{images}::7", "--radius", 3, "--json").out)
    report = json.loads(cli("replay", printed, "--json").out)
    assert report["verdict"] == "falsified"
    assert report["witness"]["input"] == json.loads(saved.read_text())["witness"]["input"]


def test_a_model_that_has_moved_is_named(cli, mlp, saved, tmp_path):
    moved = tmp_path / "moved.onnx"
    shutil.copy(mlp, moved)
    assert cli("replay", saved, moved).code == 10


def _edit(saved, tmp_path, change):
    data = json.loads(saved.read_text())
    change(data)
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(data))
    return path


def _outside(data):
    data["witness"]["input"][5] = data["witness"]["box"]["hi"][5] + 1


def _clean(data):
    data["witness"]["input"] = data["witness"]["nominal"]


def _other_outputs(data):
    data["witness"]["output"][0] += 1


def _other_model(data):
    data["model"]["sha256"] = "0" * 64


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_outside, "leaves the box at element 5"),
        (_clean, "do not violate the property"),
        (_other_outputs, "recorded outputs are not"),
        (_other_model, "another model"),
        (lambda d: d["witness"]["input"].pop(), "has 63 values"),
        (lambda d: d["witness"]["input"].__setitem__(0, 1.5), "no integer"),
        (lambda d: d["witness"]["input"].__setitem__(0, True), "no integer"),
        (lambda d: d["witness"]["input"].__setitem__(0, 10**30), "no integer below"),
        (lambda d: d["witness"].pop("box"), "witness.box is missing"),
        (lambda d: d["witness"]["box"]["lo"].__setitem__(0, 300), "empty or leaves"),
        (lambda d: d["witness"].__setitem__("violation", [[{"outputs": [1] * 10}]]), "witness.violation.bound"),
        (lambda d: d["witness"].__setitem__("violation", 3), "witness.violation is missing"),
        (lambda d: d["property"].__setitem__("text", None), "property.text"),
        (lambda d: d.__setitem__("witness", None), "holds no witness"),
        (lambda d: d.__setitem__("schema_version", 99), "schema_version is 99"),
        (lambda d: d.__setitem__("semantics", "no-such-machine"), "no-such-machine"),
        (lambda d: d["model"].__setitem__("path", "/nowhere/model.onnx"), "model.onnx"),
    ],
)
def test_a_file_that_lies_is_found_out(cli, saved, tmp_path, change, words):
    outcome = cli("replay", _edit(saved, tmp_path, change))
    assert outcome.code in (1, 2)
    assert outcome.out == ""
    assert words in outcome.err
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize("content", [b"no JSON", b"", b"[1, 2]", b"\xff\xfe", b"[" * 100000, b'{"schema_version": NaN}'])
def test_a_file_that_is_no_witness_is_refused(cli, tmp_path, content):
    path = tmp_path / "w.json"
    path.write_bytes(content)
    outcome = cli("replay", path)
    assert outcome.code == 2
    assert outcome.err.startswith(f"bvverify: error: {path}: ")
    assert len(outcome.err.splitlines()) == 1


def test_another_model_is_refused(cli, cnn, saved):
    outcome = cli("replay", saved, cnn)
    assert outcome.code == 2
    assert "another model" in outcome.err


def test_a_missing_file_is_named(cli, tmp_path):
    outcome = cli("replay", tmp_path / "none.json")
    assert outcome.code == 2
    assert "none.json" in outcome.err


@pytest.fixture(scope="module")
def parted(tmp_path_factory):
    path = tmp_path_factory.mktemp("compare") / "w.json"
    modes = ["--semantics", "tflite-reference", "--against", "tflite-optimised", "--class", "--witness", str(path)]
    assert main(["compare", str(examples.path(examples.TFLITE)), *modes]) == 10
    return path


def test_a_comparison_replays_under_both_readings(cli, parted):
    outcome = cli("replay", parted)
    assert (outcome.code, outcome.first) == (10, "differs")
    for mode in ("A", "B"):
        assert "agrees" in outcome.out.partition(f"replayed {mode}")[2].partition("\n")[0]
    answer, recorded = json.loads(cli("replay", parted, "--json").out), json.loads(parted.read_text())
    assert answer["witness"] == recorded["witness"]
    assert answer["parting"] == recorded["parting"]
    assert [r["runtime"] for s in "ab" for r in answer["witness"][s]["replays"]] == ["litert (reference)", "litert (optimised)"]


def test_what_compare_prints_replays(cli, cnn, images, tmp_path):
    printed = tmp_path / "answer.json"
    printed.write_text(cli("compare", cnn, "--against", "rational", "--input", f"{images}::5", "--radius", 1, "--json").out)
    outcome = cli("replay", printed)
    assert (outcome.code, outcome.first) == (10, "differs")
    assert "below the tie 161.5: becomes 162" in outcome.out
    printed.write_text(cli("compare", cnn, "--against", "rational", "--layer", "layer1_node", "--json").out)
    assert "what one layer reads" in cli("replay", printed).err


def _leave(data):
    data["witness"]["box"]["hi"][3] = data["witness"]["input"][3] - 1
    data["witness"]["box"]["lo"][3] = data["witness"]["input"][3] - 1


def _same(data):
    data["witness"]["input"] = data["witness"]["box"]["lo"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_leave, "leaves the box at element 3"),
        (_same, "computes the same class under tflite-reference and tflite-optimised"),
        (lambda d: d["witness"]["b"]["output"].__setitem__(0, d["witness"]["b"]["output"][0] - 1), "witness.b.output is not"),
        (lambda d: d["witness"].pop("a"), "witness.a is missing"),
        (lambda d: d["witness"].pop("box"), "witness.box is missing"),
        (lambda d: d.__setitem__("against", 3), "against are missing"),
        (lambda d: d["model"].__setitem__("sha256", "0" * 64), "another model"),
        (lambda d: d["asked"].pop("class"), "asked.class"),
        (lambda d: d.pop("asked"), "asked is missing"),
    ],
)
def test_a_comparison_that_lies_is_found_out(cli, parted, tmp_path, change, words):
    outcome = cli("replay", _edit(parted, tmp_path, change))
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert words in outcome.err
