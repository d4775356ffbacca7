"""On networks too large to enumerate the search and the bit-vector solver agree."""

import numpy as np
import pytest

from bvverify import pipeline
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Dense
from bvverify.model.query import Box, Property, Query
from bvverify.model.requant import Float32HalfEven, ShiftHalfUp
from bvverify.model.result import Verdict
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, QType, Tensor

INPUTS, HIDDEN, CLASSES, RADIUS = 12, 6, 3, 2


def _query(seed):
    rng = np.random.default_rng(seed)
    tensors, ops = [Tensor("in", (INPUTS,), QType(8, False))], []
    for k, shape in enumerate([(HIDDEN, INPUTS), (HIDDEN, HIDDEN), (CLASSES, HIDDEN)]):
        last = k == 2
        multiplier = np.array([rng.uniform(0.02, 0.2)], np.float32)
        requant = Float32HalfEven(multiplier, 0) if rng.integers(2) else ShiftHalfUp(int(rng.integers(2, 5)))
        stairs = Staircase(requant, -31 if last else 0, 31)
        bias = rng.integers(-60, 61, shape[0]) - (0 if k else 128)
        ops.append(Dense.of(f"layer {k}", k, rng.integers(-7, 8, shape), bias, stairs))
        tensors.append(Tensor(f"layer {k}", (shape[0],), INT8))
    net = Network(
        Input(tensors[0], (1, INPUTS)), tuple(ops), tuple(tensors), Output(3, (1, CLASSES)), Provenance("net", "t", "t", "0" * 64)
    )
    x = rng.integers(10, 40, INPUTS)
    box = Box.of(x - RADIUS, x + RADIUS)
    label = int(pipeline.interpreter.run(net, x[None])[0].argmax())
    return Query(net, box, Property.robustness(label, CLASSES), x)


@pytest.mark.parametrize("block", range(10))
def test_the_search_and_the_solver_agree(block):
    for seed in range(block * 5, block * 5 + 5):
        query = _query(seed)
        search = pipeline.decide(query, pipeline.Options(timeout=120, stages=frozenset({"root", "search"}), runtimes=False))
        solver = pipeline.decide(query, pipeline.Options(engine="smt", timeout=120, runtimes=False, trust_solver=True))
        assert search.verdict is solver.verdict, seed
        assert search.verdict is not Verdict.UNKNOWN, seed
