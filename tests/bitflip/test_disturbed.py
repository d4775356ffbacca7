"""What is added to accumulators: as digits of a network of more inputs, and how much flips can add."""

from dataclasses import replace

import numpy as np
import pytest
import random_networks
from tiny_flips import KINDS, flips_of, inputs_of, question, with_all

from bvverify.bitflip import node
from bvverify.bitflip.ask import Question
from bvverify.bitflip.disturbed import Hit, digits, disturbed, strides
from bvverify.bitflip.flips import NONE, hull, units
from bvverify.bitflip.node import Unclear, query_of, ranges_of, slots_of
from bvverify.bitflip.stored import masks
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Clamp, Conv2d, Dense, Reshape, inputs
from bvverify.model.query import Box
from bvverify.model.requant import Qnnpack, ShiftHalfUp, reach
from bvverify.model.staircase import Staircase
from bvverify.model.types import QType, Tensor
from bvverify.run import interpreter


@pytest.mark.parametrize("base", [2, 4, 16, 256])
def test_digits_write_everything_between_and_little_else(base):
    for count in (1, 2, 3, base, base + 1, base**2 - 1, base**2, base**2 + 1, 5 * base**2 // 3, base**3 + 1):
        sizes = strides(count, base)
        assert sizes[-1] == 1
        assert len(sizes) == 1 or base ** (len(sizes) - 1) < count
        rng = np.random.default_rng(count)
        for _ in range(20):
            least, most = sorted(rng.integers(0, count, 2).tolist())
            ranges = digits(least, most, sizes)
            assert all(isinstance(a, int) and isinstance(b, int) and 0 <= a <= b < base for a, b in ranges)
            assert least != most or all(a == b for a, b in ranges)
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


def _drawn(rng, kinds):
    """A network, an input, hits of up to two layers, and what ``disturbed`` makes of them; drawn again where a padding is too wide."""
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
        return network, x, hits, disturbed(network, Box.of(x, x), hits)
    except ValueError as error:
        if "padding is so wide" not in str(error):
            raise
        return _drawn(rng, kinds)


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_the_network_of_digits_adds_what_they_say(kinds, seed):
    rng = np.random.default_rng(seed)
    network, x, hits, made = _drawn(rng, kinds)
    tensor = network.input.tensor
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
@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_no_flip_adds_more_than_its_unit_is_said_to(kinds, kind):
    rng = np.random.default_rng(len(str(kinds)))
    for _ in range(2):
        asked, _ = question(rng, kinds, bits=2, layers=9)
        asked = replace(asked, kinds=(kind,))
        parts, network, xs = asked.parts(), asked.network, inputs_of(asked.box)
        known = ranges_of(network, asked.box)
        point = ranges_of(network, Box.of(asked.box.lo, asked.box.lo))
        for unit, slot in zip(units(parts), slots_of(asked, parts, units(parts), known), strict=True):
            op = network.ops[unit[0]]
            assert (slot.part == NONE).sum() == 1
            (part,) = [p for p in parts if p.op == unit[0]]
            assert len(slot) == 1 + np.atleast_1d(part.values[unit[1]]).size * len(masks(part.bits, 2))
            rows = np.sort(rng.permutation(len(slot))[:12])
            lo, hi = hull(op, parts, slot.at(rows), known.lo[op.x][0], known.hi[op.x][0])
            clean = interpreter.accumulate(op, interpreter.trace(network, xs)[op.x])[:, unit[1]].reshape(len(xs), -1)
            reached = []
            for row in rows.tolist():
                flip = slot.flip(row, parts)
                hit = network if flip is None else with_all(asked, [flip])
                moved = interpreter.accumulate(hit.ops[unit[0]], interpreter.trace(hit, xs)[op.x])[:, unit[1]].reshape(len(xs), -1)
                reached.append(moved - clean)
                # Of one input a flip adds one number, and with none beside it that or nothing.
                ends = hull(op, parts, slot.at(slice(row, row + 1)), point.lo[op.x][0], point.hi[op.x][0])
                assert all(np.array_equal(np.broadcast_to(end, reached[-1][0].shape), reached[-1][0]) for end in ends)
                or_none = (slot.part == NONE) | (np.arange(len(slot)) == row)
                ends = hull(op, parts, slot.at(or_none), point.lo[op.x][0], point.hi[op.x][0])
                for end, f in zip(ends, (np.minimum, np.maximum), strict=True):
                    assert np.array_equal(np.broadcast_to(end, reached[-1][0].shape), f(reached[-1][0], 0))
            assert (np.min(reached, axis=(0, 1)) >= lo).all()
            assert (np.max(reached, axis=(0, 1)) <= hi).all()


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("parameters", [1, 2])
@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_a_node_s_query_holds_every_choice(kinds, parameters, kind, monkeypatch):
    """Every input and choice of flips is an input of the node's query that has the same outputs."""
    rng, seen, tried, images = np.random.default_rng(parameters), [], 0, 0
    monkeypatch.setattr(node, "disturbed", lambda network, box, hits: seen.append(tuple(hits)) or disturbed(network, box, hits))
    for _ in range(60):
        if tried > 30:
            break
        asked, _ = question(rng, kinds, parameters=parameters, layers=9, most=10**15)
        asked = replace(asked, kinds=(kind,))
        parts, xs, size = asked.parts(), inputs_of(asked.box), asked.box.lo.size
        if not parts:
            continue
        known = ranges_of(asked.network, asked.box)
        of = units(parts)
        chosen = sorted(of[i] for i in rng.integers(0, len(of), parameters).tolist())
        if rng.integers(2):
            chosen = [chosen[0]] * parameters
        slots = []
        for slot in slots_of(asked, parts, chosen, known):
            first = int(rng.integers(0, len(slot)))
            slots.append(slot.at(slice(first, first + int(rng.integers(1, 9)))))
        try:
            query = query_of(asked, asked.network, parts, slots)
        except Unclear:
            continue
        hits = seen[-1]
        images += any(isinstance(asked.network.ops[h.op], Conv2d) and h.lo.size > 1 for h in hits)
        assert query.property.label == asked.label
        for _ in range(6):
            made = [slot.flip(int(rng.integers(len(slot))), parts) for slot in slots]
            made = [flip for flip in made if flip is not None]
            if len({(f.part, f.place) for f in made}) < len(made):
                continue
            tried += 1
            x = xs[int(rng.integers(len(xs)))]
            hit = with_all(asked, made)
            tensors = interpreter.trace(hit, x[None])
            digits_of = []
            for h in hits:
                op, old = hit.ops[h.op], asked.network.ops[h.op]
                acc, before = (interpreter.accumulate(o, tensors[op.x])[0, h.channel].ravel() for o in (op, old))
                e = np.clip(acc - before, h.lo, h.hi)
                # What is cut off changes nothing.
                levels = [op.staircase.apply(np.repeat(v[None, None], len(op.bias), axis=1))[0, h.channel] for v in (acc, before + e)]
                assert np.array_equal(*levels)
                left = e - h.lo.min()
                sizes = strides(
                    int(h.hi.max() - h.lo.min()) + 1, asked.network.input.tensor.qtype.hi - asked.network.input.tensor.qtype.lo + 1
                )
                for stride in sizes:
                    digits_of.append(left // stride + asked.network.input.tensor.qtype.lo)
                    left = left % stride
            inner = np.concatenate([x.ravel(), *digits_of])
            assert len(inner) == query.box.lo.size == size + sum(map(len, digits_of))
            assert query.box.contains(inner)
            assert np.array_equal(interpreter.run(query.network, inner[None])[0].ravel(), tensors[hit.output.tensor][0].ravel())
    assert tried > 4
    if "conv" in (kinds or ()):
        assert images > 0


def test_without_a_slot_the_query_is_about_the_network_itself():
    asked, _ = question(np.random.default_rng(0), ("dense",))
    query = query_of(asked, asked.network, asked.parts(), [])
    assert query.network is asked.network
    assert query.box is asked.box


def flat(*ops):
    """A network of two inputs without a reshape."""
    tensors = [Tensor("x", (2,), QType(3, signed=True))]
    tensors += [Tensor(op.name, (2,), QType(8, signed=True)) for op in ops]
    made = Provenance("made", "made", "made", "0" * 64)
    return Network(Input(tensors[0], (1, 2)), tuple(ops), tuple(tensors), Output(len(ops), (1, 2)), made)


def layer(name, x, weight):
    return Dense.of(name, x, np.array(weight), np.array([1, -2]), Staircase(ShiftHalfUp(1), -128, 127))


@pytest.mark.parametrize(
    ("ops", "picks"),
    [
        ((layer("a", 0, [[3, 1], [-2, 4]]), layer("b", 1, [[1, -1], [2, 5]])), ["b (digits)"]),
        ((Clamp("c", 0, -2, 2), layer("b", 1, [[1, -1], [2, 5]])), ["the inputs", "b (digits)"]),
        ((layer("a", 0, [[3, 1], [-2, 4]]), Clamp("c", 0, -2, 2), layer("b", 2, [[1, -1], [2, 5]])), ["the inputs", "b (digits)"]),
    ],
)
def test_a_flat_input_is_read_where_it_lies(ops, picks):
    network = flat(*ops)
    hits = [Hit(i, k % 2, np.array([-5 - k]), np.array([9])) for k, i in enumerate(i for i, op in enumerate(ops) if isinstance(op, Dense))]
    box = Box.of(np.array([-3, -4]), np.array([2, 3]))
    made = disturbed(network, box, hits)
    assert [op.name for op in made.network.ops if op.name in ("the inputs", "b (digits)")] == picks
    rng = np.random.default_rng(0)
    for _ in range(30):
        x, added, inner = rng.integers(box.lo, box.hi + 1), {}, []
        for hit in hits:
            e = rng.integers(hit.lo, hit.hi + 1)
            added[hit.op, hit.channel] = e
            left = e - hit.lo.min()
            for size in strides(int(hit.hi.max() - hit.lo.min()) + 1, 8):
                inner.append(left // size - 4)
                left = left % size
        assert np.array_equal(interpreter.run(made.network, np.concatenate([x, *inner])[None])[0], run_with(network, x, added))


def test_a_reshaped_input_is_read_where_it_lies():
    """The reshape in front of a dense layer goes, and nothing picks the inputs; a second reshape, of something else, stays."""
    for seed in range(5):
        network = random_networks.network(np.random.default_rng(seed), ("dense", "dense"))
        first = next(i for i, op in enumerate(network.ops) if isinstance(op, Dense))
        box = Box.of(*[np.full(network.input.tensor.shape, network.input.tensor.qtype.lo)] * 2)
        made = disturbed(network, box, [Hit(first, 0, np.array([0]), np.array([1]))])
        assert [type(op) for op in made.network.ops] == [type(op) for op in network.ops[1:]]


def test_a_reshaped_input_may_be_read_by_something_else():
    qtype = QType(3, signed=True)
    tensors = [Tensor(name, shape, qtype) for name, shape in (("x", (2, 1)), ("flat", (2,)), ("c", (2,)))]
    tensors.append(Tensor("b", (2,), QType(8, signed=True)))
    ops = Reshape("flat", 0, (2,)), Clamp("c", 1, -2, 2), layer("b", 2, [[1, -1], [2, 5]])
    network = Network(Input(tensors[0], (1, 2, 1)), ops, tuple(tensors), Output(3, (1, 2)), Provenance("made", "made", "made", "0" * 64))
    x, hit = np.array([[-3], [1]]), Hit(2, 1, np.array([-4]), np.array([3]))
    made = disturbed(network, Box.of(x, x), [hit])
    for e in range(-4, 4):
        y = interpreter.run(made.network, np.array([[-3, 1, e]]))[0]
        assert np.array_equal(y, run_with(network, x, {(2, 1): np.array([e])}))


def test_too_many_inputs_are_refused(monkeypatch):
    network = flat(layer("a", 0, [[3, 1], [-2, 4]]))
    box, hits = Box.of(np.zeros(2, int), np.ones(2, int)), [Hit(0, 0, np.array([0]), np.array([7]))]
    monkeypatch.setattr("bvverify.bitflip.disturbed._MOST_INPUTS", 3)
    assert disturbed(network, box, hits).network.input.tensor.shape == (3,)
    monkeypatch.setattr("bvverify.bitflip.disturbed._MOST_INPUTS", 2)
    with pytest.raises(ValueError, match="3 inputs would be needed"):
        disturbed(network, box, hits)
    asked = Question(network, box, 0, ("weight",), None)
    slots = slots_of(asked, asked.parts(), [(0, 0)], ranges_of(network, box))
    with pytest.raises(Unclear, match="inputs would be needed"):
        query_of(asked, network, asked.parts(), slots)


@pytest.mark.parametrize("bits", [6, None])
@pytest.mark.parametrize("levels", [(-3, 4), (2, 2)])
def test_what_is_cut_off_changes_nothing(bits, levels):
    rng, unclear, cut = np.random.default_rng(0), 0, 0
    op = Dense.of("a", 0, np.array([[1], [1]]), np.zeros(2), Staircase(ShiftHalfUp(2), *levels), accumulator_bits=bits)
    every = np.arange(-80, 81)
    for _ in range(120):
        a, b = np.sort(rng.integers(-40, 40, 2) // rng.integers(1, 4))[:, None]
        lo, hi = np.sort(rng.integers(-40, 40, 2))[:, None]
        wraps = bits is not None and bool((np.minimum(a, a + lo) < -32).any() or (np.maximum(b, b + hi) > 31).any())
        # Beside it, or before it, a position that nothing happens to.
        way, at = (1, 0) if rng.integers(2) else (-1, 1)
        a, b, lo, hi = (np.append(side, 0)[::way] for side in (a, b, lo, hi))
        if wraps:
            unclear += 1
            with pytest.raises(Unclear, match="could wrap"):
                node._cut(op, 1, a, b, lo, hi)
            continue
        first, last = node._cut(op, 1, a, b, lo, hi)
        cut += bool((first > lo).any() or (last < hi).any())
        acc = every[(every >= a[at]) & (every <= b[at])]
        for e in range(int(lo[at]), int(hi[at]) + 1):
            inside = int(np.clip(e, first[at], last[at]))
            assert np.array_equal(op.staircase.apply(np.stack([acc + e] * 2, 1)), op.staircase.apply(np.stack([acc + inside] * 2, 1)))
        if levels == (2, 2):
            assert not first.any()
            assert not last.any()
    assert cut > 8
    assert (unclear > 8) == (bits is not None)


def test_accumulators_beyond_the_model_are_unclear():
    multiplier = np.array([2.0, 0.01], np.float32)
    op = Dense.of("a", 0, np.array([[1], [1]]), np.zeros(2), Staircase(Qnnpack(multiplier, 0), -128, 127), accumulator_bits=None)
    for channel in (0, 1):
        limit = int(reach(op.staircase.requant)[channel])
        for a, b, lo, hi, clear in [
            (0, 0, -limit, limit, True), (-1, 0, -limit, 0, False), (0, 1, 0, limit, False), (-5, 5, 5 - limit, limit - 5, True),
            (-5, 5, 4 - limit, 0, False), (-5, 5, 0, limit - 4, False),
        ]:  # fmt: skip
            for way in (1, -1):
                ends = [np.array([v, 0])[::way] for v in (a, b, lo, hi)]
                if clear:
                    node._cut(op, channel, *ends)
                else:
                    with pytest.raises(Unclear, match="beyond which nothing is modelled"):
                        node._cut(op, channel, *ends)
    exact = Dense.of("a", 0, np.array([[1]]), np.zeros(1), Staircase(ShiftHalfUp(2), -3, 4), accumulator_bits=None)
    far = (1 << 48) - 1
    node._cut(exact, 0, *(np.array([v]) for v in (0, 0, -far, far)))
    for lo, hi in ((-far - 1, 0), (0, far + 1)):
        with pytest.raises(Unclear):
            node._cut(exact, 0, *(np.array([v]) for v in (0, 0, lo, hi)))


@pytest.mark.parametrize("seed", range(8))
def test_flips_of_a_unit_come_in_order(seed):
    asked, _ = question(np.random.default_rng(seed), ("dense", "dense"), layers=9, moving=4, most=10**9)
    asked = replace(asked, kinds=("weight", "bias"))
    parts, known = asked.parts(), ranges_of(asked.network, asked.box)
    for unit, slot in zip(units(parts), slots_of(asked, parts, units(parts), known), strict=True):
        op = asked.network.ops[unit[0]]
        ends = [hull(op, parts, slot.at(slice(k, k + 1)), known.lo[op.x][0], known.hi[op.x][0]) for k in range(len(slot))]
        middle = [int((lo + hi).sum()) for lo, hi in ends]
        assert middle == sorted(middle)
        assert {f for f in (slot.flip(k, parts) for k in range(len(slot))) if f is not None} == {
            f for f in flips_of(asked) if (parts[f.part].op, f.place[0]) == unit
        }
