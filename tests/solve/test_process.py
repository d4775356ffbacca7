"""The solvers' processes: limits that hold, answers that agree."""

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import random_networks

from bvverify import examples, pipeline
from bvverify.bounds import interval
from bvverify.cli.question import ask_robust
from bvverify.errors import InternalError, UsageError
from bvverify.process import Child, Ended
from bvverify.run import replay
from bvverify.solve import ask, solve

BOTH = ("z3", "bitwuzla")


@pytest.fixture(scope="module")
def hard():
    source = f"{examples.path(examples.IMAGES)}::7"
    query = ask_robust(examples.path("digits_cnn_qop.onnx"), source, 4, None, None, None).queries[0]
    return query, interval.propagate(query.network, query.box)


@pytest.mark.parametrize("solver", [*BOTH, "both"])
def test_the_time_limit_is_kept(hard, solver):
    started = time.monotonic()
    answer = solve(*hard, solver=solver, timeout=1.0)
    assert time.monotonic() - started < 3
    assert answer.status == "unknown"
    assert "time limit" in answer.reason


@pytest.mark.parametrize("solver", BOTH)
def test_the_memory_limit_is_an_unknown_that_says_so(hard, solver):
    answer = solve(*hard, solver=solver, timeout=60, memory_mb=200)
    assert answer.status == "unknown"
    assert "memory limit of 200 MB" in answer.reason


@pytest.mark.parametrize("solver", BOTH)
def test_the_dump_is_the_question(tmp_path, solver):
    source = f"{examples.path(examples.IMAGES)}::7"
    query = ask_robust(examples.path("digits_mlp_qop.onnx"), source, 0, None, None, None).queries[0]
    answer = solve(query, interval.propagate(query.network, query.box), solver=solver, dump=tmp_path / "q.smt2")
    assert answer.status == "unsat"
    assert answer.solver.startswith(f"{solver} ")
    assert "(set-logic QF_BV)" in (tmp_path / "q.smt2").read_text()


@pytest.mark.parametrize("out", [b"", b"[]", b'{"status": "sat", "version": "1", "model": {"x": 1}}', b'{"version": 1}'])
def test_an_answer_that_nobody_understands_is_loud(hard, out):
    with pytest.raises(InternalError):
        ask.read(hard[0], "z3", Ended("done", out, 0.0), 1.0, 100)


@pytest.mark.parametrize("kind", ["dense", "float mean"])
def test_both_answer_as_enumeration_does(kind):
    answers = set()
    for seed in range(2, 5):
        query, violated = random_networks.question(seed, [kind])
        answer = solve(query, interval.propagate(query.network, query.box), solver="both")
        assert answer.status == ("sat" if violated else "unsat"), seed
        answers.add(answer.status)
        if violated:
            assert query.box.contains(answer.x)
            assert replay.violates(query, answer.x[None])[0]
    assert answers == {"sat", "unsat"}


def test_bitwuzla_alone_decides_a_whole_question():
    query, violated = random_networks.question(7)
    result = pipeline.decide(query, pipeline.Options(engine="smt", solver="bitwuzla", runtimes=False))
    assert result.verdict is (pipeline.Verdict.FALSIFIED if violated else pipeline.Verdict.VERIFIED)
    assert "bitwuzla" in result.stages[-2 if result.checked else -1].detail
    assert "bitwuzla" in result.versions


class _Sleeper:
    """A child that answers nothing until it is stopped."""

    def __init__(self):
        self.event = threading.Event()

    def wait(self, timeout):
        self.event.wait(timeout)
        return Ended("stopped", b"", 0.0)

    def stop(self):
        self.event.set()


def test_a_quick_answer_waits_for_the_other_solver_as_long_again_only(monkeypatch):
    query, violated = random_networks.question(0, ["dense"])
    real, started = ask.Child, time.monotonic()
    monkeypatch.setattr(ask, "Child", lambda module, job, memory: _Sleeper() if job.solver == "bitwuzla" else real(module, job, memory))
    answer = solve(query, interval.propagate(query.network, query.box), solver="both", timeout=300)
    assert answer.status == ("sat" if violated else "unsat")
    assert answer.solver.startswith("z3 ")
    assert time.monotonic() - started < 60


def test_a_contradiction_is_loud_and_saves_both_queries(tmp_path, monkeypatch):
    query, _ = random_networks.question(0, ["dense"])
    bounds = interval.propagate(query.network, query.box)
    one = solve(query, bounds)
    other = replace(one, status="unsat" if one.status == "sat" else "sat", solver="bitwuzla 1")
    monkeypatch.setattr(ask.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    with pytest.raises(InternalError, match="please report") as caught:
        ask.agreed(query, bounds, [one, other], part=False)
    for name in BOTH:
        assert str(tmp_path / f"{name}.smt2") in str(caught.value)
        assert "(check-sat)" in (tmp_path / f"{name}.smt2").read_text()


def test_a_child_may_end_while_it_is_being_stopped(monkeypatch):
    """While one thread collects its exit, ``poll`` says to another that it still runs (CPython's lock around waitpid)."""
    child = Child("bvverify.solve.child", None, 1000)
    child.process.kill()
    child.process.communicate()
    monkeypatch.setattr(child.process, "poll", lambda: None)
    child.stop()
    assert child.stopped


def test_a_child_that_never_read_its_job_leaves_no_pipe_open():
    child = Child("bvverify.solve.child", bytes(1 << 22), 1000)
    assert child.wait(0.01).how == "time"
    assert all(pipe.closed for pipe in (child.process.stdin, child.process.stdout, child.process.stderr))


def test_a_solver_that_is_absent_is_a_usage_error(monkeypatch):
    monkeypatch.setattr(ask.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install 'bvverify\\[bitwuzla\\]'"):
        ask.require("both")
    ask.require("z3")


def _children(pid):
    """The processes that a process has started (Linux)."""
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc on this system")
def test_the_solver_ends_with_a_parent_that_was_killed():
    """Nobody is left to stop it then, and it has no limit of its own."""
    words = [str(examples.path("digits_cnn_qop.onnx")), "--input", f"{examples.path(examples.IMAGES)}::7", "--radius", "4"]
    program = f"from bvverify.cli import main; main(['robust', *{words!r}, '--engine', 'smt', '--solver', 'both'])"
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(solvers := _children(parent.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)  # past its imports
    parent.kill()
    parent.wait()
    assert len(solvers) == 2
    while any(Path(f"/proc/{pid}").is_dir() for pid in solvers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").is_dir() for pid in solvers)


def test_a_lower_limit_of_whoever_started_bvverify_stays():
    code = (
        "import os, resource; os.environ['BVVERIFY_MEMORY_MB'] = '8192'; resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 32));"
        "from bvverify.process import limit_memory; limit_memory(); print(resource.getrlimit(resource.RLIMIT_AS)[0] >> 20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "2048"), done.stderr
