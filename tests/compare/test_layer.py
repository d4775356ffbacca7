"""One layer alone, exhaustively at small widths; subset sums against enumeration."""

import numpy as np
import random_networks
from compare.test_against_enumeration import other_reading

from bvverify.compare.answer import Answer
from bvverify.compare.layer import compare_layer
from bvverify.compare.reach import Form, Unsettled, search, solve
from bvverify.errors import UnsupportedError
from bvverify.run import interpreter


def test_sums_are_reached_exactly_when_enumeration_reaches_them():
    rng = np.random.default_rng(0)
    reached = missed = quick = 0
    for _ in range(400):
        size = int(rng.integers(1, 5))
        of = Form(rng.integers(-9, 10, size) * int(rng.choice([1, 2, 3])), int(rng.integers(-5, 6)))
        lo = rng.integers(-3, 2, size)
        hi = lo + rng.integers(0, 4, size)
        every = np.stack([g.ravel() for g in np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(lo, hi, strict=True)))], axis=1)
        first = int(rng.integers(-40, 40))
        last = first + int(rng.integers(0, 3))
        value = of.value(every)
        exists = bool(((first <= value) & (value <= last)).any())
        x = solve(of, lo, hi, first, last)
        assert not isinstance(x, Unsettled)
        assert (x is not None) == exists
        found = search(of, lo, hi, first, last, rng, 16)
        for hit in [*found, *([] if x is None else [x])]:
            assert ((lo <= hit) & (hit <= hi)).all()
            assert first <= int(of.value(hit[None])[0]) <= last
        reached, missed, quick = reached + exists, missed + (not exists), quick + bool(len(found))
    assert min(reached, missed, quick) > 50


def test_each_layer_is_decided_as_enumeration_decides_it():
    """Layers of at most 2^10 inputs, of every kind, on everything that their type allows."""
    answers, wrapped = {Answer.EQUAL: 0, Answer.DIFFERS: 0}, 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        a = random_networks.network(rng, [str(rng.choice(["dense", "conv", "mean", "add", "table", "clamp", "max"]))])
        b = other_reading(rng, a)
        qtype, size = a.input.tensor.qtype, a.input.tensor.size
        if (1 << qtype.bits) ** size > 1 << 10:
            continue
        grid = np.meshgrid(*[np.arange(qtype.lo, qtype.hi + 1)] * size, indexing="ij")
        x = np.stack([g.ravel() for g in grid], axis=1).reshape(-1, *a.input.tensor.shape)
        op, other = a.ops[0], b.ops[0]
        if op.name.startswith("dense"):  # behind a reshape
            x, op, other = x.reshape(len(x), -1), a.ops[1], b.ops[1]
        reads = [x, x] if op.name.startswith("add") else [x]
        try:
            made = compare_layer(a, b, op.name)
        except UnsupportedError:
            wrapped += 1
            continue
        differ = bool((interpreter.evaluate(op, reads) != interpreter.evaluate(other, reads)).any())
        assert made.answer is (Answer.DIFFERS if differ else Answer.EQUAL), (seed, op)
        answers[made.answer] += 1
        if made.parting is not None and made.parting.roundings:
            one, two = made.parting.roundings
            assert (one.result, two.result) == made.parting.results
            assert abs(one.distance) <= 0.5
            assert one.value == one.tie + one.distance
    assert min(answers.values()) > 10, answers
    assert 0 < wrapped < 50
