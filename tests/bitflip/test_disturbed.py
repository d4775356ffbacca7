"""What is added to accumulators: as digits of a network of more inputs, and how much flips can add."""

import numpy as np
import pytest
import random_networks
from tiny_flips import KINDS, flips_of, inputs_of, question, with_all

from bvverify.bitflip.disturbed import Hit, digits, disturbed, strides
from bvverify.bitflip.flips import NONE, hull, of_unit, units
from bvverify.bitflip.node import Unclear, query_of, ranges_of, slots_of
from bvverify.model.ops import Conv2d, Dense, inputs
from bvverify.model.query import Box
from bvverify.run import interpreter


@pytest.mark.parametrize("base", [2, 4, 16, 256])
def test_digits_write_everything_between_and_little_else(base):
    for count in (1, 2, 3, base, base + 1, base**2 - 1, base**2, base**2 + 1, 5 * base**2 // 3, base**3 + 1):
        sizes = strides(count, base)
        assert sizes[-1] == 1
        rng = np.random.default_rng(count)
        for _ in range(20):
            least, most = sorted(rng.integers(0, count, 2).tolist())
            ranges = digits(least, most, sizes)
            assert all(0 <= a <= b < base for a, b in ranges)
            # Greedily each value finds its digits.
            for value in {least, most, *rng.integers(least, most + 1, 10).tolist()}:
                left = value
                for size, (a, b) in zip(sizes, ranges, strict=True):
                    assert a <= left // size <= b
                    left %= size
                assert left == 0
            reached = [sum(s * side[k] for s, side in zip(sizes, ranges, strict=True)) for k in (0, 1)]
            assert least - sizes[0] < reached[0] <= least
            assert most <= reached[1] < most + 2 * sizes[0]


def run_with(network, x, added):
    """The output when ``added[op, channel]`` (positions,) is added to accumulators."""
    tensors = [x[None]]
    for index, op in enumerate(network.ops):
        xs = [tensors[t] for t in inputs(op)]
        mine = {channel: e for (i, channel), e in added.items() if i == index}
        if not mine:
            tensors.append(interpreter.evaluate(op, xs))
            continue
        acc = interpreter.accumulate(op, xs[0]).copy()
        for channel, e in mine.items():
            acc[0, channel] += e.reshape(acc[0, channel].shape)
        tensors.append(op.staircase.apply(interpreter.wrap(acc, op.accumulator_bits)))
    return tensors[network.output.tensor][0]


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_the_network_of_digits_adds_what_they_say(kinds, seed):
    rng = np.random.default_rng(seed)
    network = random_networks.network(rng, kinds)
    tensor = network.input.tensor
    layers = [i for i, op in enumerate(network.ops) if isinstance(op, Dense | Conv2d)]
    hits = []
    for index in rng.permutation(layers)[:2].tolist():
        positions = int(np.prod(network.tensors[index + 1].shape[1:]))
        lo = rng.integers(-60, 20, positions)
        hits.append(Hit(index, int(rng.integers(len(network.ops[index].bias))), lo, lo + rng.integers(0, 80, positions)))
    x = rng.integers(tensor.qtype.lo, tensor.qtype.hi + 1, tensor.shape)
    try:
        made = disturbed(network, Box.of(x, x), hits)
    except ValueError as error:
        if "padding is so wide" not in str(error):
            raise
        pytest.skip("a convolution without an anchor")
    assert made.network.input.tensor.shape == made.box.lo.shape
    assert (made.box.lo[: tensor.size] == x.ravel()).all()
    for _ in range(10):
        added, inner = {}, made.box.lo.copy()
        at = tensor.size
        for hit in hits:
            e = rng.integers(hit.lo, hit.hi + 1)
            added[hit.op, hit.channel] = e
            sizes = strides(int(hit.hi.max() - hit.lo.min()) + 1, tensor.qtype.hi - tensor.qtype.lo + 1)
            left = e - hit.lo.min()
            for size in sizes:
                inner[at : at + len(e)] = left // size + tensor.qtype.lo
                left, at = left % size, at + len(e)
        assert at == len(inner)
        assert made.box.contains(inner)
        assert np.array_equal(interpreter.run(made.network, inner[None])[0], run_with(network, x, added))


@pytest.mark.parametrize("kinds", KINDS)
def test_no_flip_adds_more_than_its_unit_is_said_to(kinds):
    rng = np.random.default_rng(len(str(kinds)))
    for _ in range(4):
        asked, _ = question(rng, kinds, bits=2, layers=9)
        parts, network, xs = asked.parts(), asked.network, inputs_of(asked.box)
        known = ranges_of(network, asked.box)
        for unit, slot in zip(units(parts), slots_of(asked, parts, units(parts), known), strict=True):
            op = network.ops[unit[0]]
            assert (slot.part == NONE).sum() == 1
            assert len(slot) == 1 + sum(len(np.atleast_1d(p.values[unit[1]]).ravel()) * 36 for p in parts if p.op == unit[0])
            rows = np.sort(rng.permutation(len(slot))[:12])
            lo, hi = hull(op, parts, slot.at(rows), known.lo[op.x][0], known.hi[op.x][0])
            clean = interpreter.accumulate(op, interpreter.trace(network, xs)[op.x])[:, unit[1]].reshape(len(xs), -1)
            reached = []
            for row in rows.tolist():
                flip = slot.flip(row, parts)
                hit = network if flip is None else with_all(asked, [flip])
                moved = interpreter.accumulate(hit.ops[unit[0]], interpreter.trace(hit, xs)[op.x])[:, unit[1]].reshape(len(xs), -1)
                reached.append(moved - clean)
            assert (np.min(reached, axis=(0, 1)) >= lo).all()
            assert (np.max(reached, axis=(0, 1)) <= hi).all()
            if op.x == 0 or all(t == 0 for t in inputs(network.ops[op.x - 1])):
                # What reads the input itself is bounded exactly, but for a box of one input only.
                point = ranges_of(network, Box.of(asked.box.lo, asked.box.lo))
                lo, hi = hull(op, parts, slot.at(rows), point.lo[op.x][0], point.hi[op.x][0])
                assert (np.min(reached, axis=(0, 1)) <= lo).all()
                assert (np.max(reached, axis=(0, 1)) >= hi).all()


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("parameters", [1, 2])
def test_a_node_s_query_holds_every_choice(kinds, parameters):
    """Every input and choice of flips is met by an input of the node's query that has the same outputs."""
    rng = np.random.default_rng(parameters)
    asked, _ = question(rng, kinds, parameters=parameters, layers=9, most=10**9)
    parts, xs = asked.parts(), inputs_of(asked.box)
    known = ranges_of(asked.network, asked.box)
    flips = dict(zip(units(parts), slots_of(asked, parts, units(parts), known), strict=True))
    for _ in range(8):
        chosen = [units(parts)[i] for i in sorted(rng.integers(0, len(flips), parameters).tolist())]
        slots = []
        for unit in chosen:
            slot = flips[unit]
            first = int(rng.integers(0, len(slot)))
            slots.append(slot.at(slice(first, first + int(rng.integers(1, 20)))))
        try:
            query = query_of(asked, asked.network, parts, slots)
        except Unclear:
            continue
        digits_of = inputs_of(Box.of(query.box.lo[xs[0].size :], query.box.hi[xs[0].size :])) if _few(query, xs) else None
        if digits_of is None:
            continue
        reached = set()
        for x in xs:
            y = interpreter.run(query.network, np.concatenate([np.repeat(x.reshape(1, -1), len(digits_of), axis=0), digits_of], axis=1))
            reached |= {(x.tobytes(), row.tobytes()) for row in y.reshape(len(y), -1)}
        for _ in range(10):
            made = [slot.flip(int(rng.integers(len(slot))), parts) for slot in slots]
            made = [flip for flip in made if flip is not None]
            if len({(f.part, f.place) for f in made}) < len(made):
                continue
            y = interpreter.run(with_all(asked, made), xs).reshape(len(xs), -1)
            assert all((x.tobytes(), row.tobytes()) in reached for x, row in zip(xs, y, strict=True))


def _few(query, xs):
    wide = query.box.hi[xs[0].size :] - query.box.lo[xs[0].size :] + 1
    return np.prod(wide, dtype=float) * len(xs) <= 20_000


def test_flips_of_a_unit_come_in_order():
    asked, _ = question(np.random.default_rng(3), ("dense",), layers=9)
    parts, known = asked.parts(), ranges_of(asked.network, asked.box)
    unit = units(parts)[0]
    op = asked.network.ops[unit[0]]
    slot = of_unit(op, parts, unit, 1, known.lo[op.x][0], known.hi[op.x][0])
    ends = [hull(op, parts, slot.at(slice(k, k + 1)), known.lo[op.x][0], known.hi[op.x][0]) for k in range(len(slot))]
    middle = [int((lo + hi).sum()) for lo, hi in ends]
    assert middle == sorted(middle)
    assert {f for f in (slot.flip(k, parts) for k in range(len(slot))) if f is not None} == {
        f for f in flips_of(asked) if (parts[f.part].op, f.place[0]) == unit
    }
