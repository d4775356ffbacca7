"""``bvverify check`` on certificates with leaves that a solver closed."""

import json

import pytest

from bvverify import examples


@pytest.fixture(scope="module")
def model():
    return str(examples.path("digits_mlp_qop.onnx"))


def _save(cli, model, path, *words):
    source = f"{examples.path(examples.IMAGES)}::7"
    outcome = cli("robust", model, "--input", source, "--radius", "0", "--engine", "smt", "--certificate", str(path), "--json", *words)
    assert outcome.code == 0
    return json.loads(outcome.out)


def test_with_proofs_it_is_accepted_and_says_what_is_trusted(cli, model, tmp_path):
    result = _save(cli, model, tmp_path / "p.bvcert")
    assert result["checked"]["solver_leaves"] == 0
    assert result["checked"]["proved_leaves"] > 0
    assert result["trust_solver"] is False
    outcome = cli("check", str(tmp_path / "p.bvcert"))
    assert (outcome.code, outcome.out.splitlines()[0]) == (0, "accepted")
    assert "leaves that a solver closed, by dratify" in outcome.out
    assert "translation into clauses" in outcome.out
    report = json.loads(cli("check", str(tmp_path / "p.bvcert"), "--json").out)
    assert (report["accepted"], report["complete"], report["unchecked"]) == (True, True, [])
    assert "bvverify.proofs" in report["trusted"]


def test_without_proofs_it_is_unchecked_unless_the_solver_is_trusted(cli, model, tmp_path):
    result = _save(cli, model, tmp_path / "p.bvcert", "--trust-solver")
    assert result["trust_solver"] is True
    assert result["checked"]["solver_leaves"] > 0
    outcome = cli("check", str(tmp_path / "p.bvcert"))
    assert (outcome.code, outcome.out.splitlines()[0]) == (5, "unchecked")
    assert "node 0, which a solver closed: it has no proof" in outcome.out
    assert "--trust-solver takes its word" in outcome.out
    report = json.loads(cli("check", str(tmp_path / "p.bvcert"), "--json").out)
    assert (report["accepted"], report["complete"], report["trust_solver"]) == (False, False, False)
    trusted = cli("check", str(tmp_path / "p.bvcert"), "--trust-solver")
    assert (trusted.code, trusted.out.splitlines()[0]) == (0, "accepted, but for what a solver closed")
    report = json.loads(cli("check", str(tmp_path / "p.bvcert"), "--trust-solver", "--json").out)
    assert (report["accepted"], report["complete"], report["trust_solver"]) == (True, False, True)
