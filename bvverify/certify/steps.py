"""Step functions of an accumulator, and the least value of ``c * z - lambda * a`` on them: what weak duality rests on.

A step function is given by two lists of thresholds: ``early[k]``, the least accumulator at which level ``lo + k + 1`` *can* be reached, and
``late[k]``, the least from which it always is. They are equal where the result is a function of the accumulator.

**Lemma.** Let ``a`` be in ``[l, u]``, ``first`` the number of late steps at or below ``l`` and ``last`` the number of early steps at or
below ``u``; then z takes the levels first .. last. At one level ``c*z - lambda*a`` is linear in ``a``, so it is least at one end of the
level. Where ``lambda <= 0`` that is the left end: ``(l, first)``, or for the levels above it ``(early[z], z)``. Where ``lambda > 0`` it is
the right end: ``(u, last)``, or for the levels below it ``(late[z+1] - 1, z)``. Taking an end outside ``[l, u]`` only makes the minimum
smaller. Of the ends of the one list or the other we look at the first and the last. Any between them lies within ``spread`` of the
straight line through those two, where ``spread = max r - min r`` and ``r[k] = T[k] - slope * k``; a linear function on a line is least at
an end, so what is between is no less than the two minus ``|lambda| * spread``. With three levels or fewer there is nothing between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bvverify.model import ops
from bvverify.model.network import Network
from bvverify.model.staircase import ACC_LIMIT
from bvverify.run.add_thresholds import thresholds_of_add
from bvverify.run.exact import LIMIT, fit, magnitude


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """``early`` and ``late`` are int64 (channels, steps), ``spread`` (channels,); ``lo`` is the level below the first step."""

    lo: int
    early: Any
    late: Any
    spread: Any


def steps_of(network: Network, index: int) -> Steps | None:
    """The step function of an operation; None where it has none (a table, or too many values to go through)."""
    op = network.ops[index]
    match op:
        case ops.Dense(staircase=s) | ops.Conv2d(staircase=s) | ops.AvgPool(rule=ops.SumThenRequantise(staircase=s)):
            return _make(s.lo, s.thresholds, s.thresholds)
        case ops.Clamp(lo=lo, hi=hi):
            steps = np.arange(lo + 1, hi + 1, dtype=np.int64)[None]
            return _make(lo, steps, steps)
        case ops.MaxPool():
            steps = np.arange(1, network.tensors[op.x].qtype.hi - network.tensors[op.x].qtype.lo + 1, dtype=np.int64)[None]
            return _make(0, steps, steps)
        case ops.Add():
            found = thresholds_of_add(network, op)
            return None if found is None else _make(*found)
        case _:
            return None


def _make(lo: int, early: Any, late: Any) -> Steps:
    spread = np.zeros(len(early), np.int64)
    for channel, steps in [*enumerate(early), *enumerate(late)]:
        # Steps that no accumulator reaches, or that all do, are never between two that are inside a range.
        inside = steps[np.abs(steps) < ACC_LIMIT]
        runs = len(inside) - 1
        if runs > 1:
            inside = fit(2 * magnitude(inside) * runs, inside)[0]
            r = inside * runs - (inside[-1] - inside[0]) * np.arange(runs + 1, dtype=inside.dtype)
            spread[channel] = max(spread[channel], -((r.min() - r.max()) // runs))
    return Steps(lo, early, late, spread)


def levels(steps: Steps, a: Any, shape: tuple[int, ...], *, early: bool) -> Any:
    """How many steps each accumulator (rows, units of ``shape``) has reached: at most (``early``) or at least."""
    table = steps.early if early else steps.late
    if len(table) == 1:
        return np.searchsorted(table[0], a, side="right")
    by_channel = a.reshape(len(a), shape[0], -1)
    counts = [np.searchsorted(row, by_channel[:, channel], side="right") for channel, row in enumerate(table)]
    return np.stack(counts, axis=1).reshape(a.shape)


def least_on_steps(steps: Steps, c: Any, m: Any, l: Any, u: Any, shape: tuple[int, ...]) -> Any:
    """The least ``c * z - m * a`` for ``a`` in ``[l, u]``, by the lemma; all (rows, units of ``shape``), integers of one scale."""
    first, last = levels(steps, l, shape, early=False), levels(steps, u, shape, early=True)
    some, left, spread = last > first, m <= 0, np.zeros((), np.int64)
    ends = [(np.where(left, l, u), np.where(left, first, last))]
    if steps.early.shape[1]:
        channel = np.zeros(l.shape[1], np.int64) if len(steps.early) == 1 else np.repeat(np.arange(shape[0]), l.shape[1] // shape[0])
        for k in (np.where(some, first, 0), np.where(some, last - 1, 0)):
            a = np.where(left, steps.early[channel, k], steps.late[channel, k] - 1)
            ends.append((np.where(some, a, ends[0][0]), np.where(some, k + left, ends[0][1])))
        spread = np.where(last - first > 2, steps.spread[channel], 0)
    largest_a, largest_z = max(magnitude(a) for a, _ in ends), max(magnitude(z) for _, z in ends) + abs(steps.lo)
    c, m = fit(magnitude(c) * largest_z + magnitude(m) * (largest_a + magnitude(spread)), c, m)
    least = c * (ends[0][1] + steps.lo) - m * ends[0][0]
    for a, z in ends[1:]:
        least = np.minimum(least, c * (z + steps.lo) - m * a)
    return least - np.abs(m) * spread


def least_on_table(op: ops.Lookup, c: Any, m: Any, l: Any, u: Any) -> Any:
    """The least ``c * table[a] - m * a`` for ``a`` in ``[l, u]``: every entry in turn."""
    c, m = fit(magnitude(c) * magnitude(op.table) + magnitude(m) * (magnitude(l) + magnitude(u)), c, m)
    shape = np.broadcast_shapes(c.shape, m.shape, l.shape, u.shape)
    least = np.full(shape, LIMIT, object if object in (c.dtype, m.dtype) else np.int64)
    for a in range(int(l.min(initial=0)), int(u.max(initial=0)) + 1):
        least = np.where((l <= a) & (a <= u), np.minimum(least, c * op.table[a - op.input_lo] - m * a), least)
    return least
