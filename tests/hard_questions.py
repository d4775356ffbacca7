"""A question that takes a search of some two hundred nodes, in two versions: it holds by one, or is violated by the least there is."""

from functools import cache

import numpy as np
import random_networks

from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Dense
from bvverify.model.query import Box, Linear, Property, Query
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, UINT8, QType, Tensor, frozen_array
from bvverify.run import interpreter


@cache
def _made(seed):
    """4 inputs, two hidden layers, two rows over the outputs and the least value of each on the box, by enumeration."""
    rng = np.random.default_rng(seed)
    ops, tensors = [], [Tensor("in", (4,), UINT8)]
    for k, shape in enumerate([(8, 4), (8, 8), (2, 8)]):
        last = k == 2
        stairs = Staircase(ShiftHalfUp(3), -60 if last else 0, 60)
        ops.append(Dense.of(f"layer {k}", k, rng.integers(-7, 8, shape), rng.integers(-20, 21, shape[0]), stairs))
        tensors.append(Tensor(f"layer {k}", (shape[0],), INT8 if last else QType(7, False)))
    network = Network(
        Input(tensors[0], (1, 4)), tuple(ops), tuple(tensors), Output(3, (1, 2)), Provenance("net", "test", "fixed", "a" * 64)
    )
    x = np.array([40, 90, 20, 70])
    box = Box.of(x - 7, x + 7)
    y = interpreter.run(network, random_networks.points(box))
    rows = [np.array([1, -1]), np.array([-1, 1])]
    return network, box, rows, [int((y @ r).min()) for r in rows]


def query(by, seed=0):
    """``by`` -1: holds; 0 and more: is violated; ``seed`` makes others of the kind."""
    network, box, rows, least = _made(seed)
    violation = tuple((Linear(frozen_array(r, np.int64), v + by, None),) for r, v in zip(rows, least, strict=True))
    return Query(network, box, Property(violation, "test"))
