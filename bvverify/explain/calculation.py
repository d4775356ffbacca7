"""One neuron's calculation as plain data: what it read, the accumulator, every rounding, the output.

Text and JSON both print it. Every number is a Python integer or a ``Fraction``, so that nothing is lost between the value before a rounding
and its distance to the nearest tie.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any, assert_never

import numpy as np

HALF = Fraction(1, 2)


class Rule(StrEnum):
    """What becomes of a number between two points of a grid; they differ on ties (the middle) only."""

    HALF_UP = "half up"
    HALF_EVEN = "half to even"
    HALF_AWAY = "half away from zero"


def to_integer(exact: Fraction, rule: Rule) -> int:
    """The integer nearest to ``exact``, a tie as the rule says."""
    below, over = divmod(exact.numerator, exact.denominator)
    if 2 * over != exact.denominator:
        return below + (2 * over > exact.denominator)
    match rule:
        case Rule.HALF_UP:
            return below + 1
        case Rule.HALF_EVEN:
            return below + below % 2
        case Rule.HALF_AWAY:
            return below + 1 if exact > 0 else below
        case _:
            assert_never(rule)


@dataclass(frozen=True, slots=True)
class Step:
    """One rounding: ``exact`` to the nearest multiple of ``unit`` (1: to an integer; of float32, the spacing around the number).

    ``formula`` says it with the numbers put in.
    """

    name: str
    formula: str
    exact: Fraction
    rule: Rule
    unit: Fraction
    result: Fraction

    @staticmethod
    def of(name: str, formula: str, exact: Fraction, rule: Rule, unit: Fraction = Fraction(1)) -> Step:
        """The step, carried out."""
        result = Fraction(to_integer(exact, rule)) if unit == 1 else to_integer(exact / unit, rule) * unit
        return Step(name, formula, exact, rule, unit, result)

    @property
    def tie(self) -> Fraction:
        """The tie (the middle between two multiples of the unit) that is nearest to the exact number."""
        return (math.floor(self.exact / self.unit) + HALF) * self.unit

    @property
    def distance(self) -> Fraction:
        """The exact number minus its nearest tie: 0 is a tie itself; at most half a unit in magnitude."""
        return self.exact - self.tie


@dataclass(frozen=True, slots=True)
class Multiplier:
    """A multiplier as it is stored: ``real = mantissa * 2^exponent / divisor``.

    ``kind`` is "shift", "Q31" (whose stored shift is ``exponent + 31``), "float32", "float64" (``bits`` is the pattern, in hex), "integer"
    or "rational", the only one with a divisor.
    """

    kind: str
    mantissa: int
    exponent: int = 0
    divisor: int = 1
    bits: str = ""

    @property
    def real(self) -> Fraction:
        """The number that it stands for, exactly."""
        return Fraction(self.mantissa << max(self.exponent, 0), self.divisor << max(-self.exponent, 0))


@dataclass(frozen=True, slots=True)
class Rounding:
    """From an accumulator (or two operands, or a real number) to the output.

    ``value`` is the real number that the rule approximates, before the zero point; ``steps`` are the roundings that it takes; the last
    one ends in ``rounded``. ``output = min(max(rounded + zero_point, lo), hi)``. ``constants`` are the numbers that the model stores.
    """

    rule: str
    constants: tuple[tuple[str, Multiplier], ...]
    value: Fraction
    steps: tuple[Step, ...]
    rounded: int
    zero_point: int
    lo: int
    hi: int

    @property
    def unclamped(self) -> int:
        """What is clamped."""
        return self.rounded + self.zero_point

    @property
    def output(self) -> int:
        """The integer that the neuron holds."""
        return min(max(self.unclamped, self.lo), self.hi)

    @property
    def saturated(self) -> str | None:
        """``low`` or ``high`` where the clamp changes the number; None where it does not."""
        return "low" if self.unclamped < self.lo else "high" if self.unclamped > self.hi else None

    @property
    def tie(self) -> Fraction:
        """The integer and a half nearest to ``value``."""
        return math.floor(self.value) + HALF

    @property
    def distance(self) -> Fraction:
        """``value`` minus its nearest tie."""
        return self.value - self.tie


@dataclass(frozen=True, slots=True)
class Term:
    """One number that the neuron read: ``product = (x - zero point) * (weight - its zero point)``, or ``x - zero point`` without weights.

    ``element`` is its place in tensor ``tensor`` (an index).
    """

    tensor: int
    element: tuple[int, ...]
    x: int
    centred: int
    product: int
    weight: int | None = None


@dataclass(frozen=True, slots=True)
class Accumulator:
    """``total = sum of products + bias``, and what a register of ``bits`` bits (None: it is wide enough) holds of it."""

    products: int
    bias: int
    bits: int | None

    @property
    def total(self) -> int:
        """The exact sum."""
        return self.products + self.bias

    @property
    def held(self) -> int:
        """Two's complement: the sum modulo ``2^bits``."""
        if self.bits is None:
            return self.total
        half = 1 << (self.bits - 1)
        return (self.total + half) % (1 << self.bits) - half

    @property
    def headroom(self) -> int | None:
        """How much may be added in the sum's own direction before the register overflows; negative where it did; None without a width."""
        if self.bits is None:
            return None
        half = 1 << (self.bits - 1)
        return half - 1 - self.total if self.total >= 0 else half + self.total

    @property
    def pattern(self) -> int:
        """The register as an unsigned number, of 32 bits where none are declared and they suffice."""
        return self.held % (1 << self.width)

    @property
    def width(self) -> int:
        """How many bits are shown."""
        return self.bits or max(32, self.held.bit_length() + 1)


@dataclass(frozen=True, slots=True)
class Calculation:
    """What makes one element of a tensor. ``note`` says in words what is no rounding: a table, a maximum, a copy."""

    layer: int
    tensor: str
    element: tuple[int, ...]
    operation: str
    input_zero_point: int | None
    terms: tuple[Term, ...]
    accumulator: Accumulator | None
    rounding: Rounding | None
    output: int
    note: str = ""


_DERIVED: Mapping[type, tuple[str, ...]] = {
    Step: ("tie", "distance"),
    Multiplier: ("real",),
    Rounding: ("unclamped", "output", "saturated", "tie", "distance"),
    Accumulator: ("total", "held", "headroom"),
}


def as_object(value: Any) -> Any:
    """Data of this package as JSON data: fractions as ``"numerator/denominator"``, named pairs as objects."""
    if is_dataclass(value) and not isinstance(value, type):
        names = [*(f.name for f in fields(value)), *_DERIVED.get(type(value), ())]
        made = {name: as_object(getattr(value, name)) for name in names}
        return made | {"constants": {k: as_object(v) for k, v in value.constants}} if isinstance(value, Rounding) else made
    match value:
        case Fraction():
            return f"{value.numerator}/{value.denominator}"
        case tuple() | list():
            return [as_object(v) for v in value]
        case dict():
            return {str(k): as_object(v) for k, v in value.items()}
        case np.ndarray():
            return value.tolist()
        case np.integer():
            return int(value)
        case _:
            return value
