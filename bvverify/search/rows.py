"""A violation's conjunctions as forms to be bounded: rows over outputs and inputs, put on the outputs' accumulators.

Each output is put on its accumulator at the slope of its staircase (``pull``). With the outputs' own multipliers free the bound would be
tighter, but flat: no smaller than what the outputs' ranges say, and while it is that, no multiplier below has an effect, no split helps,
and the search stalls. For the same reason a row is joined, on a simplex of weights, by forms that say that an accumulator which the row
pulls one way stays on this side of the other end of its range: parts of the box that only their ranges contradict are closed by those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from bvverify.bounds.ascent import Objective
from bvverify.bounds.lagrange import Relaxation
from bvverify.bounds.linear_maps import Tensor
from bvverify.bounds.units import inner
from bvverify.certify.ranges import Ranges
from bvverify.model.ops import Conv2d, Dense, Reshape, inputs
from bvverify.model.query import Conjunction, Query
from bvverify.model.types import Int64Array

_MOST_ENDS = 16


class Rows:
    """The conjunctions of a query that are asked about, prepared for bounding.

    ``place[i]`` is the position of conjunction i in the arrays, ``most_rows`` the most rows that one has; the forms behind those are ends.
    ``output_op`` is the operation whose accumulators the rows are put on, ``pull`` float64 (conjunctions, forms, kept outputs) with what
    weight; None where the outputs have no linear accumulator: then rows are bounded on the outputs themselves.
    """

    def __init__(self, query: Query, relaxation: Relaxation, root: Ranges, conjunctions: Sequence[int]) -> None:
        self.network, self.relaxation, self.root = query.network, relaxation, root
        network, violation = query.network, query.property.violation
        output = network.output.tensor
        self.place = {i: k for k, i in enumerate(conjunctions)}
        self.most_rows = max(len(violation[i]) for i in conjunctions)
        self.output_op = self._find_output_op()
        ends = [self.ends(violation[i]) for i in conjunctions]
        shape = len(conjunctions), self.most_rows + max(len(e) for e in ends)
        outputs, over = np.zeros((*shape, network.output_tensor.size)), np.zeros((*shape, network.input.tensor.size))
        constant, present = np.zeros(shape), np.zeros(shape, bool)
        y0, x0 = relaxation.reference[output].reshape(-1), relaxation.reference[0].reshape(-1)
        self.bounds = np.full((len(conjunctions), self.most_rows), np.inf)
        for i, k in self.place.items():
            for r, row in enumerate(violation[i]):
                outputs[k, r], present[k, r], self.bounds[k, r] = row.outputs, True, row.bound
                constant[k, r] = int(row.outputs @ y0) - row.bound
                if row.inputs is not None:
                    over[k, r] = row.inputs
                    constant[k, r] += int(row.inputs @ x0)
        self.forms: dict[int, Tensor] = {}
        if over.any():
            self.forms[0] = torch.from_numpy(over[:, :, relaxation.keep[0]])
        of_outputs = torch.from_numpy(outputs[:, :, relaxation.keep[output]])
        self.end_place, self.end_sign = np.zeros((2, *shape), np.int64)
        if self.output_op is None:
            self.forms[output] = of_outputs
        else:
            unit, maps = relaxation.units[self.output_op], relaxation.maps[torch.float64][self.output_op]
            assert maps is not None
            self.pull = of_outputs / unit.step
            for k, of_conjunction in enumerate(ends):
                for r, (place, sign) in enumerate(of_conjunction, self.most_rows):
                    self.end_place[k, r], self.end_sign[k, r], present[k, r] = place, sign, True
                    self.pull[k, r, place] = sign / unit.step[place]
            (source,) = inputs(network.ops[self.output_op])
            (form,) = maps.backward(self.pull.flatten(0, 1))
            form = form.reshape(*shape, -1)
            self.forms[source] = self.forms[source] + form if source in self.forms else form
        self.constant, self.present = constant, present
        self.integers = outputs[:, : self.most_rows], over[:, : self.most_rows]

    def _find_output_op(self) -> int | None:
        """The operation whose units are the outputs, in their order; None where there is none with a linear accumulator."""
        tensor = self.network.output.tensor
        while tensor > 0 and isinstance(self.network.ops[tensor - 1], Reshape):
            (tensor,) = inputs(self.network.ops[tensor - 1])
        settled = tensor - 1 in self.relaxation.units and isinstance(self.network.ops[tensor - 1], Dense | Conv2d)
        return tensor - 1 if settled else None

    def ends(self, conjunction: Conjunction) -> list[tuple[int, int]]:
        """The outputs that rows pull (place among the kept units), with 1 where a row pulls down, -1 where it pulls up."""
        if self.output_op is None:
            return []
        keep = self.relaxation.units[self.output_op].keep
        pulled = sorted({(int(j), int(np.sign(row.outputs[j]))) for row in conjunction for j in np.flatnonzero(row.outputs)})
        places = [(int(np.searchsorted(keep, j)), sign) for j, sign in pulled if j in keep]
        return places if len(places) <= _MOST_ENDS else []

    def objective(self, conjunctions: Sequence[int], ranges: dict[int, tuple[Tensor, Tensor]], outputs: tuple[Any, Any]) -> Objective:
        """The forms of a conjunction a row, on accumulators in ``ranges`` and outputs in ``outputs`` (rows, outputs)."""
        at = self.at(conjunctions)
        constant, present = self.constant[at].copy(), self.present[at].copy()
        forms = {t: f[at[:1] if (at == at[:1]).all() else at] for t, f in self.forms.items()}
        if self.output_op is not None:
            unit = self.relaxation.units[self.output_op]
            corners = self.relaxation.corners(self.output_op, *ranges[self.output_op], torch.float64)
            own = torch.from_numpy(self.integers[0][at][:, :, self.relaxation.keep[self.network.output.tensor]])
            for r in range(self.most_rows):
                # z >= a / step + what rounding and the ends of the range take off at most.
                constant[:, r] += inner(corners, own[:, r], own[:, r] / unit.step, gradient=False)[0].numpy()
            if not len(unit.keep):
                return Objective(forms, torch.from_numpy(constant), torch.from_numpy(present))
            place, sign, row = self.end_place[at], self.end_sign[at], np.arange(len(at))[:, None]
            lo, hi = (side.numpy()[row, place] for side in ranges[self.output_op])
            step, a0 = unit.step.numpy()[place], unit.a0.numpy()[place]
            constant += np.where(sign > 0, a0 - hi, np.where(sign < 0, lo - a0, 0)) / step
            root_lo, root_hi = (side[0][unit.keep][place] for side in self.root.acc[self.output_op])
            # An end that no split has moved is met by every input.
            present &= (sign == 0) | np.where(sign > 0, hi < root_hi, lo > root_lo)
            # A row that the ranges of the outputs always meet cannot help to exclude anything.
            rows = self.integers[0][at]
            most = np.maximum(rows * outputs[0][:, None], rows * outputs[1][:, None]).sum(axis=2) - self.bounds[at]
            idle = (most <= 0) & ~self.integers[1][at].any(axis=2)
            others = present.copy()
            others[:, : self.most_rows] &= ~idle
            present = np.where(others.any(axis=1, keepdims=True), others, present)
        return Objective(forms, torch.from_numpy(constant), torch.from_numpy(present))

    def at(self, conjunctions: Sequence[int]) -> Int64Array:
        """The positions of conjunctions."""
        return np.array([self.place[i] for i in conjunctions])

    def farthest(self, conjunction: int) -> int:
        """The row of a conjunction that the reference run is farthest from meeting."""
        place = self.place[conjunction]
        return int(np.where(self.present[place], self.constant[place], -np.inf)[: self.most_rows].argmax())

    def exact(self, conjunctions: Sequence[int], weight: Tensor) -> tuple[dict[int, Tensor], Tensor]:
        """The rows themselves, on outputs and inputs, with ``weight`` (rows, rows of a conjunction): forms by tensor, and the constant."""
        at, keep, output = self.at(conjunctions), self.relaxation.keep, self.network.output.tensor
        rows = {output: self.integers[0]} | ({0: self.integers[1]} if self.integers[1].any() else {})
        forms = {t: (weight[:, :, None] * torch.from_numpy(r[at][:, :, keep[t]])).sum(1) for t, r in rows.items()}
        return forms, (weight * torch.from_numpy(self.constant[at, : self.most_rows])).sum(1)

    def excluded(self, conjunctions: Sequence[int], ranges: Ranges) -> Any:
        """Of which conjunctions (one a row of ``ranges``) one row cannot be met by the ranges of outputs and inputs."""
        outputs, over = self.integers
        at = self.at(conjunctions)
        least = -self.bounds[at]
        for rows, tensor in ((outputs, self.network.output.tensor), (over, 0)):
            if rows.any():
                lo, hi = (side[tensor].reshape(len(side[tensor]), 1, -1) for side in (ranges.lo, ranges.hi))
                least = least + np.minimum(rows[at] * lo, rows[at] * hi).sum(axis=2)
        return (least > 0).any(axis=1)
