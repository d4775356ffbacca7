"""verify, robust, attack and export: the verdict's line, the exit code, the JSON object."""

import json
import subprocess
import sys

import numpy as np
import pytest

from bvverify import examples
from bvverify.load.load import load
from bvverify.run import interpreter

FIELDS = {
    "schema_version": int,
    "command": str,
    "verdict": str,
    "stage": str,
    "reason": str,
    "seconds": float,
    "asked": dict,
    "model": dict,
    "semantics": str,
    "requantisations": list,
    "property": dict,
    "seed": int,
    "trust_solver": bool,
    "nodes": int,
    "stages": list,
    "versions": dict,
    "boxes": list,
    "input": dict,
}
"""The fields of every answer, besides ``witness``; a change here is a change of the schema's version."""

WITNESS_FIELDS = {
    "input",
    "output",
    "class",
    "changed",
    "beyond_own",
    "nominal",
    "file_input",
    "file_output",
    "box",
    "violation",
    "label",
    "replays",
}


def test_verified(cli, mlp, images):
    outcome = cli("robust", mlp, "--input", f"{images}::0", "--radius", 1)
    assert (outcome.code, outcome.first, outcome.err) == (0, "verified", "")
    assert "the class stays 0" in outcome.out
    assert "onnxruntime (float32-half-even)" in outcome.out
    assert "sha256 " in outcome.out


def test_falsified(cli, mlp, images):
    outcome = cli("robust", mlp, "--input", f"{images}::7", "--radius", 3)
    assert (outcome.code, outcome.first, outcome.err) == (10, "falsified", "")
    assert "instead of 3" in outcome.out
    assert "by up to 3" in outcome.out


def test_unknown_says_what_ran_out(cli, mlp, images):
    outcome = cli("robust", mlp, "--input", f"{images}::7", "--radius", 3, "--timeout", "1e-9")
    assert (outcome.code, outcome.first, outcome.err) == (5, "unknown", "")
    assert "time limit" in outcome.out


def test_radius_zero_asks_about_the_input_alone(cli, cnn, images):
    assert cli("robust", cnn, "--input", f"{images}::3", "--radius", 0).first == "verified"


def test_a_wrong_label_is_answered_by_the_clean_input(cli, mlp, images):
    outcome = cli("robust", mlp, "--input", f"{images}::0", "--radius", 1, "--label", 4)
    assert (outcome.code, outcome.first) == (10, "falsified")
    assert "clean input" in outcome.out
    assert "it is the clean input itself" in outcome.out


def test_the_property_file_asks_what_robust_asks(cli, mlp):
    outcome = cli("verify", mlp, examples.path(examples.PROPERTY))
    assert (outcome.code, outcome.first, outcome.err) == (0, "verified", "")


@pytest.mark.parametrize("form", ["qop", "qdq"])
@pytest.mark.parametrize("net", ["mlp", "cnn"])
def test_every_bundled_model_answers(cli, images, net, form):
    model = examples.path(f"digits_{net}_{form}.onnx")
    assert cli("robust", model, "--input", f"{images}::5", "--radius", 1).first == "verified"
    assert cli("robust", model, "--input", f"{images}::5", "--radius", 16).first == "falsified"


def test_epsilon_is_the_radius_in_reals(cli, mlp, images):
    by_steps = json.loads(cli("robust", mlp, "--input", f"{images}::7", "--radius", 3, "--json").out)["witness"]["box"]
    by_reals = json.loads(cli("robust", mlp, "--input", f"{images}::7", "--epsilon", "3/16", "--json").out)["witness"]["box"]
    # Saturation keeps the lower end at 0; the other ends are the same integers.
    assert by_steps == by_reals


def test_the_smt_engine_agrees(cli, mlp, images):
    outcome = cli("robust", mlp, "--input", f"{images}::0", "--radius", 0, "--engine", "smt", "--timeout", 60)
    assert (outcome.code, outcome.first) == (0, "verified")


def test_attack_finds_or_does_not_know(cli, mlp, images):
    assert cli("attack", mlp, "--input", f"{images}::7", "--radius", 3).code == 10
    outcome = cli("attack", mlp, "--input", f"{images}::0", "--radius", 1)
    assert (outcome.code, outcome.first) == (5, "unknown")
    assert cli("attack", mlp, examples.path(examples.PROPERTY)).code == 5


@pytest.mark.parametrize(("radius", "verdict", "code"), [(1, "verified", 0), (3, "falsified", 10)])
def test_the_json_object_has_the_schema(cli, mlp, images, radius, verdict, code):
    outcome = cli("robust", mlp, "--input", f"{images}::7", "--radius", radius, "--json")
    report = json.loads(outcome.out)
    assert (outcome.code, outcome.err, report["verdict"]) == (code, "", verdict)
    witness, checked = report.pop("witness"), report.pop("checked")
    assert (report.pop("certificate"), report.pop("stripped"), report.pop("open")) == (None, None, None)
    assert (checked is not None) == (verdict == "verified")
    assert {name: type(value) for name, value in report.items()} == FIELDS
    assert report["asked"] == {"model": mlp, "input": f"{images}::7", "radius": radius, "epsilon": None, "clip": None, "label": None}
    assert (witness is None) == (verdict == "verified")
    if witness is not None:
        assert set(witness) == WITNESS_FIELDS


def test_the_witness_in_json_is_one(cli, mlp, images):
    witness = json.loads(cli("robust", mlp, "--input", f"{images}::7", "--radius", 3, "--json").out)["witness"]
    network = load(mlp, None)
    x = np.array(witness["input"], np.int64)
    y = interpreter.run(network, x.reshape(1, *network.input.tensor.shape))[0]
    assert y.ravel().tolist() == witness["output"]
    assert int(y.argmax()) == witness["class"] != 3
    assert (np.array(witness["box"]["lo"]) <= x).all()
    assert (x <= np.array(witness["box"]["hi"])).all()
    assert np.abs(x - np.array(witness["nominal"])).max() == 3
    given = np.array(witness["file_input"]["data"], witness["file_input"]["dtype"]).reshape(witness["file_input"]["shape"])
    assert (interpreter.quantise_input(network, given).ravel() == x).all()


def test_the_same_seed_gives_the_same_answer(cli, mlp, images):
    first, second = (json.loads(cli("robust", mlp, "--input", f"{images}::7", "--radius", 3, "--seed", 5, "--json").out) for _ in "ab")
    assert first["witness"] == second["witness"]
    assert first["seed"] == 5


def test_a_witness_saved_as_npy_is_an_input_of_the_model(cli, mlp, images, tmp_path):
    saved = tmp_path / "w.npy"
    assert cli("robust", mlp, "--input", f"{images}::7", "--radius", 3, "--witness", saved).code == 10
    assert np.load(saved).dtype == np.float32
    outcome = cli("run", mlp, "--input", saved)
    assert outcome.code == 0
    assert outcome.first != "class 3"


def test_no_witness_no_file(cli, mlp, images, tmp_path):
    assert cli("robust", mlp, "--input", f"{images}::7", "--radius", 1, "--witness", tmp_path / "w.npy").code == 0
    assert list(tmp_path.iterdir()) == []


def test_export_writes_smt_lib(cli, mlp, images, tmp_path):
    printed = cli("export", mlp, "--input", f"{images}::7", "--radius", 1)
    assert (printed.code, printed.err) == (0, "")
    assert "(check-sat)" in printed.out
    assert "QF_BV" in printed.out
    written = tmp_path / "q.smt2"
    assert cli("export", mlp, "--input", f"{images}::7", "--radius", 1, "--output", written).out == ""
    assert written.read_text().split() == printed.out.split()


def test_export_stands_on_the_definitions(cli, cnn, images):
    script = cli("export", cnn, "--input", f"{images}::7", "--radius", 1).out
    assert "; ---- encodings/requantisations/float32-half-even/definition.smt2" in script
    assert "(define-fun t1." in script


def test_export_writes_clauses(cli, mlp, images):
    outcome = cli("export", mlp, "--input", f"{images}::7", "--radius", 0, "--format", "dimacs")
    assert (outcome.code, outcome.err) == (0, "")
    # One input and its class: nothing is left to decide, and the formula is false.
    assert outcome.out.splitlines()[-3:] == ["p cnf 1 2", "1 0", "-1 0"]


def test_the_verdict_survives_a_reader_that_leaves(mlp, images):
    command = [sys.executable, "-m", "bvverify.cli", "robust", mlp, "--input", f"{images}::0", "--radius", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (0, "")


def test_a_certificate_is_saved_and_checked_and_is_about_its_question_only(cli, mlp, images, tmp_path):
    file = tmp_path / "proof.bvcert"
    question = ["--input", f"{images}::7", "--radius", 1]
    outcome = cli("robust", mlp, *question, "--certificate", file)
    assert (outcome.code, file.is_file()) == (0, True)
    assert cli("check", file).first == "accepted"
    assert cli("check", file, "--model", mlp, *question).code == 0
    report = json.loads(cli("check", file, "--json").out)
    assert (report["accepted"], report["complete"], report["solver_leaves"]) == (True, True, 0)
    for other in (["--input", f"{images}::7", "--radius", 2], ["--input", f"{images}::8", "--radius", 1]):
        assert (cli("check", file, *other).code, cli("check", file, *other).first) == (2, "rejected")
    cnn = examples.path("digits_cnn_qop.onnx")
    assert cli("check", file, "--model", cnn).first == "rejected"
    assert "model" in cli("check", file, "--model", cnn).out


def test_a_file_that_is_no_certificate_is_named(cli, tmp_path):
    file = tmp_path / "noise.bvcert"
    file.write_bytes(b"PK not a certificate")
    outcome = cli("check", file)
    assert outcome.code == 2
    assert str(file) in outcome.err
    assert cli("check", tmp_path / "missing.bvcert").code == 2


def test_no_check_is_recorded(cli, mlp, images):
    outcome = cli("robust", mlp, "--input", f"{images}::7", "--radius", 1, "--no-check", "--json")
    assert json.loads(outcome.out)["checked"] is None
    assert "not asked" in cli("robust", mlp, "--input", f"{images}::7", "--radius", 1, "--no-check").out


def test_results_and_certificates_are_not_mixed_up(cli, mlp, images, tmp_path):
    proof, result, text = tmp_path / "proof.bvcert", tmp_path / "result.json", tmp_path / "text"
    result.write_text(cli("robust", mlp, "--input", f"{images}::7", "--radius", 1, "--certificate", proof, "--json").out)
    text.write_text("no archive")
    outcome = cli("check", result)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert f"{result}: is a result, not a certificate; bvverify explain or replay reads it" in outcome.err
    assert "is no certificate" in cli("check", text).err
    for command in (["explain"], ["replay"], ["report", "--html", tmp_path / "page.html"]):
        outcome = cli(*command, proof)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert f"{proof}: is a certificate; bvverify check reads it" in outcome.err


def test_a_limit_of_nodes_ends_the_question(cli, cnn, images):
    """Without a limit of time: what the search leaves open goes to no solver, which would know of no end."""
    outcome = cli("robust", cnn, "--input", f"{images}::8", "--radius", 2, "--nodes", 20, "--json")
    report = json.loads(outcome.out)
    assert (outcome.code, report["verdict"], report["stage"], report["open"]["ran_out"]) == (5, "unknown", "search", "nodes")
    assert "limit of nodes ran out in the search" in report["reason"]
