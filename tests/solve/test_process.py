"""The solver's process: limits that hold."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from bvverify import examples
from bvverify.bounds import interval
from bvverify.cli.question import ask_robust
from bvverify.errors import InternalError
from bvverify.solve import solve
from bvverify.solve.z3_process import _read


@pytest.fixture(scope="module")
def hard():
    source = f"{examples.path(examples.IMAGES)}::7"
    query = ask_robust(examples.path("digits_cnn_qop.onnx"), source, 4, None, None, None).queries[0]
    return query, interval.propagate(query.network, query.box)


def test_the_time_limit_is_kept(hard):
    started = time.monotonic()
    answer = solve(*hard, timeout=1.0)
    assert time.monotonic() - started < 3
    assert answer.status == "unknown"
    assert "time limit" in answer.reason


def test_the_memory_limit_is_an_unknown_that_says_so(hard):
    answer = solve(*hard, timeout=60, memory_mb=200)
    assert answer.status == "unknown"
    assert "memory limit of 200 MB" in answer.reason


def test_the_dump_is_the_question(tmp_path):
    source = f"{examples.path(examples.IMAGES)}::7"
    query = ask_robust(examples.path("digits_mlp_qop.onnx"), source, 0, None, None, None).queries[0]
    answer = solve(query, interval.propagate(query.network, query.box), dump=tmp_path / "q.smt2")
    assert answer.status == "unsat"
    assert "(set-logic QF_BV)" in (tmp_path / "q.smt2").read_text()


@pytest.mark.parametrize("out", [b"", b"[]", b'{"status": "sat", "version": "1", "model": {"x": 1}}', b'{"version": 1}'])
def test_an_answer_that_nobody_understands_is_loud(hard, out):
    with pytest.raises(InternalError):
        _read(hard[0], out, 100, 0.0)


def _children(pid):
    """The processes that a process has started (Linux)."""
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc on this system")
def test_the_solver_ends_with_a_parent_that_was_killed():
    """Nobody is left to stop it then, and it has no limit of its own."""
    words = [str(examples.path("digits_cnn_qop.onnx")), "--input", f"{examples.path(examples.IMAGES)}::7", "--radius", "4"]
    program = f"from bvverify.cli import main; main(['robust', *{words!r}, '--engine', 'smt'])"
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (solvers := _children(parent.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)  # past its imports
    parent.kill()
    parent.wait()
    assert solvers
    while any(Path(f"/proc/{pid}").is_dir() for pid in solvers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").is_dir() for pid in solvers)
