"""Putting a certificate together: leaves and trees of single conjunctions, joined into one forest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bvverify.model.certificate import INPUT, Certificate, Forest, Kind, Multipliers, Statement, Tightening
from bvverify.model.query import Box, Query
from bvverify.model.types import Int64Array

_NOTHING = np.zeros(0, np.int64)


def interval_leaf() -> Forest:
    """A tree of one leaf: intervals exclude the conjunction."""
    return Forest(np.array([Kind.INTERVAL]), _NOTHING, _NOTHING, _NOTHING, np.zeros((0, 1), np.int64), Multipliers(0, {}, {}))


def solver_leaf() -> Forest:
    """A tree of one leaf that a solver closed."""
    return Forest(np.array([Kind.SOLVER]), _NOTHING, _NOTHING, _NOTHING, np.zeros((0, 1), np.int64), Multipliers(0, {}, {}))


def bound_leaf(weight: Int64Array, multipliers: Multipliers) -> Forest:
    """A tree of one leaf: the rows with these weights are bounded above zero."""
    return Forest(np.array([Kind.BOUND]), _NOTHING, _NOTHING, _NOTHING, weight[None], multipliers)


def one_by_one(box: Box) -> Forest:
    """A tree that splits a box into its single inputs, in each of which intervals, which are exact there, exclude the conjunction."""
    lo, hi = box.lo.reshape(-1), box.hi.reshape(-1)
    kind: list[int] = []
    splits: list[tuple[int, int]] = []
    stack = [(lo, hi)]
    while stack:
        lo, hi = stack.pop()
        free = np.flatnonzero(lo < hi)
        if not len(free):
            kind.append(Kind.INTERVAL)
            continue
        unit, middle = int(free[0]), int(lo[free[0]] + hi[free[0]]) >> 1
        kind.append(Kind.SPLIT)
        splits.append((unit, middle))
        below, above = hi.copy(), lo.copy()
        below[unit], above[unit] = middle, middle + 1
        stack += [(above, hi), (lo, below)]
    units, values = (np.array([split[k] for split in splits], np.int64) for k in (0, 1))
    nothing = Multipliers(0, {}, {})
    return Forest(np.array(kind), np.full(len(splits), INPUT), units, values, np.zeros((0, 1), np.int64), nothing)


def join(trees: Sequence[Forest]) -> Forest:
    """The trees of all conjunctions, in their order, as one forest."""
    widest = max((t.weight.shape[1] for t in trees), default=1)
    weight = [np.pad(t.weight, ((0, 0), (0, widest - t.weight.shape[1]))) for t in trees]

    def all_of(parts: list[Int64Array]) -> Int64Array:
        return np.concatenate([_NOTHING, *parts]).astype(np.int64)

    return Forest(
        all_of([t.kind for t in trees]),
        all_of([t.split_op for t in trees]),
        all_of([t.split_unit for t in trees]),
        all_of([t.split_value for t in trees]),
        np.concatenate([np.zeros((0, widest), np.int64), *weight]),
        stack([t.multipliers for t in trees]),
    )


def stack(parts: Sequence[Multipliers]) -> Multipliers:
    """Rows of multipliers one after the other, at the finest exponent of each operation; nothing is rounded."""
    rows = sum(p.rows for p in parts)
    values: dict[int, Int64Array] = {}
    exponents: dict[int, int] = {}
    for op in sorted({op for p in parts for op in p.values}):
        having = [p for p in parts if op in p.values]
        exponent, size = max(p.exponents[op] for p in having), having[0].values[op].shape[1]
        merged = [
            p.values[op] << (exponent - p.exponents[op]) if op in p.values else np.zeros((p.rows, size), np.int64) for p in parts if p.rows
        ]
        if merged:
            values[op], exponents[op] = np.concatenate(merged), exponent
    return Multipliers(rows, values, exponents)


def certificate(query: Query, tightenings: Sequence[Tightening], trees: Sequence[Forest]) -> Certificate:
    """The certificate of a query from a tree for each of its conjunctions."""
    return Certificate(Statement.of(query), tuple(tightenings), join(trees))
