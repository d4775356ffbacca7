"""The saturating-pairs accumulator against a plain definition of vpmaddubsw, and the verdicts about it against enumeration."""

import numpy as np
import pytest
import random_networks
import z3

from bvverify import verify
from bvverify.bounds import interval
from bvverify.encode.network import encode
from bvverify.model import saturating_pairs
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Conv2d, Dense, Window
from bvverify.model.query import Box, Query
from bvverify.model.requant import Float32HalfEven, ShiftHalfUp
from bvverify.model.result import Verdict
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, UINT8, QType, Tensor
from bvverify.run import interpreter

INT16 = QType(16, signed=True)
PLAIN = Staircase(ShiftHalfUp(3), -(1 << 15), (1 << 15) - 1)


def saturating_sum(x, w, zero, bias):
    """One output of one input, in Python's integers: what the instruction does, pair by pair."""
    x, w = [*x, 0], [*w, 0]
    total = 0
    for i in range(0, len(x) - 1, 2):
        total += min(max(x[i] * w[i] + x[i + 1] * w[i + 1], -32768), 32767)
    return total - zero * sum(w) + bias


def built(layers, inputs, *, pairs=True):
    """A network of dense layers (weight, bias, staircase, zero point, type) on uint8; with ``pairs`` its accumulator saturates."""
    ops, tensors = [], [Tensor("x", (inputs,), UINT8)]
    for k, (weight, bias, staircase, zero, qtype) in enumerate(layers):
        op = Dense.of(f"layer {k}", len(ops), weight, bias, staircase, input_zero_point=zero)
        parts = saturating_pairs.expand(op, len(ops) + 1) if pairs else None
        for part in (op,) if parts is None else parts:
            ops.append(part)
            if part.name != op.name:
                size = len(part.weight) if isinstance(part, Dense) else inputs + len(ops[-2].weight)
                tensors.append(Tensor(part.name, (size,), saturating_pairs.EXCESS))
        tensors.append(Tensor(op.name, (len(weight),), qtype))
        inputs = len(weight)
    made = Provenance("made", "made", "made", "0" * 64)
    return Network(Input(tensors[0], (1, *tensors[0].shape)), tuple(ops), tuple(tensors), Output(len(ops), (1, inputs)), made)


def accumulator(network, x):
    """The accumulator of the last layer."""
    op = network.ops[-1]
    return interpreter.accumulate(op, interpreter.trace(network, x)[op.x])


def test_one_pair_at_every_edge():
    """Weights and inputs at all the places where one or two products reach the ends of int16, in every combination."""
    weights = np.array([-128, -127, -65, -64, -1, 0, 1, 64, 65, 126, 127])
    values = np.array([0, 1, 2, 127, 128, 129, 252, 253, 254, 255])
    w = np.stack([g.ravel() for g in np.meshgrid(weights, weights)], axis=1)
    x = np.stack([g.ravel() for g in np.meshgrid(values, values)], axis=1)
    bias = np.arange(len(w)) - 50
    acc = accumulator(built([(w, bias, PLAIN, 3, INT16)], 2), x)
    expected = [[saturating_sum(a.tolist(), b.tolist(), 3, int(c)) for b, c in zip(w, bias, strict=True)] for a in x]
    assert (acc == expected).all()
    exact = accumulator(built([(w, bias, PLAIN, 3, INT16)], 2, pairs=False), x)
    assert (exact != expected).any(axis=1).sum() > 10


@pytest.mark.parametrize("inputs", [1, 2, 3, 5, 8])
def test_random_layers_of_any_length(inputs):
    rng = np.random.default_rng(inputs)
    w, bias = rng.choice([-128, 127, 90, -90, 10], (6, inputs)), rng.integers(-9999, 9999, 6)
    x = rng.choice([0, 255, 200, 128, 60], (200, inputs))
    acc = accumulator(built([(w, bias, PLAIN, 77, INT16)], inputs), x)
    assert (acc == [[saturating_sum(a.tolist(), b.tolist(), 77, int(c)) for b, c in zip(w, bias, strict=True)] for a in x]).all()


def test_pairs_that_fit_cost_nothing():
    op = Dense.of("layer", 0, np.array([[64, 64, 127, -128, 127]]), np.zeros(1, np.int64), PLAIN)
    assert saturating_pairs.expand(op, 1) is None
    # ... but in another order two of them would not fit.
    assert not saturating_pairs.in_any_order(op)
    assert saturating_pairs.in_any_order(Conv2d.of("c", 0, np.full((1, 4, 1, 1), 64), np.zeros(1, np.int64), PLAIN, window=Window((1, 1))))


@pytest.mark.parametrize(("weight", "zero", "why"), [([[200, 200]], 0, "int8"), ([[100, 100]], 5, "zero point 0")])
def test_other_weights_are_refused(weight, zero, why):
    op = Dense.of("layer", 0, np.array(weight), np.zeros(1, np.int64), PLAIN, weight_zero_point=zero)
    with pytest.raises(ValueError, match=why):
        saturating_pairs.expand(op, 1)


def two_layers(rng, inputs):
    """Layers of which both saturate: bright hidden values, weights at both ends."""
    hidden = Staircase(Float32HalfEven(np.array([2.0**-8], np.float32), 0), 0, 255)
    last = Staircase(Float32HalfEven(np.array([2.0**-9], np.float32), 0), -128, 127)
    draw = lambda *shape: rng.choice([-128, -100, 70, 127], shape)  # noqa: E731
    return [
        (draw(4, inputs), rng.integers(20_000, 60_000, 4), hidden, int(rng.integers(0, 60)), UINT8),
        (draw(3, 4), rng.integers(-9999, 9999, 3), last, 0, INT8),
    ]


def question(seed):
    rng = np.random.default_rng(seed)
    layers = two_layers(rng, 3)
    network, exact = built(layers, 3), built(layers, 3, pairs=False)
    centre = rng.integers(110, 240, 3)
    where = Box.of(centre - rng.integers(0, 6, 3), centre + rng.integers(0, 6, 3))
    x = random_networks.points(where)
    y = interpreter.run(network, x)
    asked = random_networks.prop(rng, network, where, y)
    differs = bool((y != interpreter.run(exact, x)).any())
    return Query(network, where, asked), bool(asked.violated(x, y).any()), differs


def test_verdicts_are_those_of_enumeration():
    """Both engines and the encoding on 15 networks, of which most saturate on the box, with both verdicts among them."""
    verdicts, saturating = set(), 0
    for seed in range(15, 30):
        query, violated, differs = question(seed)
        saturating += differs
        expected = Verdict.FALSIFIED if violated else Verdict.VERIFIED
        verdicts.add(expected)
        result = verify.decide(query, verify.Options(timeout=120, runtimes=False))
        assert result.verdict is expected, seed
        bounds = interval.propagate(query.network, query.box)
        encoding = encode(query, bounds)
        solver = z3.Solver()
        solver.add(*encoding.constraints, encoding.violation)
        assert solver.check() == (z3.sat if violated else z3.unsat), seed
        assert bounds.contains(interpreter.trace(query.network, random_networks.points(query.box)))
    assert len(verdicts) == 2
    assert saturating > 7


def test_the_smt_engine_decides():
    for seed in range(40, 42):
        query, violated, _ = question(seed)
        result = verify.decide(query, verify.Options(engine="smt", timeout=120, runtimes=False))
        assert result.verdict is (Verdict.FALSIFIED if violated else Verdict.VERIFIED), seed
