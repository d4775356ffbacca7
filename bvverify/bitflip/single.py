"""Every flip of up to N bits in one stored parameter, for one input, exactly: which of them change the class.

A flip moves the accumulators of one output unit (in a convolution: of one output channel) by the difference of the parameter times what
it is multiplied by. So each unit's new results are read off its staircase for all of its parameters at once; only results that are new to
the unit are run through the layers behind it, in batches, by the interpreter. Nothing is bounded, nothing is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bvverify.bitflip.flips import Flips as Choices
from bvverify.bitflip.flips import factors
from bvverify.bitflip.stored import Stored, masks
from bvverify.model import requant as rq
from bvverify.model.network import Network
from bvverify.model.ops import Conv2d, Dense, inputs
from bvverify.model.types import AnyArray, Int64Array
from bvverify.run import interpreter

SAME, BEYOND = -1, -2
"""In ``Flips.outcome``: the class stays; the accumulator passes what the requantisation is modelled for."""
NO_LEAD = 1 << 31
"""A lead that no outputs leave."""
_ROWS = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Flips:
    """All flips of some parameters: ``outcome`` int16 (masks, *shape of the parameters) is a new class, ``SAME`` or ``BEYOND``."""

    part: Stored
    masks: Int64Array
    outcome: np.ndarray

    @property
    def count(self) -> int:
        """How many change the class."""
        return int((self.outcome >= 0).sum())


def predicted(network: Network, x: Int64Array) -> int:
    """The class of one input: the first index of the largest output."""
    return int(interpreter.run(network, x[None]).reshape(-1).argmax())


def find(network: Network, x: Int64Array, part: Stored, flips: int, report: Callable[[str], None] = lambda _line: None) -> Flips:
    """The outcome of every flip of up to ``flips`` bits in one parameter of ``part``, for an input of the input tensor's shape."""
    label = predicted(network, x)
    classes, beyond = _each(network, x, part, flips, lambda y: y.argmax(axis=1), report)
    outcome = np.where(beyond, BEYOND, np.where(classes == label, SAME, classes)).astype(np.int16)
    return Flips(part, masks(part.bits, flips), outcome)


def leads(
    network: Network, x: Int64Array, part: Stored, flips: int, label: int, report: Callable[[str], None] = lambda _line: None
) -> Int64Array:
    """As ``find``, the ``lead`` of class ``label`` with every flip, int64 (masks, *shape of the parameters); ``NO_LEAD`` for ``BEYOND``."""
    found, beyond = _each(network, x, part, flips, lambda y: lead(y, label), report)
    return np.where(beyond, NO_LEAD, found)


def lead(y: Int64Array, label: int) -> Int64Array:
    """By how much output ``label`` is ahead of the others, int64 (batch,); below zero exactly where another one is the class."""
    ahead = y[:, label : label + 1] - y
    ahead[:, :label] -= 1  # of equal outputs the first is the class
    ahead[:, label] = NO_LEAD
    return np.asarray(ahead.min(axis=1))


def outcomes(network: Network, x: Int64Array, parts: Sequence[Stored], slot: Choices) -> Int64Array:
    """The class that each flip of a unit (``flips.Flips``) makes of ``x``, int64 (n,); ``BEYOND`` as in ``find``."""
    tensors, op = interpreter.trace(network, x[None]), network.ops[slot.op]
    assert isinstance(op, Dense | Conv2d)
    acc = interpreter.accumulate(op, tensors[op.x])[0].reshape(len(op.weight), -1)[slot.channel]
    moved = np.repeat(acc[None], len(slot), axis=0)
    for number, part in enumerate(parts):
        mine = slot.part == number
        if mine.any():
            read = factors(op, part, tensors[op.x][0], tensors[op.x][0], slot.channel)[0]
            moved[mine] += slot.delta[mine, None] * read[slot.inner[mine]]
    levels, beyond = _levels(op, slot.channel, interpreter.wrap(moved, op.accumulator_bits))
    different, which = np.unique(levels, axis=0, return_inverse=True)
    classes = _outputs(network, tensors, slot.op, slot.channel, different, lambda y: y.argmax(axis=1))[which.reshape(-1)]
    return np.where(beyond, BEYOND, classes)


def _each(
    network: Network, x: Int64Array, part: Stored, flips: int, value: Callable[[Int64Array], Int64Array], report: Callable[[str], None]
) -> tuple[Int64Array, AnyArray]:
    """What ``value`` makes of the outputs (n, classes) with every flip, and which flips are beyond; (masks, *shape of the parameters)."""
    tensors = interpreter.trace(network, x[None])
    op, chosen = network.ops[part.op], masks(part.bits, flips)
    assert isinstance(op, Dense | Conv2d)
    unchanged = value(tensors[network.output.tensor].reshape(1, -1))[0]
    known = tensors[part.op + 1][0].reshape(len(op.weight), -1)  # (channels, positions)
    acc = interpreter.accumulate(op, tensors[op.x])[0].reshape(len(op.weight), -1)
    values = np.full((len(chosen), *part.values.shape), unchanged, np.int64)
    all_beyond = np.zeros(values.shape, bool)
    for channel in range(len(op.weight)):
        report(f"{op.name}: {channel} of {len(op.weight)} output channels")
        read = factors(op, part, tensors[op.x][0], tensors[op.x][0], channel)[0]  # (parameters, positions)
        row, past = (a[:, channel].reshape(len(chosen), -1) for a in (values, all_beyond))
        new: dict[bytes, int] = {}
        pending: list[Int64Array] = []
        waiting: list[tuple[int, Int64Array, Int64Array]] = []
        for k, mask in enumerate(chosen.tolist()):
            delta = (part.flipped(mask)[channel] - part.values[channel]).reshape(-1)
            levels, past[k] = _levels(op, channel, interpreter.wrap(acc[channel] + delta[:, None] * read, op.accumulator_bits))
            changed = np.flatnonzero((levels != known[channel]).any(axis=1) & ~past[k])
            if not len(changed):
                continue
            different, which = np.unique(levels[changed], axis=0, return_inverse=True)
            places = np.empty(len(different), np.int64)
            for i, plane in enumerate(different):
                places[i] = new.setdefault(plane.tobytes(), len(new))
                if places[i] == len(pending):
                    pending.append(plane)
            waiting.append((k, changed, places[which.reshape(-1)]))
        if pending:
            found = _outputs(network, tensors, part.op, channel, np.stack(pending), value)
            for k, changed, places_of in waiting:
                row[k, changed] = found[places_of]
        # Of arrays that are no views of the whole, what was written goes back.
        values[:, channel], all_beyond[:, channel] = (a.reshape(len(chosen), *part.values.shape[1:]) for a in (row, past))
    return values, all_beyond


def _levels(op: Dense | Conv2d, channel: int, acc: Int64Array) -> tuple[Int64Array, AnyArray]:
    """The results of accumulators (n, positions) of one output channel, and which rows pass what the requantisation is modelled for."""
    limits = rq.reach(op.staircase.requant)
    beyond = np.zeros(len(acc), bool) if limits is None else (np.abs(acc) > int(limits[channel % len(limits)])).any(axis=1)
    thresholds = op.staircase.thresholds[channel % len(op.staircase.thresholds)]
    return np.asarray(op.staircase.lo + np.searchsorted(thresholds, acc, side="right"), np.int64), np.asarray(beyond)


def _outputs(
    network: Network, tensors: list[Int64Array], index: int, channel: int, planes: Int64Array, value: Callable[[Int64Array], Int64Array]
) -> Int64Array:
    """``value`` of the outputs (n, classes) when a channel of operation ``index`` has each of ``planes`` (n, positions) instead."""
    found = []
    for start in range(0, len(planes), _ROWS):
        some = planes[start : start + _ROWS]
        values = np.repeat(tensors[index + 1], len(some), axis=0)
        values[:, channel] = some.reshape(len(some), *values.shape[2:])
        found.append(value(_behind(network, tensors, index, values).reshape(len(some), -1)))
    return np.concatenate(found)


def _behind(network: Network, tensors: list[Int64Array], index: int, values: Int64Array) -> Int64Array:
    """The output when operation ``index`` made ``values`` (n, *shape): what does not depend on it is taken from the trace."""
    changed = {index + 1: values}
    for i, op in enumerate(network.ops[index + 1 :], index + 1):
        if any(t in changed for t in inputs(op)):
            xs = [changed[t] if t in changed else np.repeat(tensors[t], len(values), axis=0) for t in inputs(op)]
            changed[i + 1] = interpreter.evaluate(op, xs)
    return changed.get(network.output.tensor, np.repeat(tensors[network.output.tensor], len(values), axis=0))
