"""Step functions of an accumulator, and the least value of ``c * z - lambda * a`` on them: what weak duality rests on.

A step function is given by two lists of thresholds: ``early[k]``, the least accumulator at which level ``lo + k + 1`` *can* be reached, and
``late[k]``, the least from which it always is. They are equal where the result is a function of the accumulator.

**Lemma.** Let ``a`` be in ``[l, u]``, ``first`` the number of late steps at or below ``l`` and ``last`` the number of early steps at or
below ``u``; then z takes the levels first .. last. At one level ``c*z - lambda*a`` is linear in ``a``, so it is least at one end of the
level. Where ``lambda <= 0`` that is the left end: ``(l, first)``, or for the levels above it ``(early[z], z)``. Where ``lambda > 0`` it is
the right end: ``(u, last)``, or for the levels below it ``(late[z+1] - 1, z)``. Taking an end outside ``[l, u]`` only makes the minimum
smaller. Of the one list or the other we look at the first and the last end; with three levels or fewer there are no others. With more the
two are put on a straight line: left ends on ``left``, below or at every ``early[k]``; right ends on ``right``, above or at every ``late[k]
- 1``. That makes them no larger, and an end between them no less than the line there, which is least at one of the two. In narrower ranges
the least found so is never smaller: its ends are on the same lines, or true ends between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bvverify.model import ops
from bvverify.model.network import Network
from bvverify.model.staircase import ACC_LIMIT
from bvverify.run.add_thresholds import thresholds_of_add
from bvverify.run.exact import LIMIT, fit, magnitude, scale


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """``early`` and ``late`` are int64 (channels, steps), ``left`` and ``right`` too, times ``2^-bits``; ``lo`` is the level below all."""

    lo: int
    early: Any
    late: Any
    left: Any
    right: Any
    bits: int


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
    bits = early.shape[1].bit_length() + 4  # of a slope: over all levels it is off by 1 / 16 at most
    left, right = ([_on_a_line(row, bits, end) for row in steps] for steps, end in ((early, np.min), (late, np.max)))
    return Steps(lo, early, late, np.array(left).reshape(early.shape), np.array(right).reshape(late.shape) - (1 << bits), bits)


def _on_a_line(steps: Any, bits: int, end: Any) -> Any:
    """The steps, times ``2^bits``, moved down (``end`` is a minimum) or up onto a line: about that through the first and the last."""
    # Steps that no accumulator reaches, or that all do, are never between two that are inside a range.
    at = np.flatnonzero(np.abs(steps) < ACC_LIMIT)
    inside = fit(magnitude(steps[at]) * len(steps) << bits + 2, steps[at])[0] << bits
    if len(at) < 2:
        return steps * 0
    line = (inside[-1] - inside[0]) // (len(at) - 1) * np.arange(len(steps), dtype=inside.dtype)
    return line + end(inside - line[at])


def levels(steps: Steps, a: Any, shape: tuple[int, ...], *, early: bool) -> Any:
    """How many steps each accumulator (rows, units of ``shape``) has reached: at most (``early``) or at least."""
    table = steps.early if early else steps.late
    if len(table) == 1:
        return np.searchsorted(table[0], a, side="right")
    parts = zip(table, a.reshape(len(a), shape[0], -1).swapaxes(0, 1), strict=True)
    return np.stack([np.searchsorted(row, part, side="right") for row, part in parts], axis=1).reshape(a.shape)


def least_on_steps(steps: Steps, c: Any, m: Any, l: Any, u: Any, shape: tuple[int, ...]) -> Any:
    """The least ``c * z - m * a`` for ``a`` in ``[l, u]``, by the lemma; all (rows, units of ``shape``), the result times ``2^-bits``."""
    first, last = levels(steps, l, shape, early=False), levels(steps, u, shape, early=True)
    some, left, many, one = last > first, m <= 0, last - first > 2, 1 << steps.bits
    ends = [(scale(np.where(left, l, u), one), np.where(left, first, last))]
    if steps.early.shape[1]:
        channel = np.zeros(l.shape[1], np.int64) if len(steps.early) == 1 else np.repeat(np.arange(shape[0]), l.shape[1] // shape[0])
        for k in (np.where(some, first, 0), np.where(some, last - 1, 0)):
            a = scale(np.where(left, steps.early[channel, k], steps.late[channel, k] - 1) * some, one)
            a = np.where(many, np.where(left, steps.left[channel, k], steps.right[channel, k]), a)
            ends.append((np.where(some, a, ends[0][0]), np.where(some, k + left, ends[0][1])))
    largest_a, largest_z = max(magnitude(a) for a, _ in ends), max(magnitude(z) for _, z in ends) + abs(steps.lo)
    c, m = fit(magnitude(c) * one * largest_z + magnitude(m) * largest_a, c, m)
    return np.minimum.reduce([c * one * (z + steps.lo) - m * a for a, z in ends])


def least_on_table(op: ops.Lookup, c: Any, m: Any, l: Any, u: Any) -> Any:
    """The least ``c * table[a] - m * a`` for ``a`` in ``[l, u]``: every entry in turn."""
    c, m = fit(magnitude(c) * magnitude(op.table) + magnitude(m) * (magnitude(l) + magnitude(u)), c, m)
    shape = np.broadcast_shapes(c.shape, m.shape, l.shape, u.shape)
    least = np.full(shape, LIMIT, object if object in (c.dtype, m.dtype) else np.int64)
    for a in range(int(l.min(initial=0)), int(u.max(initial=0)) + 1):
        least = np.where((l <= a) & (a <= u), np.minimum(least, c * op.table[a - op.input_lo] - m * a), least)
    return least
