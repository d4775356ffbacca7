"""The flips of one output unit's parameters, and how far they move its accumulators.

A **unit** is an output of a dense operation or an output channel of a convolution. A flip changes one of its parameters by ``delta``,
and so each of its accumulators (one, or one a position) by ``delta`` times what the parameter is multiplied by, which is known in a range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bvverify.bitflip.ask import Flip
from bvverify.bitflip.stored import Stored, masks
from bvverify.model.ops import Conv2d, Dense
from bvverify.model.types import AnyArray, Int64Array
from bvverify.run.adjoint import windows

NONE = -1
"""As a part: nothing flips."""


@dataclass(frozen=True, slots=True, eq=False)
class Flips:
    """Some flips of a unit, in order of how far they move it (``of_unit``); int64 (n,) each.

    ``part`` is an index, or ``NONE``; ``inner`` the parameter's flat index among the unit's own; ``mask`` the bits, ``delta`` the change.
    """

    op: int
    channel: int
    part: Int64Array
    inner: Int64Array
    mask: Int64Array
    delta: Int64Array

    def __len__(self) -> int:
        """How many there are."""
        return len(self.part)

    def at(self, rows: slice | AnyArray) -> Flips:
        """Some of them."""
        return Flips(self.op, self.channel, self.part[rows], self.inner[rows], self.mask[rows], self.delta[rows])

    def flip(self, row: int, parts: Sequence[Stored]) -> Flip | None:
        """One of them, or None where that is no flip."""
        if self.part[row] == NONE:
            return None
        number = int(self.part[row])
        place = np.unravel_index(int(self.inner[row]), parts[number].values.shape[1:]) if parts[number].values.ndim > 1 else ()
        return Flip(number, (self.channel, *(int(i) for i in place)), int(self.mask[row]))

    def without(self, hit: Flip, parts: Sequence[Stored]) -> Flips:
        """Those of other parameters than the one that is hit already."""
        if parts[hit.part].op != self.op or hit.place[0] != self.channel:
            return self
        shape = parts[hit.part].values.shape[1:]
        inner = int(np.ravel_multi_index(hit.place[1:], shape)) if shape else 0
        return self.at((self.part != hit.part) | (self.inner != inner))


def units(parts: Sequence[Stored]) -> list[tuple[int, int]]:
    """The units that have parameters among ``parts``: (operation, channel), in order."""
    return sorted({(part.op, channel) for part in parts for channel in range(len(part.values))})


def of_unit(op: Dense | Conv2d, parts: Sequence[Stored], unit: tuple[int, int], bits: int, x_lo: Int64Array, x_hi: Int64Array) -> Flips:
    """Every flip of up to ``bits`` bits in one parameter of the unit, and none, by the middle of what each adds.

    What the operation reads is in ``[x_lo, x_hi]``.
    """
    index, channel = unit
    columns: list[list[Int64Array]] = [[np.array([value])] for value in (NONE, 0, 0, 0)]
    for number, part in enumerate(parts):
        if part.op != index:
            continue
        chosen, own = masks(part.bits, bits), part.values[channel].reshape(-1)
        places = np.arange(len(own))
        for mask in chosen.tolist():
            after = Stored(part.op, part.kind, own, part.bits, part.signed).flipped(mask)
            for column, values in zip(columns, (places * 0 + number, places, places * 0 + mask, after - own), strict=True):
                column.append(values)
    flips = Flips(index, channel, *(np.concatenate(column).astype(np.int64) for column in columns))
    middle = np.zeros(len(flips), np.int64)
    for number, part in enumerate(parts):
        if part.op == index:
            lo, hi = factors(op, part, x_lo, x_hi, channel)
            mine = flips.part == number
            middle[mine] = flips.delta[mine] * (lo + hi).sum(axis=1)[flips.inner[mine]]
    return flips.at(np.argsort(middle, kind="stable"))


def hull(op: Dense | Conv2d, parts: Sequence[Stored], flips: Flips, x_lo: Int64Array, x_hi: Int64Array) -> tuple[Int64Array, Int64Array]:
    """The least and the most that any of ``flips`` adds to each of the unit's accumulators, int64 (positions,) each."""
    ends: list[tuple[Int64Array, Int64Array]] = []
    if (flips.part == NONE).any():
        ends.append((np.zeros((1, 1), np.int64),) * 2)
    for number, part in enumerate(parts):
        mine = flips.part == number
        if not mine.any():
            continue
        inner, delta = flips.inner[mine], flips.delta[mine]
        hit = np.unique(inner)
        # Of one parameter the extremes of its deltas are enough: what it is multiplied by is the same for all.
        least, most = np.full(len(hit), np.iinfo(np.int64).max), np.full(len(hit), np.iinfo(np.int64).min)
        row = np.searchsorted(hit, inner)
        np.minimum.at(least, row, delta)
        np.maximum.at(most, row, delta)
        lo, hi = (side[hit] for side in factors(op, part, x_lo, x_hi, flips.channel))
        corners = np.stack([d[:, None] * side for d in (least, most) for side in (lo, hi)])
        ends.append((corners.min(axis=0), corners.max(axis=0)))
    positions = max(lo.shape[1] for lo, _ in ends)
    lows, highs = ([np.broadcast_to(end[side], (len(end[side]), positions)) for end in ends] for side in (0, 1))
    return np.concatenate(lows).min(axis=0), np.concatenate(highs).max(axis=0)


def factors(op: Dense | Conv2d, part: Stored, x_lo: Int64Array, x_hi: Int64Array, channel: int) -> tuple[Int64Array, Int64Array]:
    """The range of what each parameter of an output channel is multiplied by, int64 (parameters, positions); it reads ``[x_lo, x_hi]``."""
    if part.kind == "bias":
        positions = 1 if isinstance(op, Dense) else int(np.prod(op.window.output(*x_lo.shape[1:])))
        ones = np.ones((1, positions), np.int64)
        return ones, ones
    return _read(op, x_lo - op.input_zero_point, channel), _read(op, x_hi - op.input_zero_point, channel)


def _read(op: Dense | Conv2d, centred: Int64Array, channel: int) -> Int64Array:
    if isinstance(op, Dense):
        return centred.reshape(-1, 1)
    seen = windows(centred[None], op, 0)[0][0]  # (C, kernel positions, H', W'); padding adds nothing
    of_group = op.weight.shape[1]
    first = channel // (len(op.weight) // op.groups) * of_group
    return seen[first : first + of_group].reshape(of_group * seen.shape[1], -1)
