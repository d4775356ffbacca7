"""All layers of one run at a glance: ranges, saturation, and the neurons that a small change would turn.

Every neuron's distance to a tie, to an overflow and to saturation is compared as an exact fraction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from bvverify.explain import rules
from bvverify.explain.calculation import HALF
from bvverify.explain.neuron import Element, Run
from bvverify.model import requant as rq
from bvverify.model.ops import Add, AvgPool, Conv2d, Dense, Op, SumThenRequantise
from bvverify.model.requant import Requant
from bvverify.model.types import Int64Array
from bvverify.run import interpreter


@dataclass(frozen=True, slots=True)
class Near:
    """The neuron of a layer that is nearest to something, and its distance.

    Of ``kind`` "tie": ``value`` (before rounding, the zero point included) minus the nearest tie; "saturation": how far the value is from
    where the clamp begins to change it; "overflow": what may be added to the sum before its register overflows; negative
    where it did. ``accumulator`` is the exact sum, before any wrap.
    """

    kind: str
    element: Element
    accumulator: int | None
    value: Fraction
    distance: Fraction
    output: int


@dataclass(frozen=True, slots=True)
class Layer:
    """One tensor: its least and largest value; how many neurons the clamp holds at its ends; the range of the sums, before any wrap."""

    layer: int
    tensor: str
    operation: str
    rule: str
    shape: tuple[int, ...]
    least: int
    largest: int
    saturated_low: int
    saturated_high: int
    accumulators: tuple[int, int] | None
    nearest: tuple[Near, ...]


def overview(run: Run) -> tuple[Layer, ...]:
    """Every tensor of the run, the input first."""
    return tuple(_layer(run, index) for index in range(len(run.tensors)))


def _layer(run: Run, index: int) -> Layer:
    values, tensor = run.tensors[index], run.network.tensors[index]
    op = run.network.ops[index - 1] if index else None
    low = high = 0
    ends: tuple[int, int] | None = None
    nearest: tuple[Near, ...] = ()
    clamp = None if op is None else clamp_of(op)
    if op is not None and clamp is not None:
        sums = _sums(run, op)
        ends = None if sums is None else (int(sums.min()), int(sums.max()))
        held = sums if sums is None or not isinstance(op, Dense | Conv2d) else interpreter.wrap(sums, op.accumulator_bits)
        reals = list(_values(run, op, held))
        low = sum(v < clamp[0] - HALF for v in reals)
        high = sum(v > clamp[1] + HALF for v in reals)
        nearest = tuple(_nearest(op, clamp, sums, reals, values))
    name = type(op).__name__ if op is not None else "Input" if run.network.input.quantiser is None else "Quantise"
    return Layer(
        index, tensor.name, name, _rule(op), tensor.shape, int(values.min()), int(values.max()), low, high, ends, nearest
    )  # fmt: skip


def _rule(op: Op | None) -> str:
    match op:
        case Dense(staircase=staircase) | Conv2d(staircase=staircase) | AvgPool(rule=SumThenRequantise(staircase=staircase)):
            return rq.name(staircase.requant)
        case Add(rule=rule):
            return rules.add(rule, 0, 0, 0, 0).rule
        case AvgPool():
            return "float-mean"
        case _:
            return ""


def clamp_of(op: Op) -> tuple[int, int] | None:
    """The ends of the clamp behind a rounding, where the operation has one whose value before rounding is looked at here."""
    match op:
        case Dense(staircase=staircase) | Conv2d(staircase=staircase) | AvgPool(rule=SumThenRequantise(staircase=staircase)):
            return staircase.lo, staircase.hi
        case Add(lo=lo, hi=hi):
            return lo, hi
        case _:
            return None


def _sums(run: Run, op: Op) -> Int64Array | None:
    """The accumulators before any wrap, of the tensor's shape."""
    match op:
        case Dense() | Conv2d():
            return interpreter.accumulate(op, run.tensors[op.x][None])[0]
        case AvgPool(window=window, rule=SumThenRequantise() as rule):
            return interpreter.window_sums(window, rule, run.tensors[op.x][None])[0]
        case _:
            return None


def _values(run: Run, op: Op, acc: Int64Array | None) -> Iterator[Fraction]:
    """The real number before rounding, zero point included, of every element in order."""
    match op:
        case Dense(staircase=staircase) | Conv2d(staircase=staircase) | AvgPool(rule=SumThenRequantise(staircase=staircase)):
            assert acc is not None
            for channel, part in enumerate(acc):
                line = _line(staircase.requant, channel)
                yield from (line(int(a)) for a in np.ravel(part))
        case Add(rule=rule, lo=lo, hi=hi):
            for a, b in zip(run.tensors[op.a].ravel().tolist(), run.tensors[op.b].ravel().tolist(), strict=True):
                made = rules.add(rule, a, b, lo, hi)
                yield made.value + made.zero_point
        case _:
            return


def _line(requant: Requant, channel: int) -> Callable[[int], Fraction]:
    """The exact line that a channel's requantisation rounds."""
    start = rq.before_rounding(requant, channel, 0)
    slope = rq.before_rounding(requant, channel, 1) - start
    return lambda acc: slope * acc + start


def _nearest(op: Op, clamp: tuple[int, int], sums: Int64Array | None, reals: list[Fraction], values: Int64Array) -> Iterator[Near]:
    def near(kind: str, place: int, distance: Fraction) -> Near:
        element = tuple(int(i) for i in np.unravel_index(place, values.shape))
        return Near(kind, element, None if sums is None else int(sums[element]), reals[place], distance, int(values[element]))

    first, last = clamp[0] - HALF, clamp[1] + HALF
    moving = [i for i, v in enumerate(reals) if first <= v <= last]
    if moving:
        ties = {i: reals[i] - math.floor(reals[i]) - HALF for i in moving}
        place = min(moving, key=lambda i: abs(ties[i]))
        yield near("tie", place, ties[place])
        edges = {i: min(reals[i] - first, last - reals[i]) for i in moving}
        place = min(moving, key=lambda i: edges[i])
        yield near("saturation", place, edges[place])
    if sums is not None and isinstance(op, Dense | Conv2d) and op.accumulator_bits is not None:
        half = 1 << (op.accumulator_bits - 1)
        room = np.where(sums >= 0, half - 1 - sums, half + sums).ravel()
        yield near("overflow", int(room.argmin()), Fraction(int(room.min())))
