"""How large a box is, what it was cut to, and what was done to the input: said wherever it may surprise."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from bvverify import examples
from bvverify.cli.question import Near, read_input
from bvverify.load import load

LITE = str(examples.path(examples.TFLITE))
SMALL = "below one step of the input (1/16)"


def values(report):
    return np.array(report["witness"]["input"])


def near(network, images, **how):
    given = read_input(network, f"{images}::5")
    return given.x, Near(f"{images}::5", **how).box(network, given)


def test_a_box_of_a_single_input_is_said_to_be_one(cli, mlp, images):
    asked = ("robust", mlp, "--input", f"{images}::5", "--epsilon")
    outcome = cli(*asked, "0.01")
    assert outcome.code == 0
    assert f"  box        0 of 64 values vary: epsilon is {SMALL}\n" in outcome.out
    assert json.loads(cli(*asked, "0.01", "--json").out)["boxes"] == [{"values": 64, "varying": 0, "most": 1}]
    larger = cli(*asked, "1/16").out
    assert "64 of 64 values vary, taking up to 3 values each\n" in larger
    assert SMALL not in larger


def test_compare_says_it_as_well(cli, mlp, images):
    asked = ("compare", mlp, "--against", "rational", "--input", f"{images}::5")
    assert SMALL in cli(*asked, "--epsilon", "1/100").out
    assert json.loads(cli(*asked, "--epsilon", "1/100", "--json").out)["boxes"][0]["varying"] == 0
    assert "  box" not in cli(*asked, "--radius", "1").out


def test_check_counts_values(cli, mlp, images, tmp_path):
    proof = tmp_path / "proof.bvcert"
    cli("robust", mlp, "--input", f"{images}::7", "--radius", 1, "--certificate", proof)
    assert "(64 of 64 values vary, taking up to 3 values each)" in cli("check", proof).out


def test_a_witness_beyond_white_says_so_and_a_clip_keeps_it_out(cli, mlp, images, tmp_path):
    asked = ("robust", mlp, "--input", f"{images}::5", "--radius", 8)
    free = json.loads(cli(*asked, "--json", "--witness", tmp_path / "w.json").out)
    white = max(free["witness"]["nominal"])
    above = int((values(free) > white).sum())
    assert white == 16
    assert above > 0
    assert free["witness"]["beyond_own"] == {"above": above, "below": 0}
    assert f"{above} value{'s' if above > 1 else ''} above the input's own largest, 16\n" in cli("replay", tmp_path / "w.json").out
    clipped = json.loads(cli(*asked, "--clip", "0,1", "--json").out)
    assert clipped["asked"]["clip"] == "0,1"
    assert values(clipped).max() <= 16
    assert clipped["witness"]["beyond_own"]["above"] == 0


def test_the_clip_is_a_part_of_the_question(cli, mlp, images, tmp_path):
    question = ("--input", f"{images}::7", "--radius", 1)
    proof, result = tmp_path / "proof.bvcert", tmp_path / "result.json"
    said = cli("robust", mlp, *question, "--clip", "0,1", "--certificate", proof, "--json").out
    result.write_text(said)
    assert "values within [0,1]" in cli("robust", mlp, *question, "--clip", "0,1").out
    assert cli("check", proof, "--model", mlp, *question, "--clip", "0,1").first == "accepted"
    assert cli("check", proof, "--model", mlp, *question).first == "rejected"
    assert "their values within [0,1]" in cli("explain", result).out
    assert cli("report", result, "--html", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert "--clip 0,1" in page
    assert "values within [0,1]" in page


@pytest.mark.parametrize(
    ("clip", "lo", "hi"), [("0,1", 0, 16), ("-5,1e3", 0, 255), ("0,257/256", 0, 16), ("0,1.1", 0, 18), ("-0.1,1", 0, 16)]
)
def test_a_clip_is_exact(mlp, images, clip, lo, hi):
    x, box = near(load.load(mlp), images, radius=30, clip=clip)
    assert np.array_equal(box.lo, np.maximum(x - 30, lo))
    assert np.array_equal(box.hi, np.minimum(x + 30, hi))


def test_a_clip_and_an_epsilon(mlp, images):
    x, box = near(load.load(mlp), images, epsilon="1/8", clip="0,1")
    assert np.array_equal(box.lo, np.maximum(x - 2, 0))
    assert np.array_equal(box.hi, np.minimum(x + 2, 16))


def test_a_clip_of_integers(images):
    network = load.load(examples.path("near_tie.onnx"))
    given = read_input(network, f"{examples.path('near_tie.csv')}::0")
    assert network.input.quantiser is None
    box = Near("x", radius=2, clip="-60.5,-9.5").box(network, given)
    assert (box.lo.tolist(), box.hi.tolist()) == ([-13, -60], [-10, -58])


@pytest.mark.parametrize("clip", ["1,0", "0", "0,1,2", "a,b", "nan,1", "0,1/0", "", "0.1,1"])
def test_a_clip_that_is_none(cli, mlp, images, clip):
    outcome = cli("robust", mlp, "--input", f"{images}::5", "--radius", 1, "--clip", clip)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.count("\n") == 1
    assert f"--clip {clip}:" in outcome.err


def test_a_column_of_a_batch_clips(cli, mlp, images, tmp_path):
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        rows = [["model", "input", "label", "radius", "clip"], [mlp, f"{images}::5", "", "8", "0,1"], [mlp, f"{images}::5", "", "8", "2,1"]]
        csv.writer(file).writerows(rows)
    assert cli("batch", tmp_path / "rows.csv", "--output", tmp_path / "out.jsonl", "--jobs", 1).code in (0, 2, 10)
    answers = {row["clip"]: row for row in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())}
    assert answers["0,1"]["verdict"] == "falsified"
    assert max(answers["0,1"]["witness"]) <= 16
    assert answers["2,1"]["verdict"] == "error"
    assert "--clip 2,1" in answers["2,1"]["reason"]


def test_pixels_of_the_wrong_scale(cli, mlp, images, tmp_path):
    image = np.load(images)["images"][5]
    np.save(tmp_path / "x.npy", image * 252)
    np.save(tmp_path / "flat.npy", image.ravel())
    count = int((image * 252 > 15.97).sum())
    note = f"  input      {count} of 64 values lie beyond the quantiser's range and were clipped\n"
    assert count > 10
    for command in (["run", mlp], ["trace", mlp], ["robust", mlp, "--radius", 0], ["attack", mlp, "--radius", 0]):
        assert note in cli(*command, "--input", tmp_path / "x.npy").out
        assert "  input " not in cli(*command, "--input", f"{images}::5").out
    report = json.loads(cli("robust", mlp, "--radius", 0, "--input", tmp_path / "x.npy", "--json").out)
    assert report["input"] == {"divided_by_255": False, "reshaped": False, "clipped": count}
    assert "flat numbers, read row by row as 1x8x8" in cli("run", mlp, "--input", tmp_path / "flat.npy").out
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["model", "input", "label", "radius"], [mlp, "x.npy", "", 0], [mlp, f"{images}::5", "", 0]])
    assert cli("batch", tmp_path / "rows.csv", "--output", tmp_path / "out.jsonl", "--jobs", 1).code == 0
    told = {row["input"]: row.get("notes") for row in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())}
    assert told == {"x.npy": [note.removeprefix("  input      ").rstrip()], f"{images}::5": None}


@pytest.mark.parametrize("command", ["robust", "compare"])
def test_a_witness_file_is_an_input(cli, mlp, images, tmp_path, command):
    if command == "robust":
        asked, model = [mlp, "--input", f"{images}::5", "--radius", 8], [mlp]
    else:
        asked, model = [LITE, "--semantics", "tflite-reference", "--against", "tflite-optimised"], [LITE, "--semantics", "tflite-reference"]
    report = json.loads(cli(command, *asked, "--json", "--witness", tmp_path / "w.json").out)
    witness = report["witness"]
    expected = witness["output"] if command == "robust" else witness["a"]["output"]
    ran = cli("run", *model, "--input", tmp_path / "w.json", "--json")
    assert json.loads(ran.out)["integers"] == expected


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"witness": null}', '{"witness": {"file_input": {"dtype": "float32", "shape": [3], "data": [1]}}}']
)
def test_a_json_file_that_is_no_witness(cli, mlp, tmp_path, content):
    (tmp_path / "w.json").write_text(content)
    outcome = cli("run", mlp, "--input", tmp_path / "w.json")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)


def test_a_real_radius_and_a_single_colon_are_told_the_mend(cli, mlp, images):
    assert "--epsilon takes a real number" in cli("robust", mlp, "--input", f"{images}::5", "--radius", 0.5).err
    assert f"element 5 is {images}::5" in cli("run", mlp, "--input", f"{images}:5").err


def test_what_only_a_solver_closed_is_called_unchecked(cli):
    asked = ("robust", examples.path("near_tie.onnx"), "--input", f"{examples.path('near_tie.csv')}::0", "--radius", 1)
    outcome = cli(*asked, "--engine", "smt", "--trust-solver")
    assert outcome.first == "verified"
    assert "  unchecked  1 leaf rests on the solver's word; there was nothing for the kernel to check\n" in outcome.out
    assert "checked    by the kernel" not in outcome.out
    assert "  proofs     1 leaf that a solver closed, by a proof in clauses\n" in cli(*asked, "--engine", "smt").out


def test_a_runtime_that_is_asked_stays_quiet():
    asked = ["robust", LITE, "--input", f"{examples.path(examples.IMAGES)}::7", "--radius", "3"]
    done = subprocess.run([sys.executable, "-m", "bvverify.cli", *asked], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (10, "")
    assert "litert (xnnpack)" in done.stdout


def test_a_property_about_a_single_input_says_so(cli, mlp, tmp_path):
    names = [f"(declare-const X_{i} Real)" for i in range(64)] + [f"(declare-const Y_{i} Real)" for i in range(10)]
    ends = [f"(assert (>= X_{i} 0.5))\n(assert (<= X_{i} 0.51))" for i in range(64)]
    (tmp_path / "point.vnnlib").write_text("\n".join([*names, *ends, "(assert (>= Y_1 Y_0))"]))
    assert "  box        0 of 64 values vary\n" in cli("verify", mlp, tmp_path / "point.vnnlib").out


def test_a_certificate_whose_proof_does_not_hold_keeps_its_code(cli, mlp, images, tmp_path):
    proof, forged = tmp_path / "proof.bvcert", tmp_path / "forged.bvcert"
    cli("robust", mlp, "--input", f"{images}::7", "--radius", 1, "--certificate", proof)
    entries = dict(np.load(proof))
    with forged.open("wb") as file:
        np.savez(file, **(entries | {"box": entries["box"] + np.array([0, 9]).reshape(2, 1, 1, 1)}))
    outcome = cli("check", forged)
    assert (outcome.code, outcome.first) == (6, "rejected")
    outcome = cli("check", forged, "--input", f"{images}::7", "--radius", 1, "--json")
    assert (outcome.code, json.loads(outcome.out)["reason"]) == (2, "it is about another box of inputs")
