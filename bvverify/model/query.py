"""What is asked of a network: a box of inputs, and the outputs that would violate the property.

A property is held as its violation: a disjunction of conjunctions of linear constraints over the integer outputs (and, where the
model's file takes integers, over the integer inputs). *Falsified* means that some input of the box satisfies one of the
conjunctions; *verified*, that none does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bvverify.model.network import Network
from bvverify.model.types import Int64Array, frozen_array


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """All integer inputs ``lo <= x <= hi``, both inclusive, int64 of the input tensor's shape."""

    lo: Int64Array
    hi: Int64Array

    @staticmethod
    def of(lo: Int64Array, hi: Int64Array) -> Box:
        """A box of copied, frozen bounds; ``ValueError`` when they differ in shape or leave nothing between them."""
        lo, hi = frozen_array(lo, np.int64), frozen_array(hi, np.int64)
        if lo.shape != hi.shape:
            raise ValueError(f"a box from {lo.shape} to {hi.shape}")
        if (lo > hi).any():
            raise ValueError(f"an empty box: element {int((lo > hi).argmax())} has no value")
        return Box(lo, hi)

    def contains(self, x: Int64Array) -> bool:
        """Whether ``x`` (the input tensor's shape) lies inside."""
        return bool(((self.lo <= x) & (x <= self.hi)).all())

    def points(self, most: int) -> Int64Array | None:
        """Every input (batch, *shape), or None where there are more than ``most``."""
        widths = (self.hi - self.lo + 1).reshape(-1)
        free = np.flatnonzero(widths > 1)
        if math.prod(widths[free].tolist()) > most:
            return None
        steps = np.indices(tuple(widths[free].tolist())).reshape(len(free), math.prod(widths[free].tolist()))
        x = np.repeat(self.lo.reshape(1, -1), steps.shape[1], axis=0)
        x[:, free] += steps.T
        return x.reshape(-1, *self.lo.shape)

    @property
    def varying(self) -> int:
        """How many elements take more than one value."""
        return int(np.count_nonzero(self.lo < self.hi))

    @property
    def most(self) -> int:
        """How many values an element takes, at most."""
        return int((self.hi - self.lo).max()) + 1

    def __str__(self) -> str:
        """The size in words: ``64 of 64 values vary, taking up to 3 values each``."""
        reach = f", taking up to {self.most} values each" if self.varying else ""
        return f"{self.varying} of {self.lo.size} values vary{reach}"


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """``outputs . y + inputs . x <= bound`` over the flattened integer outputs and inputs.

    ``outputs`` is int64 (number of outputs,), ``inputs`` int64 (number of inputs,) or None where no input takes part. Every
    coefficient and the bound are below 2^31 in magnitude, so that no value of a constraint leaves int64.
    """

    outputs: Int64Array
    bound: int
    inputs: Int64Array | None = None

    @staticmethod
    def of(outputs: int, coefficients: Mapping[int, int], bound: int) -> Linear:
        """A constraint over ``outputs`` outputs, of which those in ``coefficients`` take part."""
        row = np.zeros(outputs, np.int64)
        for index, value in coefficients.items():
            row[index] = value
        return Linear(frozen_array(row, np.int64), bound)

    @staticmethod
    def beats(outputs: int, winner: int, loser: int) -> Linear:
        """Output ``winner`` is larger than output ``loser``, or equal and comes first."""
        return Linear.of(outputs, {loser: 1, winner: -1}, 0 if winner < loser else -1)

    def value(self, x: Int64Array, y: Int64Array) -> Int64Array:
        """The left side, for inputs ``x`` (batch, inputs) and outputs ``y`` (batch, outputs), both flattened; int64 (batch,)."""
        value = y @ self.outputs
        return value if self.inputs is None else value + x @ self.inputs


Conjunction = tuple[Linear, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Property:
    """The violation, in disjunctive normal form. No conjunction at all: nothing violates it, the property holds trivially.

    ``label`` is set for local robustness (``Property.robustness``), where stages may use what they know of ``argmax``;
    ``text`` says in one line what is asked, ``sha256`` identifies it.
    """

    violation: tuple[Conjunction, ...]
    text: str
    label: int | None = None
    sha256: str = ""

    @staticmethod
    def robustness(label: int, outputs: int) -> Property:
        """The predicted class stays ``label``, where ``argmax`` takes the first index of the largest output.

        Class ``i`` wins over the label when its output is larger, or equal and ``i`` comes first.
        """
        rows = [(Linear.beats(outputs, rival, label),) for rival in range(outputs) if rival != label]
        return Property(tuple(rows), f"the class stays {label} (first index of the largest output)", label)

    @staticmethod
    def avoiding(target: int, outputs: int) -> Property:
        """The predicted class never becomes ``target``: one conjunction, in which ``target`` wins over every other class."""
        rows = tuple(Linear.beats(outputs, target, other) for other in range(outputs) if other != target)
        return Property((rows,), f"the class never becomes {target} (first index of the largest output)")

    def only(self, conjunctions: Sequence[int]) -> Property:
        """Some of its conjunctions."""
        return Property(tuple(self.violation[i] for i in conjunctions), self.text, self.label, self.sha256)

    def violated(self, x: Int64Array, y: Int64Array) -> np.ndarray:
        """Which of a batch of inputs and outputs (both flattened to two axes) violate the property; bool (batch,)."""
        hit = np.zeros(len(y), bool)
        for conjunction in self.violation:
            met = np.ones(len(y), bool)
            for row in conjunction:
                met &= row.value(x, y) <= row.bound
            hit |= met
        return hit


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """One question: can an input of the box violate the property? ``nominal`` is the input that the box was built around, if any."""

    network: Network
    box: Box
    property: Property
    nominal: Int64Array | None = None
