"""The step from a question to its clauses: exhaustive on tiny networks of every operation, by random inputs at full width."""

import numpy as np
import pytest
import random_networks
from pysat.solvers import Solver

from bvverify import examples
from bvverify.certify.ranges import ANYTHING, Frame, propagate
from bvverify.cli.question import ask_robust
from bvverify.model.certificate import INPUT, units
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import AvgPool, Dense, SequentialFloat32
from bvverify.model.query import Box, Property, Query
from bvverify.model.requant import Float32HalfEven, ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, UINT8, Tensor
from bvverify.proofs.clauses import question
from bvverify.run import interpreter


def ranges_of(query, limits=None):
    return propagate(Frame(query.network), query.box.lo[None], query.box.hi[None], limits or {})


def pins(asked, x):
    """Assumptions that say which input it is."""
    words = zip(asked.tensors[0].flat, x.ravel().tolist(), strict=True)
    return [b if (value - word.base) >> i & 1 else -b for word, value in words for i, b in enumerate(word.bits)]


def _exact(network):
    return not any(isinstance(op, AvgPool) and isinstance(op.rule, SequentialFloat32) for op in network.ops)


@pytest.mark.parametrize("kind", random_networks.KINDS)
def test_an_input_satisfies_the_clauses_when_it_meets_the_conjunction_and_not_otherwise(kind):
    """Every input of the box, on networks that have one operation of the kind and others; all tensors come out as the interpreter's."""
    met = 0
    for seed in range(12):
        query, _ = random_networks.question(seed, [kind, "max", "dense"][: 1 + seed % 3], 1 << 7)
        x = random_networks.points(query.box)
        tensors = interpreter.trace(query.network, x)
        y = tensors[query.network.output.tensor].reshape(len(x), -1)
        ranges = ranges_of(query)
        for conjunction in query.property.violation:
            asked = question(query.network, ranges, conjunction)
            hit = np.all([row.value(x.reshape(len(x), -1), y) <= row.bound for row in conjunction], axis=0)
            with Solver("g4", bootstrap_with=asked.gates.lists()) as solver:
                for point in range(len(x)):
                    satisfied = solver.solve(assumptions=pins(asked, x[point]))
                    assert satisfied or not hit[point], (seed, point)
                    if _exact(query.network):
                        assert satisfied == hit[point], (seed, point)
                    if satisfied and _exact(query.network):
                        met += 1
                        true = {v for v in solver.get_model() if v > 0}
                        for index, tensor in enumerate(tensors):
                            assert (asked.tensor(index, true) == tensor[point]).all()
    assert met > 20 or kind == "float mean"


@pytest.mark.parametrize("block", range(4))
def test_the_inputs_of_a_part_are_all_there_and_no_others(block):
    """Splits of accumulators and inputs, at random: the clauses of a part are met by its own inputs alone."""
    inside = outside = 0
    for seed in range(block * 15, block * 15 + 15):
        query, _ = random_networks.question(40_000 + seed, ["dense", "clamp"][: 1 + seed % 2], 1 << 6)
        rng = np.random.default_rng(seed)
        network, x = query.network, random_networks.points(query.box)
        tensors = interpreter.trace(network, x)
        acc = {INPUT: x.reshape(len(x), -1)}
        layers = [i for i, op in enumerate(network.ops) if hasattr(op, "centred")]
        acc |= {i: interpreter.accumulate(network.ops[i], tensors[network.ops[i].x]).reshape(len(x), -1) for i in layers}
        limits, member = {}, np.ones(len(x), bool)
        for op in (INPUT, *layers):
            size = units(network, op)
            lo, hi = np.full((1, size), -ANYTHING), np.full((1, size), ANYTHING)
            unit, at = int(rng.integers(size)), int(rng.choice(acc[op][:, 0]))
            (lo if rng.integers(2) else hi)[0, unit] = at
            limits[op] = lo, hi
            member &= ((lo <= acc[op]) & (acc[op] <= hi)).all(axis=1)
        asked = question(network, ranges_of(query, limits), ())
        with Solver("g4", bootstrap_with=asked.gates.lists()) as solver:
            for point in range(len(x)):
                # An input outside may have bits that the narrower words of the part do not even have.
                words = zip(asked.tensors[0].flat, x[point].ravel().tolist(), strict=True)
                fits = all(word.lo <= value <= word.hi for word, value in words)
                assert (fits and solver.solve(assumptions=pins(asked, x[point]))) == member[point]
                inside, outside = inside + member[point], outside + (not member[point])
    assert min(inside, outside) > 50


def _eight_bits(requant):
    """Eight uint8 inputs, any values; two layers of int8 weights."""
    rng = np.random.default_rng(2)
    stairs = [Staircase(requant, 0, 255), Staircase(requant, -128, 127)]
    ops = [
        Dense.of(f"layer {k}", k, rng.integers(-127, 128, (8, 8)), rng.integers(-3000, 3000, 8), stairs[k], input_zero_point=3)
        for k in range(2)
    ]
    tensors = (Tensor("in", (8,), UINT8), Tensor("hidden", (8,), UINT8), Tensor("out", (8,), INT8))
    made = Provenance("net", "test", "test", "0" * 64)
    network = Network(Input(tensors[0], (1, 8)), tuple(ops), tensors, Output(2, (1, 8)), made)
    return Query(network, Box.of(np.zeros(8, np.int64), np.full(8, 255)), Property((), ""))


def _digits():
    source = f"{examples.path(examples.IMAGES)}::7"
    return ask_robust(examples.path("digits_mlp_qop.onnx"), source, 2, None, None, None).queries[0]


FULL_WIDTH = {
    "float32 multipliers": lambda: _eight_bits(Float32HalfEven(np.full(8, 0.0021, np.float32), 7)),
    "shifts": lambda: _eight_bits(ShiftHalfUp(9)),
    "digits": _digits,
}


@pytest.mark.parametrize("name", FULL_WIDTH)
def test_at_full_width_random_inputs_give_the_interpreters_tensors(name):
    query = FULL_WIDTH[name]()
    asked = question(query.network, ranges_of(query), ())
    rng = np.random.default_rng(3)
    with Solver("g4", bootstrap_with=asked.gates.lists()) as solver:
        for x in rng.integers(query.box.lo, query.box.hi + 1, (20, *query.box.lo.shape)):
            assert solver.solve(assumptions=pins(asked, x))
            true = {v for v in solver.get_model() if v > 0}
            for index, tensor in enumerate(interpreter.trace(query.network, x[None])):
                assert (asked.tensor(index, true) == tensor[0]).all(), index
