"""radius: the first line, the exit code, the JSON object, the files; and radii in batches."""

import json

import numpy as np
import pytest


def test_both_radii_with_their_proofs(cli, mlp, images, tmp_path):
    proof, witness = tmp_path / "proof.bvcert", tmp_path / "witness.json"
    outcome = cli("radius", mlp, "--input", f"{images}::5", "--certificate", proof, "--witness", witness)
    assert (outcome.code, outcome.first, outcome.err) == (0, "largest radius 3", "")
    assert "verified   radius 3" in outcome.out
    assert "falsified  radius 4: class " in outcome.out
    assert cli("check", proof, "--model", mlp, "--input", f"{images}::5", "--radius", 3).first == "accepted"
    replayed = cli("replay", witness)
    assert (replayed.code, replayed.first) == (10, "falsified")
    assert "by up to 4" in replayed.out


def test_the_json_object(cli, mlp, images):
    outcome = cli("radius", mlp, "--input", f"{images}::5", "--json")
    report = json.loads(outcome.out)
    assert (outcome.code, outcome.err, report["command"], report["verdict"]) == (0, "", "radius", "found")
    assert (report["verified"], report["falsified"], report["maximum"], report["reason"]) == (3, 4, 255, "")
    assert report["asked"] == {"model": mlp, "input": f"{images}::5", "label": None, "targeted": None, "max": None}
    moved = np.abs(np.array(report["witness"]["input"]) - np.array(report["witness"]["nominal"]))
    assert moved.max() == 4
    assert report["checked"]["solver_leaves"] == 0
    assert {q["radius"] for q in report["questions"]} >= {0, 3}
    assert {"semantics", "model", "property", "seed", "versions", "nodes"} <= set(report)


def test_a_target(cli, mlp, images, tmp_path):
    proof = tmp_path / "proof.bvcert"
    outcome = cli("radius", mlp, "--input", f"{images}::5", "--targeted", 1, "--certificate", proof)
    assert (outcome.code, outcome.first) == (0, "largest radius 3")
    assert "the class never becomes 1" in outcome.out
    assert "the class is not 1" in cli("check", proof).out
    own = cli("radius", mlp, "--input", f"{images}::5", "--targeted", 2)
    assert (own.code, own.first) == (10, "no radius: the clean input itself violates")


def test_a_maximum(cli, mlp, images):
    outcome = cli("radius", mlp, "--input", f"{images}::5", "--max", 2)
    assert (outcome.code, outcome.first) == (0, "largest radius 2, or more: as far as was asked")
    assert "falsified" not in outcome.out


def test_a_wrong_label(cli, mlp, images):
    outcome = cli("radius", mlp, "--input", f"{images}::5", "--label", 3)
    assert (outcome.code, outcome.first) == (10, "no radius: the clean input itself violates")
    assert "falsified  radius 0" in outcome.out


def test_no_time(cli, mlp, images):
    outcome = cli("radius", mlp, "--input", f"{images}::5", "--timeout", "1e-9")
    assert (outcome.code, outcome.first) == (5, "largest radius 0 or more; no witness is known")
    assert "ran out" in outcome.out
    report = json.loads(cli("radius", mlp, "--input", f"{images}::5", "--timeout", "1e-9", "--json").out)
    assert (report["verdict"], report["verified"], report["falsified"], report["witness"]) == ("unknown", 0, None, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max", -1], "--max -1"),
        (["--targeted", 10], "--targeted 10"),
        (["--label", 10], "--label 10"),
        (["--label", 1, "--targeted", 2], "two questions"),
        (["--timeout", 0], "--timeout 0"),
        (["--witness", "w.txt"], ".npy or .json"),
    ],
)
def test_questions_that_make_no_sense(cli, mlp, images, arguments, words):
    outcome = cli("radius", mlp, "--input", f"{images}::5", *arguments)
    assert (outcome.code, outcome.out) == (1, "")
    assert words in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_rows_of_a_batch(cli, mlp, images, tmp_path):
    rows = [("2", "max", ""), ("2", "max:2", ""), ("3", "max", ""), ("", "max", "1"), ("", "2", "1"), ("", "4", "1")]
    wrong = [
        ("", "most", "", "radius is 'most'"),
        ("", "max:-2", "", "negative"),
        ("", "max:", "", "not an integer"),
        ("", "1", "12", "target"),
    ]
    table = tmp_path / "instances.csv"
    lines = [f"{mlp},{images}::5,{label},{radius},,{target}" for label, radius, target, *_ in [*rows, *wrong]]
    table.write_text("\n".join(["model,input,label,radius,timeout,target", *lines]) + "\n")
    out, proofs = tmp_path / "out.jsonl", tmp_path / "proofs"
    outcome = cli("batch", table, "--output", out, "--jobs", 1, "--certificates", proofs)
    assert outcome.code == 0
    assert "3 found" in outcome.err
    answers = {(a["label"], a["radius"], a["target"]): a for a in map(json.loads, out.read_text().splitlines())}
    found = [answers[row] for row in rows]
    verdicts = ["found", "found", "misclassified", "found", "verified", "falsified"]
    assert [a["verdict"] for a in found] == verdicts
    assert [(a["verified"], a["falsified"]) for a in found if a["verdict"] == "found"] == [(3, 4), (2, None), (3, 4)]
    assert cli("check", found[0]["certificate"][0], "--input", f"{images}::5", "--radius", 3).code == 0
    assert found[1]["witness"] is None
    for *row, words in wrong:
        assert answers[tuple(row)]["verdict"] == "error"
        assert words in answers[tuple(row)]["reason"]
    assert "10 from an earlier run" in cli("batch", table, "--output", out, "--jobs", 1).err
