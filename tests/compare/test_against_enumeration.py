"""On networks small enough to enumerate, every answer is the enumeration's: outputs, class, agreement alone, and what a start is."""

from dataclasses import replace

import numpy as np
import pytest
import random_networks

from bvverify import pipeline
from bvverify.compare.answer import Answer
from bvverify.compare.asked import differing_classes, differing_outputs
from bvverify.compare.compare import compare
from bvverify.compare.joint import join
from bvverify.model.ops import Add, AvgPool, Conv2d, Dense, FmaAdd, ShiftAdd, SumThenRequantise
from bvverify.model.requant import Float32HalfEven, Float64Away, RationalHalfUp, real_multiplier
from bvverify.model.staircase import Staircase
from bvverify.model.types import frozen_array
from bvverify.run import interpreter


def other_reading(rng, network, *, sums=False):
    """The same network with some roundings replaced by others of nearly the same multiplier; with ``sums`` also some biases."""
    ops = tuple(_other(rng, op) if rng.integers(4) else op for op in network.ops)
    if sums:
        ops = tuple(_other_bias(rng, op) if isinstance(op, Dense | Conv2d) and rng.integers(3) == 0 else op for op in ops)
    return replace(network, ops=ops, provenance=replace(network.provenance, semantics="another"))


def _other(rng, op):
    match op:
        case Dense() | Conv2d():
            return replace(op, staircase=_staircase(rng, op.staircase))
        case AvgPool(rule=SumThenRequantise(input_zero_point=zero, staircase=staircase)):
            return replace(op, rule=SumThenRequantise(zero, _staircase(rng, staircase)))
        case Add(rule=FmaAdd() as rule) if rng.integers(2):
            return replace(op, rule=FmaAdd(rule.ra, rule.rb, float(np.float32(rule.offset + rng.choice([0.1, -0.4])))))
        case Add(rule=ShiftAdd() as rule) if rng.integers(2):
            return replace(op, rule=replace(rule, bias=rule.bias + int(rng.choice([-1, 1]))))
    return op


def _other_bias(rng, op):
    return replace(op, bias=frozen_array(op.bias + rng.integers(-2, 3, op.bias.shape), np.int64))


def _staircase(rng, staircase):
    multipliers = real_multiplier(staircase.requant)
    zero = getattr(staircase.requant, "zero_point", 0)
    floats = np.array([float(m) for m in multipliers])
    match int(rng.integers(4)):
        case 0:
            requant = RationalHalfUp(multipliers, zero)
        case 1:
            requant = Float64Away(floats, zero)
        case 2:
            requant = Float32HalfEven(floats.astype(np.float32), zero)
        case _:
            requant = Float32HalfEven((floats * 1.2).astype(np.float32), zero)
    return Staircase(requant, staircase.lo, staircase.hi)


def pair(seed, kinds=None):
    rng = np.random.default_rng(seed)
    a = random_networks.network(rng, kinds)
    box = random_networks.box(rng, a, 1 << 8)
    b = other_reading(rng, a, sums=True)
    x = random_networks.points(box)
    ours, theirs = (interpreter.run(n, x).reshape(len(x), -1) for n in (a, b))
    return a, b, box, x, ours, theirs


def _differ(ours, theirs, by_class):
    return bool((ours.argmax(axis=1) != theirs.argmax(axis=1)).any() if by_class else (ours != theirs).any())


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("differ", [False, True])
def test_the_answer_is_that_of_enumeration(differ, by_class):
    """Of the pairs that part somewhere on the box, the first six that answer one way."""
    asked = 0
    for seed in range(300):
        if asked == 6:
            break
        a, b, box, x, ours, theirs = pair(seed)
        parted = any((s != t).any() for s, t in zip(interpreter.trace(a, x), interpreter.trace(b, x), strict=True))
        if not parted or _differ(ours, theirs, by_class) is not differ:
            continue
        asked += 1
        made = compare(a, b, box, by_class=by_class, options=pipeline.Options(timeout=60, runtimes=False))
        assert made.answer is (Answer.DIFFERS if differ else Answer.EQUAL), seed
        if made.witnesses is not None:
            one, other = made.witnesses
            assert np.array_equal(one.input, other.input)
            assert box.contains(one.input)
            assert np.array_equal(interpreter.run(a, one.input[None])[0], one.output)
            assert np.array_equal(interpreter.run(b, one.input[None])[0], other.output)
            assert made.parting is not None
    assert asked == 6


def test_the_joint_network_computes_both_and_its_question_is_theirs():
    shared = joined = 0
    for seed in range(1000, 1060):
        a, b, box, x, ours, theirs = pair(seed)
        joint = join(a, b, box)
        if joint.network is None:
            assert np.array_equal(ours, theirs), seed
            shared += 1
            continue
        joined += 1
        both = interpreter.run(joint.network, x).reshape(len(x), -1)
        assert np.array_equal(both, np.concatenate([ours, theirs], axis=1)), seed
        flat = x.reshape(len(x), -1)
        assert np.array_equal(differing_outputs(joint).violated(flat, both), (ours != theirs).any(axis=1))
        assert np.array_equal(differing_classes(joint).violated(flat, both), ours.argmax(axis=1) != theirs.argmax(axis=1))
    assert shared > 10
    assert joined > 10


def test_a_difference_begins_only_where_agreement_says_that_it_may():
    """The first tensor to differ, on any input of the box, is one of the starts, at one of its elements."""
    begun = 0
    for seed in range(2000, 2080):
        a, b, box, x, _, _ = pair(seed)
        starts = {s.op: s.elements for s in join(a, b, box).starts}
        ours, theirs = interpreter.trace(a, x), interpreter.trace(b, x)
        equal = np.ones(len(x), bool)
        for index in range(len(a.ops)):
            differ = (ours[index + 1] != theirs[index + 1]) & equal.reshape(-1, *([1] * (ours[index + 1].ndim - 1)))
            may = starts.get(index, np.zeros(a.tensors[index + 1].shape, bool))
            assert not (differ & ~may).any(), (seed, a.ops[index].name)
            begun += int(differ.any())
            equal &= ~differ.reshape(len(x), -1).any(axis=1)
    assert begun > 20
