"""Disks that are full and places that take no file: one clear line, the answer all the same, nothing that was there is lost.

The tests may run as root, whom permissions do not stop: a full disk is /dev/full, an unwritable one a file where a folder should be.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bvverify import examples
from bvverify.cli import output

MLP, IMAGES = str(examples.path("digits_mlp_qop.onnx")), str(examples.path(examples.IMAGES))
PROVED = ("robust", MLP, "--input", f"{IMAGES}::0", "--radius", "1")
REFUTED = ("robust", MLP, "--input", f"{IMAGES}::5", "--radius", "20")

full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


@pytest.fixture
def full_disk(tmp_path):
    def make(name: str) -> Path:
        (tmp_path / name).symlink_to("/dev/full")
        return tmp_path / name

    return make


def _one_line(outcome, *words):
    (line,) = outcome.err.splitlines()
    assert line.startswith("bvverify: error: ")
    assert [word for word in words if word not in line] == []


@full
@pytest.mark.parametrize(
    ("question", "option", "name", "verdict"),
    [
        (PROVED, "--certificate", "c.bvcert", "verified"),
        (REFUTED, "--witness", "w.npy", "falsified"),
        (REFUTED, "--witness", "w.json", "falsified"),
    ],
)
def test_a_full_disk_does_not_cost_the_answer(cli, full_disk, question, option, name, verdict):
    outcome = cli(*question, option, full_disk(name))
    assert (outcome.code, outcome.first) == (1, verdict)
    assert "saved" not in outcome.out
    _one_line(outcome, name, "No space left")
    report = cli(*question, option, full_disk("2" + name), "--json")
    parsed = json.loads(report.out)
    assert (report.code, parsed["verdict"], parsed["certificate"]) == (1, verdict, None)
    assert "No space left" in parsed["not_saved"]


@full
def test_a_comparison_keeps_its_answer(cli, full_disk):
    question = ("compare", str(examples.path("digits_cnn_qop.onnx")), "--against", "rational", "--layer", "layer1_node")
    outcome = cli(*question, "--witness", full_disk("w.npy"))
    assert (outcome.code, outcome.first) == (1, "differs")
    _one_line(outcome, "w.npy", "No space left")


@full
@pytest.mark.parametrize(
    "arguments",
    [
        ("run", MLP, "--input", IMAGES, "--output", "{disk}.npy"),
        ("export", *PROVED[1:], "--format", "smt2", "--output", "{disk}.smt2"),
        (*PROVED, "--engine", "smt", "--dump-smt2", "{disk}.smt2"),
    ],
)
def test_where_the_file_is_the_answer_the_line_is_all(cli, full_disk, arguments):
    suffix = arguments[-1].removeprefix("{disk}")
    outcome = cli(*arguments[:-1], full_disk(f"out{suffix}"))
    assert (outcome.code, outcome.out) == (1, "")
    _one_line(outcome, f"out{suffix}", "No space left")


@full
@pytest.mark.parametrize("arguments", [PROVED, (*PROVED, "--json"), ("--help",), ("--version",), ("robust", MLP, "--json")])
def test_a_stdout_that_takes_nothing_is_one_line(arguments):
    with open("/dev/full", "w") as disk:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "bvverify.cli", *arguments], stdout=disk, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_batch_on_a_full_disk_keeps_its_rows_and_goes_on(cli, tmp_path):
    rows = "".join(f"{MLP},{IMAGES}::{i},,0,,\n" for i in range(6))
    (tmp_path / "i.csv").write_text("model,input,label,radius,timeout,semantics\n" + rows)
    command = ["batch", str(tmp_path / "i.csv"), "--output", str(tmp_path / "o.jsonl"), "--jobs", "1"]
    # A limit on the size of files stands for the end of the disk; it is met in the middle of a row.
    limited = ["bash", "-c", 'ulimit -f 2; exec "$@"', "bash", sys.executable, "-m", "bvverify.cli", *command]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, "o.jsonl: cannot be written" in line, "kept" in line) == (1, True, True)
    content = (tmp_path / "o.jsonl").read_text()
    kept = content[: content.rfind("\n") + 1]
    assert 1 <= kept.count("\n") < 6
    assert cli(*command).code == 0
    whole = (tmp_path / "o.jsonl").read_text()
    assert whole.startswith(kept)
    assert sorted(json.loads(row)["input"] for row in whole.splitlines()) == [f"{IMAGES}::{i}" for i in range(6)]


@full
def test_a_batch_keeps_a_verdict_whose_certificate_is_refused(cli, tmp_path):
    (tmp_path / "i.csv").write_text(f"model,input,label,radius,timeout,semantics\n{MLP},{IMAGES}::0,,1,,\n")
    proofs = tmp_path / "proofs"
    proofs.mkdir()
    (proofs / "row1.bvcert").symlink_to("/dev/full")
    outcome = cli("batch", tmp_path / "i.csv", "--output", tmp_path / "o.jsonl", "--jobs", "1", "--certificates", proofs)
    row = json.loads((tmp_path / "o.jsonl").read_text())
    assert (outcome.code, row["verdict"], row["certificate"]) == (0, "verified", None)
    assert "No space left" in row["not_saved"]


@pytest.mark.parametrize("option", [("--certificate", "c.bvcert"), ("--witness", "w.npy"), ("--dump-smt2", "q.smt2")])
def test_a_place_that_takes_no_file_is_refused_before_the_work(cli, tmp_path, option):
    (tmp_path / "file").write_text("")
    outcome = cli(*PROVED, option[0], tmp_path / "file" / option[1])
    assert (outcome.code, outcome.out) == (1, "")
    _one_line(outcome, option[1], "does not exist")


def test_a_folder_that_may_not_be_written_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(output.os, "access", lambda *_: False)
    with pytest.raises(output.UsageError, match=r"c\.bvcert: may not be written"):
        output.check_writable(tmp_path / "c.bvcert")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "c.bvcert"
    target.write_text("the old one")

    def half(self, data):
        with self.open("wb") as file:
            file.write(data[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(output.UsageError, match="No space left"):
        output.write(target, b"the new one")
    assert target.read_text() == "the old one"
    assert [p.name for p in tmp_path.iterdir()] == ["c.bvcert"]


def test_a_file_is_replaced_through_a_link(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    output.write(tmp_path / "link", "new")
    assert ((tmp_path / "real").read_text(), (tmp_path / "link").is_symlink()) == ("new", True)
