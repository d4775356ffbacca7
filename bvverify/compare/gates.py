"""Can a difference begin at an operation at all? The question of agreement, put to the whole pipeline instead of to intervals.

Two staircases of one accumulator differ on its gaps only. A gate for a gap ``first .. last`` is a pair of step functions of the same
accumulator, ``acc >= first`` and ``acc >= last + 1``; the gap is met where the first is 1 and the second 0. The gates of an operation,
behind A's operations before it, are a network like any other, much smaller than both readings side by side. *Verified* means that the
operation agrees on the box; a witness is an input on which the readings part there, and the place to look for one at the outputs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bvverify.bounds import interval
from bvverify.bounds.interval import Bounds, Range
from bvverify.compare.agreement import gaps, same_accumulator, staircase_of
from bvverify.compare.joint import Start
from bvverify.compare.reach import form
from bvverify.model.network import Network, Output
from bvverify.model.ops import Dense, Reshape, inputs
from bvverify.model.query import Box, Linear, Property, Query
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import QType, Tensor, frozen_array

_MOST = 64


def question(a: Network, b: Network, start: Start, box: Box, bounds: Bounds, nominal: np.ndarray | None) -> Query | None:
    """Whether some input of the box meets a gap of operation ``start.op``, all before it being equal.

    None where it cannot be put: no linear accumulator that the two share, one that may wrap, or too many gaps.
    """
    index = start.op
    one, other = staircase_of(a.ops[index]), staircase_of(b.ops[index])
    lo, hi = bounds.acc_lo[index], bounds.acc_hi[index]
    if (
        not same_accumulator(a.ops[index], b.ops[index])
        or one is None
        or other is None
        or lo is None
        or hi is None
        or interval.wraps(a.ops[index], Range(lo, hi))
    ):
        return None
    first, last = gaps(one, other)
    rows, biases = [], []
    for unit in np.flatnonzero(start.elements).tolist():
        of = form(a, index, unit)
        if of is None:
            return None
        row = int(np.unravel_index(unit, start.elements.shape)[0]) if len(first) > 1 else 0
        low, high = lo.ravel()[unit], hi.ravel()[unit]
        for level in np.flatnonzero((first[row] <= last[row]) & (first[row] <= high) & (last[row] >= low)):
            rows.append(of.coefficients)
            # clip(acc - first + 1, 0, 1) is 1 from first on; likewise from last + 1 on
            biases.append((of.constant - int(first[row, level]) + 1, of.constant - int(last[row, level])))
    if not 0 < len(rows) <= _MOST:
        return None
    x = inputs(a.ops[index])[0]
    size = a.tensors[x].size
    ops = [*a.ops[:index], Reshape("flat", x, (size,))]
    tensors = [*a.tensors[: index + 1], Tensor("flat", (size,), a.tensors[x].qtype)]
    weight, bias = np.repeat(np.stack(rows), 2, axis=0), np.array(biases, np.int64).ravel()
    ops.append(Dense.of("gates", len(ops), weight, bias, Staircase(ShiftHalfUp(0), 0, 1), accumulator_bits=None))
    tensors.append(Tensor("gates", (len(bias),), QType(2, signed=False)))
    network = replace(
        a,
        ops=tuple(ops),
        tensors=tuple(tensors),
        output=Output(len(ops), (1, len(bias))),
        provenance=replace(a.provenance, format="gates"),
    )
    violation = []
    for k in range(len(rows)):
        met, passed = np.zeros((2, len(bias)), np.int64)
        met[2 * k], passed[2 * k + 1] = -1, 1
        violation.append((Linear(frozen_array(met, np.int64), -1), Linear(frozen_array(passed, np.int64), 0)))
    name = a.tensors[index + 1].name
    return Query(network, box, Property(tuple(violation), f"no accumulator of {name} meets a gap between the two staircases"), nominal)
