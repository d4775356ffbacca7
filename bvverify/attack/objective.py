"""How far an output is from violating a property, as a number that an attack makes small.

For one conjunction it is the largest of ``value - bound`` over its constraints (violated when none is positive); for the property, the
smallest over its conjunctions. On rounded outputs this is exact and has plateaus; on smooth ones it has slopes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bvverify.model.query import Query
from bvverify.model.types import Int64Array, QType

_TIE_BREAK = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """The constraints of some conjunctions of a property as one matrix: ``outputs . y + inputs . x - bound``, by conjunction.

    ``outputs`` is float64 (constraints, outputs), ``inputs`` (constraints, inputs) or None, ``bound`` (constraints,); ``starts`` are the
    indices at which the conjunctions begin.
    """

    outputs: np.ndarray
    inputs: np.ndarray | None
    bound: np.ndarray
    starts: Int64Array

    @staticmethod
    def of(query: Query, conjunctions: Sequence[int]) -> Objective:
        """The objective of the conjunctions that are still open (indices into the property's violation)."""
        chosen = [query.property.violation[i] for i in conjunctions]
        rows = [row for conjunction in chosen for row in conjunction]
        size = query.network.input.tensor.size
        with_inputs = any(row.inputs is not None for row in rows)
        return Objective(
            np.stack([row.outputs for row in rows]).astype(np.float64),
            np.stack([np.zeros(size) if row.inputs is None else row.inputs.astype(np.float64) for row in rows]) if with_inputs else None,
            np.array([row.bound for row in rows], np.float64),
            np.cumsum([0] + [len(c) for c in chosen[:-1]]),
        )

    def by_conjunction(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(batch, conjunctions) for inputs and outputs flattened to two axes."""
        value = y @ self.outputs.T - self.bound
        if self.inputs is not None:
            value = value + x @ self.inputs.T
        return np.maximum.reduceat(value, self.starts, axis=1)


def distance(y: torch.Tensor, rows: torch.Tensor, bound: torch.Tensor, qtype: QType) -> torch.Tensor:
    """The rows (outputs, rows) on unrounded outputs ``y`` (batch, outputs), as far as an input can still change them; differentiable.

    An output that a row pulls down counts as far as it lies above saturation, too: it has to come down before anything changes. It
    counts no lower than saturation, where it can help no more. Where a tie in saturation would do, the rows on saturated
    outputs count instead if they are nearer.
    """
    down, up = rows.clamp(min=0), rows.clamp(max=0)
    free = y.clamp(min=qtype.lo) @ down + y.clamp(max=qtype.hi) @ up
    clipped = y.clamp(qtype.lo, qtype.hi) @ rows
    total = rows.sum(0)
    ties = torch.minimum(total * qtype.lo, total * qtype.hi) <= bound
    return torch.where(ties, torch.minimum(free, clipped + _TIE_BREAK * free), free)
