"""Which conjunctions of a property's violation the bounds already exclude: one constraint that no input can meet is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bvverify.bounds import linear
from bvverify.bounds.interval import Bounds
from bvverify.model.certificate import Multipliers
from bvverify.model.query import Linear, Query
from bvverify.model.types import Int64Array


def by_interval(query: Query, bounds: Bounds, conjunctions: Sequence[int]) -> list[int]:
    """The conjunctions (indices) that intervals of the outputs and inputs leave open."""
    output = query.network.output.tensor
    lo, hi = bounds.lo[output].reshape(-1), bounds.hi[output].reshape(-1)
    box = query.box.lo.reshape(-1), query.box.hi.reshape(-1)

    def excluded(row: Linear) -> bool:
        least = _least(row.outputs, lo, hi) + (0 if row.inputs is None else _least(row.inputs, *box))
        return least > row.bound

    return [i for i in conjunctions if not any(excluded(row) for row in query.property.violation[i])]


@dataclass(frozen=True, slots=True, eq=False)
class Excluded:
    """Why a conjunction cannot be met: the bound of its row ``row`` by these multipliers (one row of them)."""

    row: int
    multipliers: Multipliers


def by_linear(query: Query, bounds: Bounds, conjunctions: Sequence[int]) -> dict[int, Excluded]:
    """The conjunctions (indices) that linear bounds of their constraints exclude."""
    rows = [(i, number, row) for i in conjunctions for number, row in enumerate(query.property.violation[i])]
    if not rows:
        return {}
    outputs = np.stack([row.outputs for *_, row in rows])
    over_inputs = None
    if any(row.inputs is not None for *_, row in rows):
        nothing = np.zeros(query.network.input.tensor.size, np.int64)
        over_inputs = np.stack([nothing if row.inputs is None else row.inputs for *_, row in rows])
    least, multipliers = linear.lower(query.network, bounds, outputs, over_inputs)
    excluded = {}
    for number, ((i, which, row), value) in enumerate(zip(rows, least, strict=True)):
        if value > row.bound:
            excluded[i] = Excluded(which, multipliers.at(np.array([number])))
    return excluded


def _least(row: Int64Array, lo: Int64Array, hi: Int64Array) -> int:
    return int(np.where(row > 0, row * lo, row * hi).sum())
