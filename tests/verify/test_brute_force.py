"""On networks small enough to enumerate, every engine's verdict is the enumeration's."""

import numpy as np
import pytest
import random_networks
import z3

from bvverify import pipeline
from bvverify.bounds import interval
from bvverify.encode.network import encode
from bvverify.model.result import Verdict
from bvverify.solve import solve

SECONDS = 120.0


def _decided(query, engine, stages=None):
    options = pipeline.Options(engine=engine, timeout=SECONDS, stages=stages, runtimes=False)
    return pipeline.decide(query, options).verdict


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
    if engine == "auto":
        searched = _decided(query, engine, frozenset(pipeline.STAGES) - {"one by one"})
        assert searched is (Verdict.FALSIFIED if violated else Verdict.VERIFIED)


@pytest.mark.parametrize("block", range(10))
def test_a_small_box_is_decided_one_by_one(block):
    """100 networks: where the inputs are few, that stage alone decides, and the kernel accepts its tree."""
    decided = 0
    for seed in range(40_000 + block * 10, 40_000 + block * 10 + 10):
        query, violated = random_networks.question(seed)
        few = np.prod(query.box.hi - query.box.lo + 1) * len(query.property.violation) <= 1024
        result = pipeline.decide(query, pipeline.Options(stages=frozenset({"one by one"}), runtimes=False))
        if not few:
            assert result.verdict is Verdict.UNKNOWN
            continue
        decided += 1
        assert (result.verdict, result.stage) == (Verdict.FALSIFIED if violated else Verdict.VERIFIED, "one by one"), seed
        if not violated:
            assert result.checked.complete
            assert result.checked.splits == len(query.property.violation) * (np.prod(query.box.hi - query.box.lo + 1) - 1)
    assert decided


def test_the_solver_gives_an_input_of_the_box_that_violates():
    query = next(q for q, violated in map(random_networks.question, range(2000, 2100)) if violated)
    answer = solve(query, interval.propagate(query.network, query.box))
    assert answer.status == "sat"
    assert pipeline.replay.violates(query, answer.x[None])[0]


@pytest.mark.parametrize("block", range(25))
def test_the_search_agrees_with_enumeration(block):
    """500 networks: bounds and branch and bound alone decide all of them, rightly, and leave nothing to the solver."""
    for seed in range(10_000 + block * 20, 10_000 + block * 20 + 20):
        query, violated = random_networks.question(seed)
        options = pipeline.Options(timeout=SECONDS, stages=frozenset({"root", "search"}), runtimes=False)
        result = pipeline.decide(query, options)
        assert result.verdict is (Verdict.FALSIFIED if violated else Verdict.VERIFIED), seed
        assert violated or result.checked.solver_leaves == 0


@pytest.mark.parametrize("most_nodes", [0, 3, 12])
def test_a_search_cut_short_does_not_guess(most_nodes):
    unknown = 0
    for seed in range(20_000, 20_060):
        query, violated = random_networks.question(seed)
        options = pipeline.Options(stages=frozenset({"root", "search"}), most_nodes=most_nodes, runtimes=False)
        result = pipeline.decide(query, options)
        assert result.verdict in (Verdict.UNKNOWN, Verdict.FALSIFIED if violated else Verdict.VERIFIED), seed
        if result.verdict is Verdict.UNKNOWN:
            unknown += 1
            assert "nodes" in result.reason
            assert "worst bound" in result.reason
    assert unknown > 0


def test_solver_leaves_refute_and_find():
    """With every part of the box given to the solver as soon as its units are settled, verdicts stay right."""
    from bvverify.search import search

    few, search._FEW_INPUTS = search._FEW_INPUTS, 0.0
    asked = 0
    try:
        for seed in range(30_000, 30_080):
            query, violated = random_networks.question(seed)
            options = pipeline.Options(timeout=SECONDS, stages=frozenset({"root", "search"}), runtimes=False, trust_solver=True)
            result = pipeline.decide(query, options)
            assert result.verdict is (Verdict.FALSIFIED if violated else Verdict.VERIFIED), seed
            asked += bool(result.checked and result.checked.solver_leaves)
    finally:
        search._FEW_INPUTS = few
    assert asked > 0
