"""The solver's process: limits that hold."""

import time

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
