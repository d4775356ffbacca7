"""One input under two readings of a model: where they part first, and how the difference travels to the outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bvverify.errors import UsageError
from bvverify.explain.calculation import Calculation
from bvverify.explain.neuron import Element, Run, calculate


@dataclass(frozen=True, slots=True)
class Spread:
    """A tensor that differs: at how many of its elements, and by how much at most (``largest``, B minus A, at ``element``)."""

    layer: int
    tensor: str
    differing: int
    elements: int
    largest: int
    element: Element


@dataclass(frozen=True, slots=True)
class Apart:
    """``parts`` are the two calculations of the first element, in the order of operations, that differs; None where none does."""

    parts: tuple[Calculation, Calculation] | None
    spreads: tuple[Spread, ...]
    outputs: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def classes(self) -> tuple[int, int]:
        """The first index of the largest output, under each reading."""
        a, b = (int(np.argmax(y)) for y in self.outputs)
        return a, b


def apart(a: Run, b: Run) -> Apart:
    """What differs; ``UsageError`` where the two readings have no tensors in common, as with another accumulator."""
    shapes = [[t.shape for t in run.network.tensors] for run in (a, b)]
    if shapes[0] != shapes[1]:
        raise UsageError(
            f"{a.network.provenance.path}: {a.network.semantics} and {b.network.semantics} split the model into different tensors, so that"
            " they cannot be held against each other neuron by neuron; bvverify compare can ask about the outputs"
        )
    spreads, parts = [], None
    for index, (one, other) in enumerate(zip(a.tensors, b.tensors, strict=True)):
        moved = other - one
        if not moved.any():
            continue
        if parts is None:
            first = _element(int((moved != 0).argmax()), moved.shape)
            parts = calculate(a, index, first), calculate(b, index, first)
        largest = _element(int(np.abs(moved).argmax()), moved.shape)
        name = a.network.tensors[index].name
        spreads.append(Spread(index, name, int(np.count_nonzero(moved)), moved.size, int(moved[largest]), largest))
    return Apart(parts, tuple(spreads), (tuple(a.output.tolist()), tuple(b.output.tolist())))


def _element(flat: int, shape: tuple[int, ...]) -> Element:
    return tuple(int(i) for i in np.unravel_index(flat, shape))
