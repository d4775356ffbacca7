"""On networks small enough to enumerate, every engine's verdict is the enumeration's."""

import pytest
import random_networks
import z3

from bvverify import verify
from bvverify.bounds import interval
from bvverify.encode.network import encode
from bvverify.model.result import Verdict
from bvverify.solve import solve

SECONDS = 120.0


def _decided(query, engine, stages=None):
    options = verify.Options(engine=engine, timeout=SECONDS, stages=stages, runtimes=False)
    return verify.decide(query, options).verdict


@pytest.mark.parametrize("block", range(30))
def test_bounds_attack_and_encoding_agree_with_enumeration(block):
    """300 networks: what the cheap stages decide is right, and the encoding is satisfiable exactly when a violation exists."""
    for seed in range(block * 10, block * 10 + 10):
        query, violated = random_networks.question(seed)
        verdict = _decided(query, "auto", frozenset({"clean input", "interval", "linear", "attack"}))
        assert verdict in (Verdict.UNKNOWN, Verdict.FALSIFIED if violated else Verdict.VERIFIED), seed
        encoding = encode(query, interval.propagate(query.network, query.box))
        solver = z3.Solver()
        solver.add(*encoding.constraints, encoding.violation)
        assert solver.check() == (z3.sat if violated else z3.unsat), seed


@pytest.mark.parametrize("seed", range(1000, 1012))
@pytest.mark.parametrize("engine", ["auto", "smt"])
def test_the_whole_pipeline_decides(engine, seed):
    query, violated = random_networks.question(seed)
    assert _decided(query, engine) is (Verdict.FALSIFIED if violated else Verdict.VERIFIED)


def test_the_solver_gives_an_input_of_the_box_that_violates():
    query = next(q for q, violated in map(random_networks.question, range(2000, 2100)) if violated)
    answer = solve(query, interval.propagate(query.network, query.box))
    assert answer.status == "sat"
    assert verify.replay.violates(query, answer.x[None])[0]
