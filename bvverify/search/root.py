"""The root of the search: what is known of the whole box, tightened layer by layer with the Lagrangian bound.

Everything here ends in claims with multipliers (``Tightening``); ranges are what ``bvverify.certify.ranges`` derives from the claims, so
that search and kernel can never mean different ranges.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from bvverify.bounds import linear
from bvverify.bounds.ascent import Objective, Settings, ascend
from bvverify.bounds.interval import Bounds
from bvverify.bounds.lagrange import Relaxation, exponents_for
from bvverify.bounds.units import Corners
from bvverify.certify.ranges import ANYTHING, Frame, Limits, Ranges, propagate
from bvverify.model.certificate import Tightening, units
from bvverify.model.network import Network
from bvverify.model.ops import AvgPool, Conv2d, Dense, inputs
from bvverify.model.query import Query
from bvverify.model.types import Int64Array
from bvverify.run import interpreter

_ROWS = 512
_SAMPLE = 32
"""Units of a layer that show whether the others are worth it. Where a layer sees little of the one below (the second of a
convolutional network), the first linear pass is nearly as good: on the zoo's, 700 rows for two percent of the ranges' width, and nothing
of the violations' bounds."""
_WORTH = 0.02
_SETTINGS = Settings(steps=60, rate=0.15, decay=0.97)
SLACK = 1e-6
"""Above what float64 loses in a sum of exact products."""


@dataclass(slots=True)
class Root:
    """The box with all claims so far, the ranges that follow, and the relaxation on them."""

    query: Query
    frame: Frame
    tightenings: list[Tightening]
    ranges: Ranges

    @staticmethod
    def of(query: Query, tightenings: list[Tightening]) -> Root:
        """The root with claims that were proved before."""
        frame = Frame(query.network)
        return Root(query, frame, list(tightenings), propagate(frame, query.box.lo[None], query.box.hi[None], limits(query, tightenings)))

    def limits(self) -> Limits:
        """The claims as limits."""
        return limits(self.query, self.tightenings)

    def refresh(self) -> None:
        """Derive the ranges again after new claims."""
        self.ranges = propagate(self.frame, self.query.box.lo[None], self.query.box.hi[None], self.limits())

    def relaxation(self) -> Relaxation:
        """The network prepared on the root's ranges, relative to the middle of the box."""
        lo, hi = [x[0] for x in self.ranges.lo], [x[0] for x in self.ranges.hi]
        middle = (self.query.box.lo + self.query.box.hi) >> 1
        return Relaxation(self.query.network, lo, hi, interpreter.trace(self.query.network, middle[None]), self.ranges.opaque)

    def bounds(self) -> Bounds:
        """The ranges as the numpy stages hold them."""
        return bounds_of(self.query.network, self.ranges, 0)


def bounds_of(network: Network, ranges: Ranges, row: int) -> Bounds:
    """One row of ranges as the numpy stages and the encoding hold them."""

    def one(side: Any) -> Int64Array:
        return np.asarray(side[row if len(side) > 1 else 0])

    acc: list[tuple[Int64Array | None, Int64Array | None]] = []
    for index, op in enumerate(network.ops):
        if index in ranges.acc and isinstance(op, Dense | Conv2d | AvgPool):
            shape = network.tensors[index + 1].shape
            acc.append((one(ranges.acc[index][0]).reshape(shape), one(ranges.acc[index][1]).reshape(shape)))
        else:
            acc.append((None, None))
    lows, highs = tuple(one(x) for x in ranges.lo), tuple(one(x) for x in ranges.hi)
    return Bounds(lows, highs, tuple(a for a, _ in acc), tuple(b for _, b in acc))


def limits(query: Query, tightenings: list[Tightening]) -> Limits:
    """Claims as limits on accumulators, (1, units)."""
    out: Limits = {}
    for t in tightenings:
        size = units(query.network, t.op)
        lo, hi = out.get(t.op, (np.full((1, size), -ANYTHING), np.full((1, size), ANYTHING)))
        np.maximum.at(lo[0], t.unit[~t.upper], t.claim[~t.upper])
        np.minimum.at(hi[0], t.unit[t.upper], t.claim[t.upper])
        out[t.op] = lo, hi
    return out


def tighten(root: Root, deadline: float | None, settings: Settings = _SETTINGS) -> None:
    """Tighten the accumulators of every layer after the first that still matter, in order."""
    network = root.query.network
    for index, op in enumerate(network.ops):
        if not isinstance(op, Dense | Conv2d) or linear.reads_input(network, op) or index in root.ranges.opaque:
            continue
        open_units = np.flatnonzero((root.ranges.lo[index + 1] < root.ranges.hi[index + 1]).reshape(-1))
        if not len(open_units):
            continue
        relaxation = root.relaxation()
        for part in _parts(open_units):
            if deadline is not None and time.monotonic() > deadline:
                return
            new = _tighten(root, relaxation, index, op, part, replace(settings, deadline=deadline))
            if new is not None:
                root.tightenings.append(new)
            if _gain(root, index, part, new) < _WORTH:
                break
        root.refresh()


def _parts(open_units: Int64Array) -> list[Int64Array]:
    """A sample first, where there are many; then as many as go together."""
    if len(open_units) <= 2 * _SAMPLE:
        return [open_units]
    sample = open_units[np.linspace(0, len(open_units) - 1, _SAMPLE).astype(np.int64)]
    others = np.setdiff1d(open_units, sample)
    return [sample, *(others[k : k + _ROWS // 2] for k in range(0, len(others), _ROWS // 2))]


def _gain(root: Root, index: int, of_units: Int64Array, new: Tightening | None) -> float:
    """By which part of their width the ranges of some units became narrower."""
    if new is None:
        return 0.0
    lo, hi = (side[0] for side in root.ranges.acc[index])
    less = np.where(new.upper, hi[new.unit] - new.claim, new.claim - lo[new.unit]).sum()
    return float(less / (hi - lo)[of_units].sum())


def _tighten(
    root: Root, relaxation: Relaxation, index: int, op: Dense | Conv2d, neurons: Int64Array, settings: Settings
) -> Tightening | None:
    start = linear.bound_accumulators(root.query.network, root.bounds(), index, op, neurons)
    sign = np.where(start.upper, -1, 1)
    source = inputs(op)[0]
    maps = relaxation.maps[torch.float64][index]
    assert maps is not None
    unit = relaxation.units[index]
    place = np.searchsorted(unit.keep, start.unit)
    one_hot = torch.zeros((len(sign), len(unit.keep)), dtype=torch.float64)
    one_hot[torch.arange(len(sign)), torch.from_numpy(place)] = torch.from_numpy(sign.astype(np.float64))
    # Relative to the reference run, whose accumulator is a0.
    constant = torch.from_numpy((sign * unit.a0.numpy()[place]).astype(np.float64))[:, None]
    form = maps.backward(one_hot)[0][:, None]
    objective = Objective({source: form}, constant, torch.ones_like(constant, dtype=torch.bool))
    before = [i for i in relaxation.units if i < index]

    def corners(dtype: torch.dtype) -> dict[int, Corners]:
        out = {}
        for i in before:
            lo, hi = (torch.from_numpy(side[:, relaxation.units[i].keep]).expand(len(sign), -1) for side in root.ranges.acc[i])
            out[i] = relaxation.corners(i, lo, hi, dtype)
        return out

    m = {i: v for i, v in relaxation.of_multipliers(start.multipliers, torch.float32).items() if i < index}
    # The value is of the accumulator's size: centred away for float32.
    centred = Objective({source: form.float()}, torch.zeros_like(constant).float(), objective.present)
    best = ascend(relaxation, corners(torch.float32), m, torch.zeros((len(sign), 1)), centred, settings)
    rounded = relaxation.to_multipliers(best.m, exponents_for(best.m))
    exact = relaxation.of_multipliers(rounded, torch.float64)
    value = relaxation.evaluate(corners(torch.float64), exact, {source: form[:, 0]}, constant[:, 0], gradient=False).value.numpy()
    claim = (np.ceil(value - SLACK * (1 + np.abs(value) * 1e-6)).astype(np.int64)) * sign
    # Where the linear pass is tighter its claims hold already.
    acc_lo, acc_hi = (side[0][start.unit] for side in root.ranges.acc[index])
    better = np.flatnonzero(np.where(start.upper, claim < acc_hi, claim > acc_lo))
    if not len(better):
        return None
    return Tightening(index, start.unit[better], start.upper[better], claim[better], rounded.at(better))
