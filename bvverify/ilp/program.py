"""A question under one reading: the program, and where the network's tensors are in it.

Every operation has its one place in the ``match`` below. What all readings share (sums, maximum, tables) is in
``bvverify.ilp.gadgets``; how a layer rounds is the reading's own, a file each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, assert_never

import numpy as np

from bvverify.bounds import interval, linear
from bvverify.bounds.interval import Bounds, Range, windows
from bvverify.errors import UnsupportedError
from bvverify.ilp import aaai24, exact, gadgets, line, qvip
from bvverify.ilp.line import Line
from bvverify.ilp.model import Exact, Model, Neuron, Number, Role, Value, Values
from bvverify.ilp.reading import Reading
from bvverify.model.ideal import ideal
from bvverify.model.ops import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv2d,
    Dense,
    Lookup,
    MaxPool,
    Op,
    Reshape,
    SequentialFloat32,
    SumThenRequantise,
    Transpose,
    inputs,
)
from bvverify.model.query import Conjunction, Linear, Query
from bvverify.model.staircase import Staircase
from bvverify.model.types import AnyArray, Int64Array


@dataclass(slots=True)
class Program:
    """``tensors[t]`` is an object array of ``Value`` of tensor ``t``'s shape; ``lines`` has the real number behind each rounded element.

    ``lines`` is empty for the exact reading, which has no real numbers.
    """

    query: Query
    reading: Reading
    model: Model = field(default_factory=Model)
    tensors: list[AnyArray] = field(default_factory=list)
    lines: dict[tuple[int, int], Line] = field(default_factory=dict)
    known: Bounds | None = None
    """Ranges of accumulators beyond intervals, where the reading takes any."""


class Rounding(Protocol):
    """How a reading writes what a device rounds; each makes the column of one element."""

    def staircase(self, neuron: Neuron, steps: Staircase, channel: int, acc: Value) -> Value:
        """A requantised accumulator."""

    def add(self, neuron: Neuron, op: Add, a: Value, b: Value) -> Value:
        """A rounded addition."""

    def mean(self, neuron: Neuron, rule: SequentialFloat32, xs: list[Value], count: int) -> Value:
        """A mean over floats."""


@dataclass(frozen=True, slots=True)
class ExactRounding:
    """``bvverify.ilp.exact``, operation by operation."""

    program: Program

    def staircase(self, neuron: Neuron, steps: Staircase, channel: int, acc: Value) -> Value:
        """By quotient and residue, or by steps."""
        return exact.staircase(self.program.model, neuron, steps, channel, acc)

    def add(self, neuron: Neuron, op: Add, a: Value, b: Value) -> Value:
        """By quotient and residue, where there is one rounding."""
        return exact.add(self.program.model, neuron, op, a, b)

    def mean(self, neuron: Neuron, rule: SequentialFloat32, xs: list[Value], count: int) -> Value:
        """Refused: the sum is rounded at every step, in an order."""
        raise UnsupportedError(f"node {neuron.op}: a float32 mean has no exact ILP reading; readings aaai24 and qvip have one")


@dataclass(frozen=True, slots=True)
class RealRounding:
    """A reading over the reals: each rounded element from its ``Line``, by ``rounded``."""

    program: Program
    rounded: Callable[[Model, Neuron, Line], Value]

    def staircase(self, neuron: Neuron, steps: Staircase, channel: int, acc: Value) -> Value:
        """The multiplier as a real number."""
        return self._of(neuron, line.of_staircase(steps, channel, acc))

    def add(self, neuron: Neuron, op: Add, a: Value, b: Value) -> Value:
        """The sum over the reals."""
        return self._of(neuron, line.of_add(op, a, b))

    def mean(self, neuron: Neuron, rule: SequentialFloat32, xs: list[Value], count: int) -> Value:
        """The mean over the reals."""
        return self._of(neuron, line.of_mean(rule, xs, count))

    def _of(self, neuron: Neuron, real: Line) -> Value:
        self.program.lines[neuron.layer, neuron.index] = real
        return self.rounded(self.program.model, neuron, real)


def build(query: Query, reading: Reading) -> Program:
    """The question as a program. ``UnsupportedError`` names the node whose arithmetic the reading does not have."""
    program = Program(query, reading, known=_known(query, reading))
    rounding: Rounding
    match reading:
        case Reading.EXACT:
            rounding = ExactRounding(program)
        case Reading.AAAI24:
            rounding = RealRounding(program, aaai24.rounded)
        case Reading.QVIP:
            rounding = RealRounding(program, qvip.rounded)
        case _:
            assert_never(reading)
    box = query.box
    ends = zip(box.lo.ravel().tolist(), box.hi.ravel().tolist(), strict=True)
    first = [program.model.element(Neuron(0, i, "input"), lo, hi) for i, (lo, hi) in enumerate(ends)]
    program.tensors.append(_array(first, box.lo.shape))
    try:
        for index, op in enumerate(query.network.ops):
            program.tensors.append(_operation(program, rounding, index + 1, op, [program.tensors[i] for i in inputs(op)]))
    except UnsupportedError as error:
        raise UnsupportedError(f"{query.network.provenance.path}: {error}") from None
    _violation(program)
    return program


def _known(query: Query, reading: Reading) -> Bounds | None:
    """Linear bounds of the function that the reading is about: the device's for exact, its ideal twin's for aaai24, none for qvip."""
    match reading:
        case Reading.EXACT:
            network = query.network
        case Reading.AAAI24:
            # The twin keeps the device's additions and float means, which the reading makes real sums of.
            if any(isinstance(op, Add) or (isinstance(op, AvgPool) and isinstance(op.rule, SequentialFloat32)) for op in query.network.ops):
                return None
            try:
                network = ideal(query.network)
            except UnsupportedError:
                return None
        case Reading.QVIP:
            return None
        case _:
            assert_never(reading)
    return linear.tighten(network, query.box, interval.propagate(network, query.box))[0]


def _operation(program: Program, rounding: Rounding, layer: int, op: Op, xs: list[AnyArray]) -> AnyArray:
    model, x = program.model, xs[0]
    shape = program.query.network.tensors[layer].shape

    def each(make: Callable[[Neuron, int], Value], count: int = int(np.prod(shape, dtype=np.int64))) -> AnyArray:
        return _array([make(Neuron(layer, i, op.name), i) for i in range(count)], shape)

    match op:
        case Dense() | Conv2d():
            ranges = Range(*(np.vectorize(lambda v, end=end: getattr(v, end), otypes=[np.int64])(x) for end in ("lo", "hi")))
            known = program.known
            tight = None if known is None else _range(known.acc_lo[layer - 1], known.acc_hi[layer - 1])
            acc = interval.intersect(interval.accumulator(op, ranges), tight)
            if interval.wraps(op, acc):
                raise UnsupportedError(f"node {op.name}: an accumulator could wrap in this box; the ILP readings have no wrap")
            lo, hi, weights = acc.lo.ravel().tolist(), acc.hi.ravel().tolist(), _weights(op, x)
            per_channel = len(lo) // len(op.bias)

            def neuron(at: Neuron, i: int) -> Value:
                terms, channel = weights[i], i // per_channel
                constant = int(op.bias[channel]) - op.input_zero_point * sum(w for _, w in terms)
                total = gadgets.total(model, at, terms, constant, lo[i], hi[i])
                return rounding.staircase(at, op.staircase, channel, total)

            return each(neuron)
        case Add():
            a, b = xs[0].ravel(), xs[1].ravel()
            return each(lambda at, i: rounding.add(at, op, a[i], b[i]))
        case AvgPool(rule=rule):
            inside = _inside(op, x)
            match rule:
                case SumThenRequantise(input_zero_point=zero, staircase=staircase):

                    def mean(at: Neuron, i: int) -> Value:
                        lo, hi = sum(v.lo - zero for v in inside[i]), sum(v.hi - zero for v in inside[i])
                        total = gadgets.total(model, at, [(v, 1) for v in inside[i]], -zero * len(inside[i]), lo, hi)
                        return rounding.staircase(at, staircase, i // (len(inside) // len(x)), total)

                    return each(mean)
                case SequentialFloat32():
                    whole = op.window.kernel[0] * op.window.kernel[1]
                    return each(lambda at, i: rounding.mean(at, rule, inside[i], whole if rule.count_padding else len(inside[i])))
                case _:
                    assert_never(rule)
        case MaxPool():
            inside = _inside(op, x)
            return each(lambda at, i: gadgets.maximum(model, at, inside[i]))
        case Clamp():
            flat = x.ravel()

            def clamped(at: Neuron, i: int) -> Value:
                y = model.element(at, *gadgets.saturated(flat[i], op.lo, op.hi))
                if y.lo != y.hi:
                    _clamp(model, at, flat[i], op, y)
                return y

            return each(clamped)
        case Lookup():
            flat = x.ravel()
            return each(lambda at, i: gadgets.lookup(model, at, flat[i], _entries(op, flat[i])))
        case Concat():
            return np.concatenate(xs, axis=op.axis)
        case Reshape():
            return x.reshape(op.shape)
        case Transpose():
            return x.transpose(op.axes)
        case _:
            assert_never(op)


def _range(lo: Int64Array | None, hi: Int64Array | None) -> Range | None:
    return None if lo is None or hi is None else Range(lo, hi)


def _clamp(model: Model, at: Neuron, x: Value, op: Clamp, y: Value) -> None:
    if op.lo <= x.lo and x.hi <= op.hi:
        model.row(f"equal_{at.label}", [(y, 1), (x, -1)], "=", 0, Role.CLIP, at)
    else:
        gadgets.clip(model, at, x, op.lo, op.hi, y)


def _entries(op: Lookup, x: Value) -> list[int]:
    return [int(v) for v in op.table[x.lo - op.input_lo : x.hi - op.input_lo + 1]]


def _weights(op: Dense | Conv2d, x: AnyArray) -> list[list[tuple[Value, int]]]:
    """For each element of the output (flat) the values that it sums, with their weights."""
    match op:
        case Dense():
            values = x.tolist()
            return [[(v, w) for v, w in zip(values, row, strict=True) if w] for row in op.centred.tolist()]
        case Conv2d():
            per_group, per_output = len(x) // op.groups, len(op.centred) // op.groups
            patches = windows(_numbered(x), op.window, -1)
            out, values = [], x.ravel()
            for o, i, j in np.ndindex(len(op.centred), *patches.shape[1:3]):
                group = o // per_output
                places = patches[group * per_group : (group + 1) * per_group, i, j].ravel().tolist()
                weights = op.centred[o].ravel().tolist()
                out.append([(values[p], w) for p, w in zip(places, weights, strict=True) if p >= 0 and w])
            return out
        case _:
            assert_never(op)


def _inside(op: AvgPool | MaxPool, x: AnyArray) -> list[list[Value]]:
    """For each element of a pooling's output (flat) the values of its window that lie inside the image."""
    patches = windows(_numbered(x), op.window, -1)
    values = x.ravel()
    return [[values[p] for p in places if p >= 0] for places in patches.reshape(-1, patches.shape[3] * patches.shape[4]).tolist()]


def _numbered(x: AnyArray) -> AnyArray:
    """The flat index of each element, in the tensor's shape: windows of it say where a window's elements lie."""
    return np.arange(x.size).reshape(x.shape)


def _array(values: Sequence[Value], shape: tuple[int, ...]) -> AnyArray:
    out: Any = np.empty(len(values), object)
    out[:] = values
    return out.reshape(shape)


def _violation(program: Program) -> None:
    """One of the conjunctions holds: a binary for each, which switches its rows by constants from the outputs' ranges."""
    model, query = program.model, program.query
    x, y = program.tensors[0].ravel(), program.tensors[query.network.output.tensor].ravel()
    switches: list[tuple[Value, Number]] = []
    for k, conjunction in enumerate(query.property.violation):
        forms = [_form(row, x, y) for row in conjunction]
        follows = functools.partial(_holds, conjunction=conjunction, forms=forms)
        switch = model.switch(f"v_{k}", follows)
        for i, (terms, row) in enumerate(zip(forms, conjunction, strict=True)):
            slack = max(sum(max(c * v.lo, c * v.hi) for v, c in terms) - int(row.bound), 0)
            model.row(f"violates_{k}_{i}", [*terms, (switch, slack)], "<=", int(row.bound) + slack, Role.VIOLATION)
        switches.append((switch, 1))
    model.row("violated", switches, ">=", 1, Role.VIOLATION)


def _form(row: Linear, x: AnyArray, y: AnyArray) -> list[tuple[Value, int]]:
    terms = [(v, c) for v, c in zip(y, row.outputs.tolist(), strict=True) if c]
    return terms + [(v, c) for v, c in zip(x, [] if row.inputs is None else row.inputs.tolist(), strict=row.inputs is not None) if c]


def _holds(values: Values, conjunction: Conjunction, forms: list[list[tuple[Value, int]]]) -> Exact:
    """Whether a conjunction holds for the values of its columns, as 0 or 1."""
    pairs = zip(conjunction, forms, strict=True)
    return int(all(sum(c * values[v.column] for v, c in terms) <= row.bound for row, terms in pairs))
