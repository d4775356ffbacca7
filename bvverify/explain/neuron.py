"""The calculation of one element of a tensor, from the numbers that its operation read.

Each operation is computed from its definition (``model.ops``), term by term; nothing here calls the interpreter, except that the tensors
that were read are its own. Where the two disagree on the output, one of them is wrong: ``InternalError``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import assert_never

import numpy as np

from bvverify.errors import InternalError, UsageError
from bvverify.explain import rules
from bvverify.explain.calculation import Accumulator, Calculation, Rounding, Term
from bvverify.model.network import Network
from bvverify.model.ops import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv2d,
    Dense,
    Lookup,
    MaxPool,
    Reshape,
    SequentialFloat32,
    SumThenRequantise,
    Transpose,
    Window,
)
from bvverify.model.types import AnyArray, Int64Array, Quantisation
from bvverify.run import interpreter

Element = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One input through a network: ``tensors[i]`` is tensor ``i`` without a batch axis; ``given`` is the input as the file takes it."""

    network: Network
    given: AnyArray
    tensors: tuple[Int64Array, ...]

    @staticmethod
    def of(network: Network, given: AnyArray) -> Run:
        """``given`` has the file's shape, batch axis (of 1) included; ``UsageError`` where the network does not take it."""
        x = interpreter.quantise_input(network, given)
        return Run(network, given, tuple(t[0] for t in interpreter.trace(network, x)))

    @property
    def output(self) -> Int64Array:
        """The outputs, flat."""
        return self.tensors[self.network.output.tensor].ravel()


def locate(network: Network, neuron: str) -> tuple[int, Element]:
    """The tensor and the element that ``LAYER:NEURON`` names; ``UsageError`` says what there is.

    A layer is its number (0 is the input) or the name of its operation or tensor, a neuron a flat index or one index for each axis.
    """
    layer, colon, place = neuron.rpartition(":")
    if not colon:
        raise UsageError(f"--neuron {neuron}: a layer and a neuron, such as 1:5 or {network.tensors[-1].name}:0")
    index = _layer(network, neuron, layer)
    shape = network.tensors[index].shape
    parts = place.split(",")
    # Ten digits are more than any tensor has elements.
    if not all(p.strip().isascii() and p.strip().isdigit() and len(p) <= 10 for p in parts) or len(parts) not in (1, len(shape)):
        raise UsageError(f"--neuron {neuron}: {place!r} is no neuron of the shape {shape}; give one number or {len(shape)} with commas")
    at = tuple(int(p) for p in parts)
    if len(at) == 1 and len(shape) != 1:
        size = network.tensors[index].size
        if at[0] >= size:
            raise UsageError(f"--neuron {neuron}: {network.tensors[index].name} has the neurons 0 to {size - 1}")
        return index, tuple(int(i) for i in np.unravel_index(at[0], shape))
    if any(i >= n for i, n in zip(at, shape, strict=True)):
        raise UsageError(f"--neuron {neuron}: {network.tensors[index].name} has the shape {shape}, counted from 0")
    return index, at


def _layer(network: Network, neuron: str, layer: str) -> int:
    last = len(network.tensors) - 1
    named = [i for i, t in enumerate(network.tensors) if layer in (t.name, network.ops[i - 1].name if i else t.name)]
    if len(named) == 1:
        return named[0]
    if len(named) > 1:
        raise UsageError(f"--neuron {neuron}: {layer!r} names the layers {', '.join(map(str, named))}; give the number")
    if layer.isascii() and layer.isdigit() and len(layer) <= 6 and int(layer) <= last:
        return int(layer)
    names = ", ".join(f"{i} ({t.name})" for i, t in enumerate(network.tensors[:8])) + (", ..." if last >= 8 else "")
    raise UsageError(f"--neuron {neuron}: no layer {layer!r}; the layers are 0 to {last}: {names}")


def calculate(run: Run, index: int, element: Element) -> Calculation:
    """The calculation of ``element`` of tensor ``index`` (0: the input behind its quantiser)."""
    made = _of_input(run, element) if index == 0 else _of_operation(run, index, element)
    held = int(run.tensors[index][element])
    if made.output != held:
        raise InternalError(
            f"{made.tensor}[{', '.join(map(str, element))}] is {held} in the interpreter and {made.output} step by step: please report this"
        )
    return made


def _of_input(run: Run, element: Element) -> Calculation:
    declared = run.network.input
    value = run.given.reshape(declared.tensor.shape)[element]
    if declared.quantiser is None:
        return Calculation(0, declared.tensor.name, element, "Input", None, (), None, None, int(value), "the model's file takes integers")
    assert isinstance(declared.quantiser, Quantisation)
    rounding = rules.quantise(declared.quantiser, declared.tensor.qtype, np.float32(value))
    return Calculation(0, declared.tensor.name, element, "Quantise", None, (), None, rounding, rounding.output, f"the real number {value}")


def _of_operation(run: Run, index: int, element: Element) -> Calculation:
    op = run.network.ops[index - 1]

    def read(tensor: int, at: Element, zero_point: int = 0, weight: int | None = None, weight_zero: int = 0) -> Term:
        x = int(run.tensors[tensor][at])
        centred = x - zero_point
        return Term(tensor, at, x, centred, centred if weight is None else centred * (weight - weight_zero), weight)

    def made(
        terms: Sequence[Term],
        output: int,
        note: str = "",
        zero_point: int | None = None,
        accumulator: Accumulator | None = None,
        rounding: Rounding | None = None,
    ) -> Calculation:
        tensor = run.network.tensors[index].name
        return Calculation(index, tensor, element, type(op).__name__, zero_point, tuple(terms), accumulator, rounding, output, note)

    def moved(term: Term) -> Calculation:
        return made([term], term.x, "moved, not changed")

    match op:
        case Dense() | Conv2d():
            channel = element[0]
            zero = int(op.weight_zero_point[channel % len(op.weight_zero_point)])
            terms = [read(op.x, at, op.input_zero_point, w, zero) for at, w in _weighted(op, element, run.tensors[op.x].shape)]
            acc = Accumulator(sum(t.product for t in terms), int(op.bias[channel]), op.accumulator_bits)
            rounding = rules.requantise(op.staircase.requant, channel, acc.held, op.staircase.lo, op.staircase.hi)
            return made(terms, rounding.output, "", op.input_zero_point, acc, rounding)
        case Add():
            terms = [read(op.a, element), read(op.b, element)]
            rounding = rules.add(op.rule, terms[0].x, terms[1].x, op.lo, op.hi)
            return made(terms, rounding.output, rounding=rounding)
        case AvgPool(window=window, rule=SumThenRequantise(input_zero_point=zero, staircase=staircase)):
            terms = [read(op.x, at, zero) for at in _inside(window, element, run.tensors[op.x].shape)]
            acc = Accumulator(sum(t.product for t in terms), 0, None)
            rounding = rules.requantise(staircase.requant, element[0], acc.held, staircase.lo, staircase.hi)
            return made(terms, rounding.output, f"the mean of {len(terms)}", zero, acc, rounding)
        case AvgPool(window=window, rule=SequentialFloat32() as rule):
            terms = [read(op.x, at) for at in _inside(window, element, run.tensors[op.x].shape)]
            values = [(Fraction(float(rule.values[t.x - rule.input_lo])), f"value of {t.x}") for t in terms]
            count = window.kernel[0] * window.kernel[1] if rule.count_padding else len(terms)
            rounding = rules.mean(values, count, rule.output_scale, rule.zero_point, rule.lo, rule.hi)
            return made(terms, rounding.output, f"the mean of {count}, summed in float32 one by one", rounding=rounding)
        case MaxPool(window=window):
            terms = [read(op.x, at) for at in _inside(window, element, run.tensors[op.x].shape)]
            largest = max(terms, key=lambda t: t.x)
            return made(terms, largest.x, f"the largest of {len(terms)}, at {list(largest.element)}")
        case Clamp(x=x, lo=lo, hi=hi):
            term = read(x, element)
            return made([term], min(max(term.x, lo), hi), f"{term.x} clamped to [{lo}, {hi}]")
        case Lookup(x=x, input_lo=first, table=table):
            term = read(x, element)
            return made([term], int(table[term.x - first]), f"entry {term.x} of the operation's table of {len(table)}")
        case Concat(xs=xs, axis=axis):
            at = element[axis]
            for tensor in xs:
                width = run.network.tensors[tensor].shape[axis]
                if at < width:
                    return moved(read(tensor, (*element[:axis], at, *element[axis + 1 :])))
                at -= width
            raise InternalError(f"{op.name}: no tensor holds the element {element}: please report this")
        case Reshape(x=x):
            flat = int(np.ravel_multi_index(element, op.shape))
            return moved(read(x, tuple(int(i) for i in np.unravel_index(flat, run.tensors[x].shape))))
        case Transpose(x=x, axes=axes):
            before = [0] * len(axes)
            for axis, i in zip(axes, element, strict=True):
                before[axis] = i
            return moved(read(x, tuple(before)))
        case AvgPool():
            raise InternalError(f"{op.name}: an unknown rule for a mean: please report this")
        case _:
            assert_never(op)


def _weighted(op: Dense | Conv2d, element: Element, shape: tuple[int, ...]) -> Iterator[tuple[Element, int]]:
    """The places that a unit reads, and the stored weight of each; padding adds nothing and is left out."""
    match op:
        case Dense(weight=weight):
            yield from (((j,), int(w)) for j, w in enumerate(weight[element[0]]))
        case Conv2d(weight=weight, window=window, groups=groups):
            of_group = weight.shape[1]
            first = element[0] // (len(weight) // groups) * of_group
            for c in range(of_group):
                for i, j, row, column in _positions(window, element, shape):
                    yield (first + c, row, column), int(weight[element[0], c, i, j])
        case _:
            assert_never(op)


def _inside(window: Window, element: Element, shape: tuple[int, ...]) -> list[Element]:
    """The places of one channel that a window at ``element`` covers, row by row, without padding."""
    return [(element[0], row, column) for _, _, row, column in _positions(window, element, shape)]


def _positions(window: Window, element: Element, shape: tuple[int, ...]) -> Iterator[tuple[int, int, int, int]]:
    """Row and column in the kernel, and in the image, of what the window at ``element`` covers inside the image."""
    for i in range(window.kernel[0]):
        for j in range(window.kernel[1]):
            row = element[1] * window.strides[0] - window.padding[0] + i * window.dilations[0]
            column = element[2] * window.strides[1] - window.padding[1] + j * window.dilations[1]
            if 0 <= row < shape[1] and 0 <= column < shape[2]:
                yield i, j, row, column
