"""Every flip of up to N bits in one stored parameter, for one input, exactly: which of them change the class.

A flip moves the accumulators of one output unit (in a convolution: of one output channel) by the difference of the parameter times what
it is multiplied by. So each unit's new results are read off its staircase for all of its parameters at once; only results that are new to
the unit are run through the layers behind it, in batches, by the interpreter. Nothing is bounded, nothing is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bvverify.bitflip.stored import Stored, masks
from bvverify.model import requant as rq
from bvverify.model.network import Network
from bvverify.model.ops import Conv2d, Dense, inputs
from bvverify.model.types import Int64Array
from bvverify.run import interpreter
from bvverify.run.adjoint import windows

SAME, BEYOND = -1, -2
"""In ``Flips.outcome``: the class stays; the accumulator passes what the requantisation is modelled for."""
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
    tensors = interpreter.trace(network, x[None])
    op, chosen = network.ops[part.op], masks(part.bits, flips)
    assert isinstance(op, Dense | Conv2d)
    label = int(tensors[network.output.tensor].reshape(-1).argmax())
    known = tensors[part.op + 1][0].reshape(len(op.weight), -1)  # (channels, positions)
    acc = interpreter.accumulate(op, tensors[op.x])[0].reshape(len(op.weight), -1)
    limits = rq.reach(op.staircase.requant)
    outcome = np.full((len(chosen), *part.values.shape), SAME, np.int16)
    for channel in range(len(op.weight)):
        report(f"{op.name}: {channel} of {len(op.weight)} output channels")
        factors = _factors(op, part, tensors[op.x], channel)  # (parameters, positions)
        limit = None if limits is None else int(limits[channel % len(limits)])
        thresholds = op.staircase.thresholds[channel % len(op.staircase.thresholds)]
        row = outcome[:, channel].reshape(len(chosen), -1)
        new: dict[bytes, int] = {}
        pending: list[Int64Array] = []
        waiting: list[tuple[int, Int64Array, Int64Array]] = []
        for k, mask in enumerate(chosen.tolist()):
            delta = (part.flipped(mask)[channel] - part.values[channel]).reshape(-1)
            moved = interpreter.wrap(acc[channel] + delta[:, None] * factors, op.accumulator_bits)
            beyond = np.zeros(len(moved), bool) if limit is None else (np.abs(moved) > limit).any(axis=1)
            row[k, beyond] = BEYOND
            levels = op.staircase.lo + np.searchsorted(thresholds, moved, side="right")
            changed = np.flatnonzero((levels != known[channel]).any(axis=1) & ~beyond)
            if not len(changed):
                continue
            different, which = np.unique(levels[changed], axis=0, return_inverse=True)
            places = np.empty(len(different), np.int64)
            for i, plane in enumerate(different):
                places[i] = new.setdefault(plane.tobytes(), len(new))
                if places[i] == len(pending):
                    pending.append(plane)
            waiting.append((k, changed, places[which.reshape(-1)]))
        if not pending:
            continue
        classes = _classes(network, tensors, part.op, channel, np.stack(pending))
        for k, changed, places_of in waiting:
            found = classes[places_of]
            row[k, changed] = np.where(found == label, SAME, found)
    return Flips(part, chosen, outcome)


def _factors(op: Dense | Conv2d, part: Stored, x: Int64Array, channel: int) -> Int64Array:
    """What each parameter of an output channel is multiplied by, at each position: (parameters, positions)."""
    if part.kind == "bias":
        positions = 1 if isinstance(op, Dense) else int(np.prod(op.window.output(*x.shape[2:])))
        return np.ones((1, positions), np.int64)
    centred = x - op.input_zero_point
    if isinstance(op, Dense):
        return centred.reshape(-1, 1)
    seen = windows(centred, op, 0)[0][0]  # (C, kernel positions, H', W')
    of_group = op.weight.shape[1]
    first = channel // (len(op.weight) // op.groups) * of_group
    return seen[first : first + of_group].reshape(of_group * seen.shape[1], -1)


def _classes(network: Network, tensors: list[Int64Array], index: int, channel: int, planes: Int64Array) -> Int64Array:
    """The classes of the network when a channel of operation ``index`` has each of ``planes`` (n, positions) instead."""
    found = []
    for start in range(0, len(planes), _ROWS):
        some = planes[start : start + _ROWS]
        values = np.repeat(tensors[index + 1], len(some), axis=0)
        values[:, channel] = some.reshape(len(some), *values.shape[2:])
        out = _behind(network, tensors, index, values)
        found.append(out.reshape(len(some), -1).argmax(axis=1))
    return np.concatenate(found)


def _behind(network: Network, tensors: list[Int64Array], index: int, values: Int64Array) -> Int64Array:
    """The output when operation ``index`` made ``values`` (n, *shape): what does not depend on it is taken from the trace."""
    changed = {index + 1: values}
    for i, op in enumerate(network.ops[index + 1 :], index + 1):
        if any(t in changed for t in inputs(op)):
            xs = [changed[t] if t in changed else np.repeat(tensors[t], len(values), axis=0) for t in inputs(op)]
            changed[i + 1] = interpreter.evaluate(op, xs)
    return changed.get(network.output.tensor, np.repeat(tensors[network.output.tensor], len(values), axis=0))
