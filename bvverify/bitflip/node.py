"""One query of a plain network for many choices of flips at once: what a node of a proof comes to, for search and kernel alike.

A **slot** is one parameter that can be hit: the flips of one unit, or some of them. Whatever flips are chosen, one of each slot, they
add to each accumulator of a slot's unit something between the least and the most that the slot's flips add, given what its operation reads.
Units are taken in the order of their operations, since a unit that is hit widens what later ones read.

What is added is cut to where the unit's result ends to change: a unit that is at its last level for every input stays there, however
much more is added.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bvverify.bitflip.ask import Question
from bvverify.bitflip.disturbed import Disturbed, Hit, disturbed
from bvverify.bitflip.flips import Flips, hull, of_unit
from bvverify.bitflip.stored import Stored
from bvverify.certify.ranges import Frame, Ranges, propagate
from bvverify.model import requant as rq
from bvverify.model.network import Network
from bvverify.model.ops import Conv2d, Dense
from bvverify.model.query import Box, Query
from bvverify.model.types import Int64Array


class Unclear(Exception):
    """The choices cannot be taken together: an accumulator could wrap, or leave what its requantisation is modelled for."""


def ranges_of(network: Network, box: Box) -> Ranges:
    """Integer intervals of every tensor and accumulator."""
    return propagate(Frame(network), box.lo[None], box.hi[None], {})


def slots_of(question: Question, parts: Sequence[Stored], units: Sequence[tuple[int, int]], known: Ranges) -> list[Flips]:
    """All flips of each of ``units``, and none; ``known`` are the ranges of the network without flips."""
    found = []
    for unit in units:
        op = question.network.ops[unit[0]]
        assert isinstance(op, Dense | Conv2d)
        found.append(of_unit(op, parts, unit, question.bits, known.lo[op.x][0], known.hi[op.x][0]))
    return found


def query_of(question: Question, network: Network, parts: Sequence[Stored], slots: Sequence[Flips]) -> Query:
    """The query whose *verified* says: for every choice of a flip from each slot, made on top of those in ``network``, the class stays.

    Raises ``Unclear``.
    """
    if not slots:
        return question.query(network)
    by_unit: dict[tuple[int, int], list[Flips]] = {}
    for slot in slots:
        by_unit.setdefault((slot.op, slot.channel), []).append(slot)
    hits: list[Hit] = []
    try:
        for (index, channel), together in sorted(by_unit.items()):
            so_far = disturbed(network, question.box, hits)
            known = ranges_of(so_far.network, so_far.box)
            hits.append(_hit(network, parts, so_far, known, index, channel, together))
        joint = disturbed(network, question.box, hits)
    except ValueError as error:
        raise Unclear(str(error)) from None
    return Query(joint.network, joint.box, question.violation)


def _hit(
    network: Network, parts: Sequence[Stored], so_far: Disturbed, known: Ranges, index: int, channel: int, together: Sequence[Flips]
) -> Hit:
    op = network.ops[index]
    assert isinstance(op, Dense | Conv2d)
    read, shape = so_far.place[op.x], network.tensors[op.x].shape
    x_lo, x_hi = ((side[max(read, 0)][0].reshape(-1)[: int(np.prod(shape))]).reshape(shape) for side in (known.lo, known.hi))
    lo = hi = np.zeros(1, np.int64)
    for slot in together:
        least, most = hull(op, parts, slot, x_lo, x_hi)
        lo, hi = lo + least, hi + most
    made = so_far.place[index + 1]
    units = len(op.bias)
    a, b = (np.broadcast_to(side, (1, side.shape[1]))[0].reshape(units, -1)[channel] for side in known.acc[made - 1])
    lo, hi = np.broadcast_to(lo, a.shape), np.broadcast_to(hi, a.shape)
    return Hit(index, channel, *_cut(op, channel, a, b, lo, hi))


def _cut(op: Dense | Conv2d, channel: int, a: Int64Array, b: Int64Array, lo: Int64Array, hi: Int64Array) -> tuple[Int64Array, Int64Array]:
    """The range of what is added to accumulators in ``[a, b]``, cut to where results change; all of (positions,)."""
    limits = rq.reach(op.staircase.requant)
    limit = (1 << 48) - 1 if limits is None else int(limits[channel % len(limits)])
    bits = op.accumulator_bits
    if (a + lo).min() < -limit or (b + hi).max() > limit:
        raise Unclear(f"an accumulator of {op.name} could pass {limit}, beyond which nothing is modelled")
    if bits is not None and (
        min(int(a.min()), int((a + lo).min())) < -(1 << (bits - 1)) or max(int(b.max()), int((b + hi).max())) >= 1 << (bits - 1)
    ):
        raise Unclear(f"an accumulator of {op.name} could wrap")
    steps = op.staircase.thresholds[channel % len(op.staircase.thresholds)]
    if not len(steps):
        return lo * 0, hi * 0
    first, last = int(steps[0]) - 1 - b, int(steps[-1]) - a
    return np.clip(lo, first, last), np.clip(hi, first, last)
