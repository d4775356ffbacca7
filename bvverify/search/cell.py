"""Nodes in which every unit is settled: whether any input of the part has accumulators in their ranges.

Where no unit has a step left, everything behind the first layer is constant, and the inputs that violate are a polytope: those of the
part whose accumulators in the first layer lie in their ranges. Ranges are thousands of weights wide there and the polytopes thin, so that
neither the bound, which knows no scale for what is merely impossible, nor a solver of bit-vectors comes to an end.

Half the squared distance f(x) of the accumulators ``W x + b`` from their ranges is convex and smooth; accelerated projected gradients
(Beck and Teboulle, 2009) find its minimum r² / 2. Where r is not zero, the residuals are multipliers (Farkas): the least value of
``r (W x + b - nearest)`` over the box is about r². Added to any multipliers they raise a bound by that, as minima of sums are no less
than sums of minima. Where r is zero, rounded points well inside the ranges are inputs: a margin is asked of a part of the weights' norm,
more than there may be, and the residuals share what is missing.

All of it in floats: the bound is evaluated again at integer multipliers, and inputs are run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from bvverify.bounds.accelerated import Accelerated
from bvverify.bounds.lagrange import Box, Relaxation
from bvverify.bounds.linear_maps import LinearMap, Tensor
from bvverify.model.ops import Reshape, Transpose, inputs

_STEPS, _LOOK = 1000, 50
_MARGINS = (0.3, 0.1, 0.06, 0.03, 0.015)
"""Of the weights' norm."""
_SURE = 1e-3
"""Of the squared residuals: what their multipliers have to be worth."""


@dataclass(slots=True)
class Cell:
    """A row's accumulators and inputs, relative to the reference: ranges by operation (rows, n), the box (rows, kept elements)."""

    lo: dict[int, Tensor]
    hi: dict[int, Tensor]
    x_lo: Tensor
    x_hi: Tensor

    def with_margin(self, margin: dict[int, Tensor]) -> Cell:
        """Ranges narrowed at both ends, to their middle at most."""
        lo, hi = dict(self.lo), dict(self.hi)
        for i, by in margin.items():
            middle = (lo[i] + hi[i]) / 2
            lo[i], hi[i] = torch.minimum(lo[i] + by, middle), torch.maximum(hi[i] - by, middle)
        return Cell(lo, hi, self.x_lo, self.x_hi)


class Cells:
    """For one relaxation; operations that the input alone reaches make the accumulators (``relaxation.first``)."""

    def __init__(self, relaxation: Relaxation) -> None:
        self.relaxation = relaxation
        self.first = sorted(relaxation.first & relaxation.units.keys())
        ops, self.maps, views = relaxation.network.ops, dict[int, LinearMap](), {0}
        for index, op in enumerate(ops):
            maps = relaxation.maps[torch.float64][index]
            if maps is not None and (index in self.first or (isinstance(op, Reshape | Transpose) and op.x in views)):
                self.maps[index] = maps
                views |= {index + 1} - {i + 1 for i in self.first}
        self.source = {index: inputs(ops[index])[0] for index in self.maps}
        self.norm, self.curvature = self._sizes()

    def cell(self, ranges: dict[int, tuple[Tensor, Tensor]], box: Box, rows: Tensor) -> Cell:
        """Of accumulators by operation, int64 (rows, n), and a box of one row or as many."""
        lo, hi = ({i: (ranges[i][k][rows] - self.relaxation.units[i].a0).double() for i in self.first} for k in (0, 1))
        middle, half = (part.double() if part.dim() == 1 else part[rows].double() for part in box)
        x_lo, x_hi = ((middle + sign * half).expand(len(rows), -1) for sign in (-1, 1))
        return Cell(lo, hi, x_lo, x_hi)

    def refute(self, cell: Cell, x: Tensor, deadline: float | None) -> tuple[dict[int, Tensor], Tensor]:
        """Multipliers by operation (rows, n), and what they raise a bound by: not above zero where nothing was refuted.

        ``x`` (rows, kept elements) is where to begin, relative to the reference.
        """
        best = torch.full((len(x),), -torch.inf, dtype=torch.float64)
        kept = {i: torch.zeros_like(v) for i, v in cell.lo.items()}
        for now in self._descend(cell, x, deadline):
            r = self._outside(cell, self._forward(now))
            worth, size = self._worth(cell, r), sum((v.square().sum(1) for v in r.values()), torch.zeros(()))
            worth = torch.where(worth > _SURE * size, worth, -torch.inf)
            better = worth > best
            best = torch.where(better, worth, best)
            kept = {i: torch.where(better[:, None], v, kept[i]) for i, v in r.items()}
            if bool(((best > 0) | (size == 0)).all()):
                break
        return kept, best

    def inputs(self, cell: Cell, x: Tensor, deadline: float | None) -> Tensor:
        """Integers (points, kept elements), relative to the reference, whose accumulators lie in the ranges, or near."""
        found = []
        for margin in _MARGINS:
            inside = cell.with_margin({i: margin * v for i, v in self.norm.items()})
            *_, now = self._descend(inside, x, deadline)
            found.append(now.round().clamp(min=cell.x_lo, max=cell.x_hi))
        return torch.cat(found)

    def _descend(self, cell: Cell, x: Tensor, deadline: float | None) -> Iterator[Tensor]:
        """Points on the way to the least distance, some steps apart."""
        way = Accelerated(x.clamp(min=cell.x_lo, max=cell.x_hi), cell.x_lo, cell.x_hi)
        for step in range(1, _STEPS + 1):
            way.step(self._backward(self._outside(cell, self._forward(way.ahead))) / self.curvature)
            if step % _LOOK == 0:
                yield way.now
                if deadline is not None and time.monotonic() > deadline:
                    return

    def _outside(self, cell: Cell, acc: dict[int, Tensor]) -> dict[int, Tensor]:
        return {i: a - a.clamp(min=cell.lo[i], max=cell.hi[i]) for i, a in acc.items()}

    def _worth(self, cell: Cell, r: dict[int, Tensor]) -> Tensor:
        """The least of ``r (acc(x) - a)`` over inputs x and accumulators a in their ranges, (rows,)."""
        form = self._backward(r)
        value = torch.minimum(form * cell.x_lo, form * cell.x_hi).sum(1)
        for i, v in r.items():
            value = value - torch.maximum(v * cell.lo[i], v * cell.hi[i]).sum(1)
        return value

    def _sizes(self) -> tuple[dict[int, Tensor], float]:
        """About the norm of each unit's weights, and a little above the largest squared singular value of all of them."""
        generator = torch.Generator().manual_seed(0)
        size = len(self.relaxation.keep[0])
        # The mean square of a form at random signs is its squared norm.
        signs = torch.randint(2, (64, size), generator=generator).double() * 2 - 1
        norm = {i: acc.square().mean(0).sqrt() for i, acc in self._forward(signs).items()}
        v, value = signs[:1], 1.0
        for _ in range(30):
            v = self._backward(self._forward(v))
            value = max(float(v.norm()), 1e-12)
            v = v / value
        return norm, 1.1 * value

    def _forward(self, x: Tensor) -> dict[int, Tensor]:
        values = {0: x}
        for index, maps in self.maps.items():
            values[index + 1] = maps.forward([values[self.source[index]]])
        return {i: values[i + 1] for i in self.first}

    def _backward(self, r: dict[int, Tensor]) -> Tensor:
        forms = {i + 1: v for i, v in r.items()}
        for index in reversed(self.maps):
            if index + 1 in forms:
                form = self.maps[index].backward(forms.pop(index + 1))[0]
                t = self.source[index]
                forms[t] = forms[t] + form if t in forms else form
        return forms[0]
