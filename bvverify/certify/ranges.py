"""Integer ranges of every tensor and accumulator in a part of the box: intervals, cut by claims and by splits.

The operations that are non-decreasing in every input are bounded by running the interpreter at the two ends. Accumulators are bounded
by the positive and the negative part of their weights, again by the interpreter. Rows are parts of the box; where they agree an
array has one row for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bvverify.certify.steps import Steps, levels, steps_of
from bvverify.model import ops
from bvverify.model.certificate import INPUT, units
from bvverify.model.network import Network
from bvverify.model.staircase import ACC_LIMIT
from bvverify.run import interpreter
from bvverify.run.adjoint import windows

Limits = dict[int, tuple[Any, Any]]
"""By operation (or ``INPUT``): the least and the largest accumulator allowed, int64 (rows or 1, units)."""
ANYTHING = 1 << 50
"""As a limit: none. Beyond every accumulator."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranges:
    """``lo[t]``, ``hi[t]`` of tensor t, (rows or 1, *shape); ``acc[i]`` of the units of operation i, (rows or 1, units).

    ``empty`` (rows,) or (1,) says which rows hold no input at all; their other numbers mean nothing. ``opaque`` are the operations
    whose accumulator could wrap: nothing is known of their results but the range.
    """

    lo: list[Any]
    hi: list[Any]
    acc: dict[int, tuple[Any, Any]]
    empty: Any
    opaque: frozenset[int]

    def at(self, rows: Any) -> Ranges:
        """Some of the rows; arrays with one row for all stay so."""
        lo, hi = ([x if len(x) == 1 else x[rows] for x in side] for side in (self.lo, self.hi))
        acc = {op: (a, b) if len(a) == 1 else (a[rows], b[rows]) for op, (a, b) in self.acc.items()}
        return Ranges(lo, hi, acc, self.empty, self.opaque)


class Frame:
    """What does not depend on the part of the box: the network, its step functions, its layers' positive and negative weights."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.steps: dict[int, Steps | None] = {i: steps_of(network, i) for i in range(len(network.ops))}
        layers = [(i, op) for i, op in enumerate(network.ops) if isinstance(op, ops.Dense | ops.Conv2d)]
        plus = {i: replace(op, centred=np.maximum(op.centred, 0)) for i, op in layers}
        self.halves = {i: (plus[i], replace(op, centred=np.minimum(op.centred, 0), bias=op.bias * 0)) for i, op in layers}


def propagate(frame: Frame, lo: Any, hi: Any, limits: Limits, opaque: frozenset[int] | None = None) -> Ranges:
    """Ranges for the box ``lo .. hi`` (1, *shape), cut by ``limits``; ``opaque`` None: found out, on these ranges.

    ``ValueError`` for accumulators beyond 2^48.
    """
    ranges = Ranges([], [], {}, np.zeros(1, bool), frozenset(opaque or ()))
    shape = lo.shape[1:]
    first, last, ranges = _cut(ranges, INPUT, lo.reshape(1, -1), hi.reshape(1, -1), limits)
    ranges.lo.append(first.reshape(-1, *shape))
    ranges.hi.append(last.reshape(-1, *shape))
    for index, op in enumerate(frame.network.ops):
        low, high = _one_row_count([ranges.lo[t] for t in ops.inputs(op)]), _one_row_count([ranges.hi[t] for t in ops.inputs(op)])
        if units(frame.network, index) == 0 and not isinstance(op, ops.MaxPool):
            result = interpreter.evaluate(op, low), interpreter.evaluate(op, high)
        else:
            a, b = _accumulators(frame, index, low, high)
            if max(-int(a.min(initial=0)), int(b.max(initial=0))) > ACC_LIMIT:
                raise ValueError(f"an accumulator of {op.name} could pass 2^48, beyond which thresholds are not known")
            a, b, ranges = _cut(ranges, index, a, b, limits)
            if opaque is None and _loose(op, a, b).any():
                ranges = replace(ranges, opaque=ranges.opaque | {index})
            ranges.acc[index] = (a, b)
            result = _results(frame, index, low, high, a, b, index in ranges.opaque)
        ranges.lo.append(result[0].reshape(-1, *frame.network.tensors[index + 1].shape))
        ranges.hi.append(result[1].reshape(-1, *frame.network.tensors[index + 1].shape))
    return ranges


def _cut(ranges: Ranges, index: int, lo: Any, hi: Any, limits: Limits) -> tuple[Any, Any, Ranges]:
    if index not in limits:
        return lo, hi, ranges
    cut_lo, cut_hi = np.maximum(lo, limits[index][0]), np.minimum(hi, limits[index][1])
    empty = (cut_lo > cut_hi).any(axis=1)
    # A row without any input keeps its uncut range, so that what is computed with it stays within the types.
    keep = empty[:, None]
    return np.where(keep, lo, cut_lo), np.where(keep, hi, cut_hi), replace(ranges, empty=ranges.empty | empty)


def _one_row_count(xs: list[Any]) -> list[Any]:
    rows = max(len(x) for x in xs)
    return [np.broadcast_to(x, (rows, *x.shape[1:])) for x in xs]


def _accumulators(frame: Frame, index: int, low: list[Any], high: list[Any]) -> tuple[Any, Any]:
    """The range of each unit's accumulator, (rows, units)."""
    match op := frame.network.ops[index]:
        case ops.Dense() | ops.Conv2d():
            plus, minus = frame.halves[index]
            ends = [interpreter.accumulate(plus, p) + interpreter.accumulate(minus, q) for p, q in ((low[0], high[0]), (high[0], low[0]))]
        case ops.AvgPool(rule=ops.SumThenRequantise(input_zero_point=zero)):
            ends = [windows(x, op, 0)[0].sum(axis=2) - zero * op.window.kernel[0] * op.window.kernel[1] for x in (low[0], high[0])]
        case ops.Add():
            a, b = op.rule.weights
            ends = [a * x[0] + b * x[1] for x in (low, high)]
        case ops.MaxPool():
            # A padded position takes part as the type's least value, which never wins over a value inside.
            least = frame.network.tensors[op.x].qtype.lo
            (lows, _), (highs, _) = windows(low[0], op, least), windows(high[0], op, least)
            so_far_lo, so_far_hi = np.maximum.accumulate(lows, axis=2), np.maximum.accumulate(highs, axis=2)
            ends = [(lows[:, :, 1:] - so_far_hi[:, :, :-1]).swapaxes(1, 2), (highs[:, :, 1:] - so_far_lo[:, :, :-1]).swapaxes(1, 2)]
        case ops.Clamp() | ops.Lookup():
            ends = [low[0], high[0]]
        case _:
            raise ValueError(f"{op.name} has no units")
    return ends[0].reshape(len(ends[0]), -1), ends[1].reshape(len(ends[1]), -1)


def _loose(op: ops.Op, lo: Any, hi: Any) -> Any:
    """Where an accumulator could wrap."""
    bits = op.accumulator_bits if isinstance(op, ops.Dense | ops.Conv2d) else None
    return (lo < -(1 << (bits - 1))) | (hi >= 1 << (bits - 1)) if bits else np.zeros_like(lo, bool)


def _results(frame: Frame, index: int, low: list[Any], high: list[Any], a: Any, b: Any, opaque: bool) -> tuple[Any, Any]:
    """The range of the operation's result from the range of its accumulators (rows, units)."""
    op, steps = frame.network.ops[index], frame.steps[index]
    shape = frame.network.tensors[index + 1].shape
    match op:
        case ops.Dense(staircase=s) | ops.Conv2d(staircase=s) if opaque:
            loose = _loose(op, a, b)
            lo, hi = _results(frame, index, low, high, a, b, False)
            # Of a single accumulator the wrap is known.
            known = s.apply(interpreter.wrap(a, op.accumulator_bits).reshape(-1, *shape)).reshape(a.shape)
            lo, hi = np.where(loose, s.lo, lo), np.where(loose, s.hi, hi)
            return np.where(a == b, known, lo), np.where(a == b, known, hi)
        case ops.Dense() | ops.Conv2d() | ops.AvgPool() | ops.Clamp():
            assert steps is not None
            return steps.lo + levels(steps, a, shape, early=False), steps.lo + levels(steps, b, shape, early=True)
        case ops.Add():
            lo, hi = (interpreter.evaluate(op, x) for x in (low, high))
            lo, hi = lo.reshape(len(lo), -1), hi.reshape(len(hi), -1)
            if steps is None:
                return lo, hi
            first, last = levels(steps, a, shape, early=False), levels(steps, b, shape, early=True)
            return np.maximum(lo, steps.lo + first), np.minimum(hi, steps.lo + last)
        case ops.MaxPool():
            return interpreter.evaluate(op, low), interpreter.evaluate(op, high)
        case ops.Lookup(table=table, input_lo=first):
            lo, hi = np.full(a.shape, table.max()), np.full(a.shape, table.min())
            for value in range(int(a.min(initial=first)), int(b.max(initial=first)) + 1):
                inside = (a <= value) & (value <= b)
                lo = np.where(inside, np.minimum(lo, table[value - first]), lo)
                hi = np.where(inside, np.maximum(hi, table[value - first]), hi)
            return lo, hi
        case _:
            raise ValueError(f"{op.name} has no units")
