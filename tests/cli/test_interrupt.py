"""Ctrl-C and SIGTERM: what is known so far is printed, nothing is lost, no process stays behind."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from bvverify import examples, pipeline
from bvverify.cli import main
from bvverify.cli.question import ask_robust
from bvverify.model.result import Verdict

MLP, CNN = examples.path("digits_mlp_qop.onnx"), examples.path("digits_cnn_qdq.onnx")
IMAGES = str(examples.path(examples.IMAGES))
# The bit-vector solver alone does not decide this one in minutes.
HARD = ("robust", str(MLP), "--input", f"{IMAGES}::5", "--radius", "5", "--engine", "smt")


@pytest.fixture
def start():
    """Starts ``bvverify`` as a process, which does not outlive the test."""
    started = []

    def make(*arguments):
        command = [sys.executable, "-m", "bvverify.cli", *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield make
    for process in started:
        process.kill()
        process.communicate()


def _wait_for(condition, process, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "what was waited for did not come"
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_question_ends_with_what_is_known(start, tmp_path, number, code):
    dump = tmp_path / "question.smt2"
    process = start(*HARD, "--dump-smt2", dump, "--json")
    _wait_for(lambda: dump.exists() and "check-sat" in dump.read_text(), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    report = json.loads(out)
    assert (process.returncode, err) == (code, "bvverify: interrupted\n")
    assert (report["verdict"], report["stage"], report["open"]["ran_out"]) == ("unknown", "solver", "interrupt")
    assert report["reason"] == "interrupted in stage 'solver'"


def test_in_the_search_the_worst_bound_is_kept(monkeypatch):
    from bvverify.search.search import Search

    run = Search.run

    def stopped(self, *_):
        run(self, None, 40)
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "run", stopped)
    question = ask_robust(MLP, f"{IMAGES}::5", 4, None, None, None)
    with pytest.raises(pipeline.Interrupted) as caught:
        pipeline.decide_all(question.queries, pipeline.Options(stages=frozenset({"interval", "search"})))
    result = caught.value.result
    assert result.verdict is Verdict.UNKNOWN
    assert result.open is not None
    assert result.open.ran_out == "interrupt"
    assert result.nodes >= 9
    assert result.open.subproblems >= 1
    assert result.open.bound < 0
    assert "worst bound" in result.reason


def test_what_the_trees_hold_is_what_the_pool_holds():
    from bvverify.search.root import Root, tighten
    from bvverify.search.search import Search

    (query,) = ask_robust(MLP, f"{IMAGES}::5", 4, None, None, None).queries
    root = Root.of(query, [])
    tighten(root, time.monotonic())
    search = Search(root, list(range(len(query.property.violation))))
    outcome, read = search.run(None, 40), search.so_far()
    assert outcome.open > 0
    assert (read.open, read.bound, read.conjunctions, read.nodes) == (outcome.open, outcome.bound, outcome.conjunctions, outcome.nodes)


def test_an_interrupted_command_prints_unknown(cli, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(pipeline._STAGES, "interval", interrupted)
    outcome = cli("robust", MLP, "--input", f"{IMAGES}::5", "--radius", "3")
    assert (outcome.code, outcome.first, outcome.err) == (130, "unknown", "bvverify: interrupted\n")
    assert "interrupted in stage 'interval'" in outcome.out


def test_radii_that_are_certain_are_kept(cli, tmp_path, monkeypatch):
    from bvverify import radii

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(radii, "_by_attack", interrupted)
    command = ("radius", MLP, "--input", f"{IMAGES}::5", "--certificate", tmp_path / "c.bvcert")
    outcome = cli(*command)
    assert (outcome.code, outcome.err) == (130, "bvverify: interrupted\n")
    assert "interrupted" in outcome.out
    assert (tmp_path / "c.bvcert").exists()
    report = json.loads(cli(*command, "--json").out)
    assert report["verified"] >= 0
    assert report["falsified"] is None or report["falsified"] > report["verified"] + 1


def test_an_interrupted_comparison_prints_unknown(cli, monkeypatch):
    from bvverify.search.search import Search

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "run", interrupted)
    narrow = examples.path("digits_cnn_6bit.onnx")
    command = ("compare", examples.path("digits_cnn_qop.onnx"), narrow, "--class", "--input", f"{IMAGES}::0", "--radius", "1")
    outcome = cli(*command)
    assert (outcome.code, outcome.first, outcome.err) == (130, "unknown", "bvverify: interrupted\n")
    report = json.loads(cli(*command, "--json").out)
    assert (report["verdict"], report["witness"]) == ("unknown", None)
    assert report["reason"].startswith("interrupted in stage ")


def test_the_handler_is_gone_afterwards(cli):
    before = signal.getsignal(signal.SIGTERM)
    cli("doctor", "--help")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_batch_keeps_its_rows_and_goes_on(start, tmp_path):
    # The last row keeps the search busy for longer than anybody waits.
    rows = [f"{MLP},{IMAGES}::{i},,0,,\n" for i in range(6)] + [f"{CNN},{IMAGES}::8,,3,,\n"]
    (tmp_path / "i.csv").write_text("model,input,label,radius,timeout,semantics\n" + "".join(rows))
    output = tmp_path / "o.jsonl"
    process = start("batch", tmp_path / "i.csv", "--output", output, "--jobs", "1")
    _wait_for(lambda: output.exists() and output.read_bytes().count(b"\n") >= 6, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    kept = output.read_text().splitlines()
    assert process.returncode == 130
    assert err.splitlines() == [
        f"bvverify: {len(kept)} of 7 rows have their line in {output}; the same command goes on from there",
        "bvverify: interrupted",
    ]
    answered = [json.loads(line)["input"] for line in kept]
    assert len(answered) == 6
    assert main(["batch", str(tmp_path / "i.csv"), "--output", str(output), "--jobs", "1", "--timeout", "1"]) == 0
    everything = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["input"] for row in everything][: len(answered)] == answered
    assert len(everything) == 7
    _wait_for_nobody(str(output))


def _wait_for_nobody(mark: str) -> None:
    """No process of the batch is left: every command line that names its output is gone."""
    if not os.path.isdir("/proc/self"):  # noqa: PTH112
        return
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if not any(mark in line for line in _command_lines()):
            return
        time.sleep(0.1)
    raise AssertionError("a process stays behind")


def _command_lines():
    from pathlib import Path

    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
