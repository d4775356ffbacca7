"""The search in levels: what it finds is a violation inside the box, and it finds what moves of single elements do not."""

import numpy as np
import pytest

from bvverify.attack.levels import LevelSearch
from bvverify.attack.local import Polisher
from bvverify.attack.nodes import NodeAttack
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Dense
from bvverify.model.query import Linear, Property, Query
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.result import Verdict
from bvverify.model.staircase import Staircase
from bvverify.model.types import UINT8, QType, Tensor, frozen_array
from bvverify.pipeline import Options, decide, robustness_query
from bvverify.run import interpreter
from bvverify.run.replay import violates

INPUTS, HIDDEN, RADIUS = 150, 24, 2


def network(rng):
    """Two dense layers with a hidden one of 4 bits: steps of 256 accumulators, which an input element moves by 8 at most a step."""
    hidden = Staircase(ShiftHalfUp(8), 0, 15)
    first = Dense.of("first", 0, rng.integers(-8, 8, (HIDDEN, INPUTS)), rng.integers(-500, 1500, HIDDEN), hidden)
    last = Dense.of("last", 1, rng.integers(-8, 8, (3, HIDDEN)), np.zeros(3, np.int64), Staircase(ShiftHalfUp(0), -2048, 2047))
    tensors = Tensor("in", (INPUTS,), UINT8), Tensor("first", (HIDDEN,), QType(4, False)), Tensor("last", (3,), QType(12, True))
    return Network(
        Input(tensors[0], (1, INPUTS)), (first, last), tensors, Output(2, (1, 3)), Provenance("random", "random", "random", "0" * 64)
    )


def question(seed, ahead):
    """Can output 1 minus output 0 exceed, by ``ahead``, what moves of single elements from the clean input come to?"""
    rng = np.random.default_rng(seed)
    net = network(rng)
    x = rng.integers(0, 256, INPUTS)
    here = robustness_query(net, x, RADIUS)

    def ask(least):
        return Query(net, here.box, Property(((Linear(frozen_array([1, -1, 0], np.int64), -least, None),),), "output 1 is ahead"), x)

    best = int(np.diff(interpreter.run(net, x[None])[0])[0])
    while True:
        found, _, _ = Polisher(ask(best + 1), [0]).polish(x)
        if found is None:
            return ask(best + ahead)
        best = int(np.diff(interpreter.run(net, found[None])[0])[0])


def test_it_finds_what_moves_of_elements_do_not():
    found = 0
    for seed in range(12):
        query = question(seed, 8)
        witness, score = LevelSearch(Polisher(query, [0])).search(query.nominal)
        if witness is not None:
            found += 1
            assert query.box.contains(witness)
            assert violates(query, witness[None])[0]
        else:
            assert score > 0
    assert found >= 6


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_found_where_nothing_is(seed):
    query = question(seed, 10**4)
    assert LevelSearch(Polisher(query, [0])).search(query.nominal)[0] is None
    assert decide(query, Options(timeout=30)).verdict is Verdict.VERIFIED


def test_what_another_attack_suggests_comes_first():
    query = question(1, 4)
    attack = NodeAttack(query, None)
    assert not attack.deepens
    attack.suggest([0], query.nominal[None])
    attack.polish(0, query.box.lo)
    assert attack.deepens
    witness = attack.deepen()
    assert witness is not None
    assert violates(query, witness[None])[0]
