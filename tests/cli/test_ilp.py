"""The ILP readings on the command line: claims that never become verdicts, files for other solvers, and why a witness is excluded."""

import json
import sys

import highspy
import pytest

from bvverify import examples

TIE, BIG_M = (
    [examples.path(f"{name}.onnx"), "--input", f"{examples.path(f'{name}.csv')}::0", "--radius", 1] for name in ("ilp_tie", "ilp_big_m")
)


def test_an_infeasible_ilp_is_a_claim(cli):
    outcome = cli("robust", *TIE, "--engine", "ilp:aaai24")
    assert (outcome.code, outcome.first, outcome.err) == (5, "unknown", "")
    assert "ilp:aaai24 claims that there is no violation (HiGHS" in outcome.out


def test_a_solution_falsifies_only_if_it_replays(cli):
    outcome = cli("robust", *TIE, "--engine", "ilp:exact", "--json")
    report = json.loads(outcome.out)
    assert (outcome.code, report["verdict"], report["stage"], report["witness"]["input"]) == (10, "falsified", "ilp", [5])
    invented = json.loads(cli("robust", *BIG_M, "--engine", "ilp:qvip:as-written", "--json").out)
    assert (invented["verdict"], invented["witness"]) == ("unknown", None)
    assert "claims a counterexample that does not replay: node hidden0, neuron 0: h_1_0_0 is " in invented["reason"]
    assert invented["reason"].endswith("To blame: a big-M constant times the tolerance for integers")


def test_replay_says_why_a_reading_excludes_a_witness(cli, tmp_path):
    saved = tmp_path / "tie.json"
    assert cli("robust", *TIE, "--engine", "ilp:exact", "--witness", saved).code == 10
    outcome = cli("replay", saved, "--reading", "aaai24")
    assert (outcome.code, outcome.err) == (10, "")
    last = outcome.out.splitlines()[-1]
    assert last.split()[0] == "ilp:aaai24"
    assert last.endswith("the ILP's row round1_1_1 excludes that by 0.0001. To blame: a tie")
    ilp = json.loads(cli("replay", saved, "--reading", "qvip", "--json").out)["ilp"]
    assert (ilp["reading"], ilp["blame"], ilp["node"], ilp["index"]) == ("qvip", "tie", "output", 1)
    assert "ilp" not in json.loads(cli("replay", saved, "--json").out)


@pytest.mark.parametrize(
    ("form", "reading", "status"), [("lp", "exact", "Optimal"), ("mps", "aaai24", "Infeasible"), ("lp", "qvip", "Infeasible")]
)
def test_export(cli, tmp_path, form, reading, status):
    file = tmp_path / f"question.{form}"
    assert cli("export", *TIE, "--format", form, "--reading", reading, "--output", file).code == 0
    solver = highspy.Highs.__mro__[1]()
    solver.setOptionValue("output_flag", False)
    solver.readModel(str(file))
    solver.run()
    assert solver.modelStatusToString(solver.getModelStatus()) == status


def test_errors_are_one_line(cli, monkeypatch):
    outcome = cli("export", *TIE, "--reading", "qvip")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "only --format lp and --format mps have readings" in outcome.err
    assert cli("robust", *TIE, "--engine", "ilp:other").code == 1
    monkeypatch.setattr("bvverify.ilp.highs.find_spec", lambda _: None)
    outcome = cli("robust", *TIE, "--engine", "ilp:exact")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (1, "", 1)
    assert "pip install 'bvverify[ilp]'" in outcome.err


def test_a_time_limit_is_kept_and_named(cli, cnn, images):
    outcome = cli("robust", cnn, "--input", f"{images}::5", "--radius", 3, "--engine", "ilp:exact", "--timeout", 0.6)
    assert (outcome.code, outcome.first) == (5, "unknown")
    assert "time limit" in outcome.out


def test_this_process_never_imports_highspy_itself(cli):
    """OR-tools and highspy cannot live in one process; the solver has one of its own."""
    before = "highspy" in sys.modules
    cli("robust", *TIE, "--engine", "ilp:exact")
    assert ("highspy" in sys.modules) == before
