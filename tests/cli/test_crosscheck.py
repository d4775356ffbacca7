"""``bvverify crosscheck``: a file with wrong claims of every kind, each reported for what it is, with its proof."""

import contextlib
import csv
import gzip
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from bvverify import examples
from bvverify.cli import crosscheck_table, main
from bvverify.crosscheck.summary import Summary

MLP, IMAGES, PROPERTY = (str(examples.path(name)) for name in ("digits_mlp_qop.onnx", examples.IMAGES, examples.PROPERTY))
SEVEN = f"{IMAGES}::7"


def _run(*arguments):
    """Exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(a) for a in arguments])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The claims, and what one run made of them."""
    folder = tmp_path_factory.mktemp("crosscheck")
    witness = json.loads(_run("robust", MLP, "--input", SEVEN, "--radius", 3, "--json")[1])["witness"]["input"]
    (folder / "good.json").write_text(json.dumps(witness))
    outside = list(witness)
    outside[20] = int(16 * np.load(IMAGES)["images"][7].ravel()[20]) + 5
    (folder / "outside.sol").write_text("# Objective value = 0\n" + "".join(f"x_{i} {v}\n" for i, v in enumerate(outside)))
    (folder / "ilp.sol").write_text("Model status\nInfeasible\n")
    rows = [
        # claim, label, radius, claimed witness, status, our verdict
        ("robust", 3, 3, "", "refuted", "falsified"),
        ("non-robust", 3, 1, "", "refuted", "verified"),
        ("non-robust", 3, 3, SEVEN, "witness does not replay", "falsified"),
        ("sat", 3, 3, "outside.sol", "witness does not replay", "falsified"),
        ("falsified", 3, 3, "good.json", "confirmed", "falsified"),
        ("verified", 3, 1, "", "confirmed", "verified"),
        ("", 3, 3, "ilp.sol", "refuted", "falsified"),
        ("unknown", 3, 1, "", "decided here only", "verified"),
        ("robust", 4, 1, "", "refuted", "misclassified"),
        ("none", 4, 1, "", "misclassified", "misclassified"),
        ("robust", 3, 999, "", "error", "error"),
    ]
    with (folder / "claims.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "input", "label", "radius", "claim", "claimed_witness", "source"])
        writer.writerows([MLP, SEVEN, label, radius, claim, witness, "<by hand>"] for claim, label, radius, witness, *_ in rows)
    names = {"-o": "judged.jsonl", "--csv": "judged.csv", "--html": "judged.html", "--proofs": "proofs"}
    code, out, err = _run("crosscheck", folder / "claims.csv", *(w for k, v in names.items() for w in (k, folder / v)), "--jobs", 1)
    (folder / "out.txt").write_text(out)
    (folder / "expected.json").write_text(json.dumps([r[4:] for r in rows]))
    assert (code, err) == (10, "")
    return folder


@pytest.fixture
def lines(folder):
    return sorted(map(json.loads, (folder / "judged.jsonl").read_text().splitlines()), key=lambda line: line["row"])


def test_each_claim_is_reported_for_what_it_is(folder, lines):
    assert [[line["status"], line["verdict"]] for line in lines] == json.loads((folder / "expected.json").read_text())
    out = (folder / "out.txt").read_text()
    assert out.startswith("4 of 11 claims refuted\n")
    assert "row 9: " in out
    assert "the clean input's class is 3: it is itself a witness" in out


def test_a_bad_witness_is_told_what_it_does(lines):
    clean, outside, good = (lines[i]["claimed_witness_check"] for i in (2, 3, 4))
    assert clean["problem"].startswith("inside the box, but it is class 3: its output is ")
    assert (outside["outside"], outside["element"]) == (1, 20)
    assert outside["problem"].startswith("outside the box: 1 of 64 values, by up to 2 steps ")
    assert (good["replays"], good["problem"]) == (True, "")


def test_a_refutation_by_a_witness_replays(folder, lines):
    (file,) = lines[0]["proof"]
    assert file == str(folder / "proofs/row1.json")
    code, out, _ = _run("replay", file)
    assert (code, out.partition("\n")[0]) == (10, "falsified")


def test_a_refutation_by_a_certificate_is_checked(lines):
    result, certificate = lines[1]["proof"]
    code, out, _ = _run("check", certificate, "--model", MLP, "--input", SEVEN, "--radius", 1)
    assert (code, out.partition("\n")[0]) == (0, "accepted")
    assert lines[1]["checked"]["solver_leaves"] == 0
    assert json.loads(Path(result).read_text())["verdict"] == "verified"


def test_explain_and_report_read_what_is_saved(folder, lines, tmp_path):
    for of_one in (lines[0]["proof"][0], lines[1]["proof"][0], f"{folder / 'judged.jsonl'}::0"):
        assert _run("explain", of_one)[0] == 0
    assert _run("report", lines[0]["proof"][0], lines[1]["proof"][0], "--html", tmp_path / "page.html")[0] == 0


def test_the_table_has_a_line_for_each_claim(folder):
    rows = list(csv.DictReader(io.StringIO((folder / "judged.csv").read_text())))
    assert [[row["status"], row["verdict"]] for row in rows] == json.loads((folder / "expected.json").read_text())
    assert rows[3]["problem"].startswith("outside the box")


def test_every_refutation_can_be_opened_on_the_page(folder, lines):
    page = (folder / "judged.html").read_text()
    opened = [line for line in lines if line["status"] in ("refuted", "witness does not replay", "error")]
    assert page.count("<details><summary><mark>") == len(opened)
    # A picture and a trace of the clean input, of our witness, and of a claimed one that is another, each difference beside it.
    told = [line for line in opened if line["status"] != "error"]
    ours = sum(line["witness"] is not None for line in told)
    claimed = sum(line["claimed_witness_check"] is not None and line["claimed_witness_check"]["input"] is not None for line in told)
    assert (len(told), ours, claimed) == (6, 5, 2)
    assert page.count("<summary>trace of ") == len(told) + ours + claimed
    assert page.count("data:image/png;base64,") == len(told) + 2 * (ours + claimed)
    assert f"layer1_node[{lines[0]['class']}] = {max(lines[0]['outputs'])} " in page
    assert "&lt;by hand&gt;" in page
    assert "<by hand>" not in page
    assert not re.search(r"https?://|<script|<link", page)


def test_a_second_run_decides_nothing_again(folder):
    before = (folder / "judged.jsonl").read_bytes()
    code, out, _ = _run("crosscheck", folder / "claims.csv", "-o", folder / "judged.jsonl", "--jobs", 1)
    assert (code, (folder / "judged.jsonl").read_bytes()) == (10, before)
    assert "11 of them from an earlier run" in out


def test_lines_of_a_list_in_another_order_keep_their_rows(folder, tmp_path):
    header, *rows = (folder / "claims.csv").read_text().splitlines()
    for name in ("judged.jsonl", "good.json", "outside.sol", "ilp.sol"):
        shutil.copy(folder / name, tmp_path / name)
    (tmp_path / "claims.csv").write_text("\n".join([header, *rows[::-1]]))
    _, out, _ = _run("crosscheck", tmp_path / "claims.csv", "-o", tmp_path / "judged.jsonl", "--json")
    found = json.loads(out)
    assert (found["schema_version"], found["command"], found["claims"]) == (1, "crosscheck", 11)
    assert [line["status"] for line in found["lines"]] == [r[0] for r in json.loads((folder / "expected.json").read_text())][::-1]
    assert [line["row"] for line in found["lines"]] == list(range(1, 12))
    assert found["counts"]["refuted"] == 4


def test_other_semantics_are_another_question_and_a_changed_line_is_not_shown(folder, tmp_path):
    for name in ("good.json", "outside.sol", "ilp.sol", "judged.jsonl", "claims.csv"):
        shutil.copy(folder / name, tmp_path / name)
    changed = []
    for line in map(json.loads, (tmp_path / "judged.jsonl").read_text().splitlines()):
        if line["row"] == 1:
            line["witness"][20] = line["witness"][20] + 100
        changed.append(json.dumps(line))
    (tmp_path / "judged.jsonl").write_text("\n".join(changed) + "\n")
    again = ("crosscheck", tmp_path / "claims.csv", "-o", tmp_path / "judged.jsonl", "--html", tmp_path / "x.html", "--jobs", 1)
    assert "11 of them from an earlier run" in _run(*again)[1]
    assert (tmp_path / "x.html").read_text().count("the witness of its line does not replay") == 1
    assert "from an earlier run" not in _run(*again, "--semantics", "onnxruntime+rational-half-up", "--timeout", "1e-9")[1]


def test_the_live_table_shows_the_counts(lines):
    from rich.console import Console

    console = Console(file=io.StringIO(), width=200)
    console.print(crosscheck_table._table(Summary(lines), 20))
    assert "11 of 20 claims" in console.file.getvalue()
    assert "digits_mlp_qop.onnx" in console.file.getvalue()


def test_results_of_a_competition(tmp_path):
    for source in (MLP, PROPERTY):
        shutil.copy(source, tmp_path)
    name = "digits_mlp_qop_digits_0_radius_1"
    image = np.load(IMAGES)["images"][7].ravel()
    content = "sat\n(" + "".join(f"(X_{i} {v})" for i, v in enumerate(image)) + ")"
    (tmp_path / f"{name}.counterexample.gz").write_bytes(gzip.compress(content.encode()))
    (tmp_path / "instances.csv").write_text("digits_mlp_qop.onnx,digits_0_radius_1.vnnlib,60\n")
    (tmp_path / "results.csv").write_text("digits,/x/digits_mlp_qop.onnx,/x/digits_0_radius_1.vnnlib,0.1,sat,2.5\n")
    code, out, _ = _run("crosscheck", tmp_path / "results.csv", "--instances", tmp_path / "instances.csv", "--jobs", 1, "--json")
    (line,) = json.loads(out)["lines"]
    assert (code, line["status"], line["verdict"]) == (10, "refuted", "verified")
    assert line["claimed_witness_check"]["problem"].startswith("outside the box")
    assert (line["claimed_seconds"], line["source"]) == ("2.5", "digits")


def test_time_that_runs_out_is_undecided(tmp_path):
    file = tmp_path / "claims.csv"
    file.write_text(f"model,input,label,radius,timeout,claim\n{MLP},{SEVEN},3,3,1e-9,robust\n")
    code, out, _ = _run("crosscheck", file, "--jobs", 1)
    assert (code, "1 undecided" in out) == (5, True)


@pytest.mark.parametrize(
    ("content", "options", "code", "complaint"),
    [
        ("a,b\n", (), 2, "no header of claims"),
        ("model,input,radius,claim\n", ("--jobs", 0), 1, "at least one process"),
        ("model,input,radius,claim\n", ("--html", "/nowhere/x.html"), 1, "does not exist"),
        ("model,input,radius,claim\n", ("--output", "{}"), 2, "is no answer of bvverify crosscheck"),
    ],
)
def test_what_cannot_work_is_one_line(tmp_path, content, options, code, complaint):
    file, answers = tmp_path / "claims.csv", tmp_path / "batch.jsonl"
    file.write_text(content)
    answers.write_text('{"model": "m", "verdict": "verified"}\n')
    found, out, err = _run("crosscheck", file, *(answers if o == "{}" else o for o in options))
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert complaint in err
