"""Stages on and off, boxes shrunk: verdicts agree."""

import numpy as np
import pytest
import random_networks

from bvverify import pipeline
from bvverify.model.query import Box, Query
from bvverify.model.result import Verdict


@pytest.mark.parametrize("seed", range(30))
def test_a_smaller_box_is_no_less_safe(seed):
    query, _ = random_networks.question(seed)
    smaller = Query(query.network, Box.of(query.box.lo, (query.box.lo + query.box.hi) // 2), query.property)
    options = pipeline.Options(stages=frozenset({"interval", "linear", "attack"}), runtimes=False)
    if pipeline.decide(query, options).verdict is Verdict.VERIFIED:
        assert pipeline.decide(smaller, options).verdict is not Verdict.FALSIFIED


@pytest.mark.parametrize("seed", range(30))
def test_no_stage_contradicts_another(seed):
    query, _ = random_networks.question(seed)
    verdicts = {
        pipeline.decide(query, pipeline.Options(stages=frozenset(stages), runtimes=False)).verdict
        for stages in (("interval",), ("linear",), ("attack",), ("interval", "linear", "attack"))
    }
    assert not {Verdict.VERIFIED, Verdict.FALSIFIED} <= verdicts


def test_a_seed_gives_the_same_answer():
    query, _ = random_networks.question(7)
    first, second = (pipeline.attack_only(query, pipeline.Options(seed=3, runtimes=False)) for _ in range(2))
    assert first.verdict is second.verdict
    assert (first.witness is None) or np.array_equal(first.witness.input, second.witness.input)
