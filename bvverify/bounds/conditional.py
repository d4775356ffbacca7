"""Where a violation could lie: what accumulators can be, given that a conjunction is met.

A conjunction's rows r are met where they are at most zero. For any weights w >= 0, a bound of ``a + w r`` over the box is one of a wherever
the conjunction is met: multipliers and weights are climbed together, for both ends of every accumulator at once (bounds under constraints
on the output: Kotha et al., NeurIPS 2023). Many ranges shrink by a third where a violation is nearly excluded, with them every hull, and
again in the next round; networks of several dense layers close by that alone where splits would take hours.

It needs nothing new in a proof. What lies beyond such an end is one part of a split, and there the same multipliers, over w, and ``1 / w``
more on the unit itself, bound the rows above zero: a leaf. The other part goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from bvverify.bounds.ascent import LEAST_WEIGHT, Ascent, Seen, Settings, ascend
from bvverify.bounds.lagrange import Relaxation
from bvverify.bounds.linear_maps import Tensor
from bvverify.model.ops import inputs
from bvverify.model.types import Int64Array

_SETTINGS = Settings(steps=60, rate=0.3, decay=0.96)
_AGAIN = Settings(steps=20, rate=0.015, decay=0.96)
"""From where the last round ended: ranges are a little narrower, and steps twenty times as long would leave what was found first. These
twenty take off a quarter more than sixty from the start on layers of 100 neurons, two thirds as much on those of 256."""
_WORTH = 0.02
"""Of a range's width: what an end has to take off."""
_SLACK = 0.02
"""Output steps that are left on: float32 found the end, and integers have to prove it."""
_FAR = 2.0**60
_APART = 1 << 40
_FIRST_WEIGHT = 2.0, 3.0
"""The weight of the rows to begin with is a range's width in steps, divided by so much and so many times what is missing. Ascents of 300
steps end about there, whatever the layer: on dense layers of 100 and 256 neurons and on a CNN mostly within a quarter. Sixty steps do not
get there: from 0.06 of the width they took off a third as much where little was missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """Ends that can be taken off: splits at ``a <= value``; the first part is excluded where ``lower`` says so, else the second.

    ``op`` and ``place`` (among the kept units) are the unit's, ``m`` and ``logits`` (ends, n) the multipliers and row weights of the
    excluded part's leaf.
    """

    op: Int64Array
    place: Int64Array
    lower: Int64Array
    value: Int64Array
    m: dict[int, Tensor]
    logits: Tensor

    def at(self, rows: slice) -> Ends:
        """Some of them."""
        m = {i: v[rows] for i, v in self.m.items()}
        return Ends(self.op[rows], self.place[rows], self.lower[rows], self.value[rows], m, self.logits[rows])

    def excluded(self, ranges: dict[int, tuple[Tensor, Tensor]]) -> dict[int, tuple[Tensor, Tensor]]:
        """Ranges by operation, int64 (1, n), in the excluded parts: (ends, n)."""
        out = {}
        for op, (lo, hi) in ranges.items():
            lo, hi = lo.repeat(len(self.op), 1), hi.repeat(len(self.op), 1)
            for rows, side, to in ((self.lower, hi, self.value), (~self.lower, lo, self.value + 1)):
                own = np.flatnonzero(rows & (self.op == op))
                side[own, self.place[own]] = torch.from_numpy(to[own])
            out[op] = lo, hi
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Multipliers and logits to climb from, of one row, and what its bound is missing there, in units of the violation's rows."""

    m: dict[int, Tensor]
    logits: Tensor
    missing: float

    @staticmethod
    def at(best: Ascent) -> Start:
        """Where an ascent of one row ended."""
        return Start(best.m, best.logits, max(-float(best.value[0]), 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """Accumulators from one side each, all (rows,).

    ``place`` is among the operation's kept units, ``a0`` the reference run's value; ``sign`` is 1.0 for a lower end, -1.0 for an upper one.
    """

    op: Tensor
    place: Tensor
    lo: Tensor
    hi: Tensor
    step: Tensor
    a0: Tensor
    sign: Tensor

    @staticmethod
    def of(relaxation: Relaxation, ops: Sequence[int], seen: Seen, most: int | None) -> _Sides:
        """Both sides of the open accumulators of some operations, of ``most`` units of each at most."""
        found = []
        for index in ops:
            unit, (l, u) = relaxation.units[index], (end[0] for end in seen.tensors[index])
            here = torch.nonzero(l < u)[:, 0]
            if most is not None and len(here) > most:
                here = here[torch.linspace(0, len(here) - 1, most).long()]
            for side in (1.0, -1.0):
                signs = torch.full((len(here),), side, dtype=torch.float64)
                found.append((torch.full_like(here, index), here, l[here], u[here], unit.step[here], unit.a0[here], signs))
        return _Sides(*(torch.cat(columns) for columns in zip(*found, strict=True)))

    @property
    def ops(self) -> list[int]:
        """The operations whose accumulators these are."""
        return sorted(set(self.op.tolist()))

    @property
    def key(self) -> Tensor:
        """One number for each, rising."""
        return (2 * self.op + (self.sign < 0)) * _APART + self.place

    @property
    def factor(self) -> Tensor:
        """What an accumulator is bounded times: then it counts steps, and its end is the least."""
        return self.sign / self.step


@dataclass(frozen=True, slots=True, eq=False)
class Climbed:
    """Where the ascents of ends came to: what those of the same node in narrower ranges begin with."""

    sides: _Sides
    m: dict[int, Tensor]
    logits: Tensor

    def at(self, sides: _Sides) -> tuple[dict[int, Tensor], Tensor]:
        """Multipliers and logits of some of its sides."""
        rows = torch.searchsorted(self.sides.key, sides.key)
        return {i: v[rows] for i, v in self.m.items()}, self.logits[rows]


def ends_of(
    relaxation: Relaxation,
    ops: Sequence[int],
    seen: Seen,
    start: Start | Climbed,
    deadline: float | None,
    most: int | None = None,
) -> tuple[Ends | None, Climbed | None]:
    """The ends of one node's accumulators that can be taken off, if any, of ``most`` units an operation at most; where ascents came to.

    With what the last round in wider ranges came to, and all of its operations' units or fewer, they begin there, and are shorter.
    """
    sides = _Sides.of(relaxation, ops, seen, most) if ops else None
    if sides is None or not len(sides.op):
        return None, None
    best = _climb(relaxation, sides, seen, start, deadline)
    return _taken_off(sides, best, seen.objective.present), Climbed(sides, best.m, best.logits)


def _taken_off(sides: _Sides, best: Ascent, present: Tensor) -> Ends | None:
    """The ends that bounds of accumulators take off; ``present`` (1, forms) are the conjunction's forms."""
    end, lower = (best.value.double() - _SLACK) * sides.step, sides.sign > 0
    split = torch.where(lower, torch.ceil(sides.a0 + end) - 1, torch.floor(sides.a0 - end)).clamp(-_FAR, _FAR).long()
    off = torch.where(lower, split - sides.lo + 1, sides.hi - split)
    # At least one value is left: that it is excluded too is for a bound to show.
    split = torch.where(lower, split.clamp(max=sides.hi - 1), split.clamp(min=sides.lo))
    good = (off > _WORTH * (sides.hi - sides.lo + 1)) & torch.isfinite(best.value)
    if not bool(good.any()):
        return None
    logits = best.logits.masked_fill(~present, -torch.inf)
    weight = logits.exp().sum(1, keepdim=True)
    m = {i: v / weight for i, v in best.m.items()}
    for index in sides.ops:
        own = torch.nonzero(sides.op == index)[:, 0]
        m[index][own, sides.place[own]] += sides.factor[own].float() / weight[own, 0]
    op, place, lowers, values = (v[good].numpy() for v in (sides.op, sides.place, lower, split))
    return Ends(op, place, lowers, values, {i: v[good] for i, v in m.items()}, logits[good])


def _climb(relaxation: Relaxation, sides: _Sides, seen: Seen, start: Start | Climbed, deadline: float | None) -> Ascent:
    """The best bounds of accumulators in steps, relative to the reference run, plus the conjunction's rows."""
    objective, rows = seen.objective.repeat(len(sides.op)).to(torch.float32), len(sides.op)
    factor = sides.factor.float()
    own: dict[int, Tensor] = {}
    for index in sides.ops:
        here = torch.nonzero(sides.op == index)[:, 0]
        one_hot = torch.zeros((len(here), len(relaxation.units[index].keep)))
        one_hot[torch.arange(len(here)), sides.place[here]] = factor[here]
        maps = relaxation.maps[torch.float32][index]
        assert maps is not None
        for t, form in zip(inputs(relaxation.network.ops[index]), maps.backward(one_hot), strict=True):
            own.setdefault(t, torch.zeros((rows, form.shape[1])))[here] += form
    if isinstance(start, Climbed):
        settings, (m, logits) = _AGAIN, start.at(sides)
    else:
        fixed, times = _FIRST_WEIGHT
        scale = ((sides.hi - sides.lo) / sides.step / (fixed + times * start.missing)).float().clamp(min=1e-3)[:, None]
        m = {i: v.float().expand(rows, -1) * scale for i, v in start.m.items()}
        shares = seen.objective.weights(start.logits.double()).float().clamp(min=LEAST_WEIGHT)
        settings, logits = _SETTINGS, (shares * scale).log()
    many = {i: c.repeat(rows) for i, c in seen.corners.items()}
    box = relaxation.box(seen.x, torch.float32)
    inside = None if box is None else (box[0].expand(rows, -1), box[1].expand(rows, -1))
    return ascend(relaxation, many, m, logits, replace(objective, own=own), replace(settings, deadline=deadline), inside)
