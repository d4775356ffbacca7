"""A neuron small enough to compute on paper, and the rules that it may round by.

Every multiplier is a dyadic rational of a few bits and every accumulator has at most 16, so that the floating-point rules multiply
exactly as well: what tells the rules apart is the rounding that their names speak of.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from bvverify.errors import UsageError
from bvverify.model import requant as rq
from bvverify.model.requant import Requant
from bvverify.model.types import INT8

RULES = {
    "shift-half-up": "add half a unit, then shift right: `(acc + 2^(s-1)) >> s`, where M = 2^-s",
    "q31-double": "two roundings: `h = (acc*Q + 2^30) >> 31`, then `h / 2^r` to the nearest, half away from zero",
    "q31-half-up": "two roundings, both half up: `h = (acc*Q + 2^30) >> 31`, then `(h + 2^(r-1)) >> r`",
    "q31-single": "one rounding of `acc*M`, half up",
    "float32-half-even": "one rounding of `acc*M`, half to even",
    "float64-away": "one rounding of `acc*M`, half away from zero",
    "rational-half-up": "`floor(acc*M + 1/2)`",
}
"""Of each rule that is asked about, what it does before the zero point is added."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """A rule with its numbers: ``multiplier`` is positive and below 1, ``zero_point`` an int8 (0 for ``shift-half-up``, which has none)."""

    rule: str
    multiplier: Fraction
    zero_point: int = 0

    @property
    def requant(self) -> Requant:
        """The requantisation as networks have it."""
        real, zero = float(self.multiplier), self.zero_point
        match self.rule:
            case "shift-half-up":
                return rq.ShiftHalfUp(self.multiplier.denominator.bit_length() - 1)
            case "q31-double" | "q31-half-up" | "q31-single":
                mantissa, shift = (np.array([v]) for v in rq.q31(real))
                if self.rule == "q31-single":
                    return rq.Q31Single(mantissa, shift, zero)
                return (rq.Q31Double if self.rule == "q31-double" else rq.Q31HalfUp)(mantissa, shift, zero)
            case "float32-half-even":
                return rq.Float32HalfEven(np.array([real], np.float32), zero)
            case "float64-away":
                return rq.Float64Away(np.array([real]), zero)
            case "rational-half-up":
                return rq.RationalHalfUp((self.multiplier,), zero)
            case _:
                raise ValueError(f"no rule {self.rule!r}")

    def output(self, acc: int) -> int:
        """The int8 that the accumulator becomes."""
        return int(rq.apply(self.requant, np.array([[acc]], np.int64), INT8.lo, INT8.hi)[0, 0])

    def lines(self) -> list[str]:
        """What a question says of it, as items of a list."""
        made = f"rule {self.rule}: {RULES[self.rule]}"
        return [f"multiplier M = {multiplier_text(self.rule, self.multiplier)}, zero point of y = {self.zero_point}", made]

    def worked(self, acc: int) -> str:
        """One line: from the accumulator to the output."""
        real = acc * self.multiplier
        return (
            f"acc * M = {decimal(real)}; {self.rule}, plus the zero point {self.zero_point}, within [{INT8.lo}, {INT8.hi}]:"
            f" {self.output(acc)}"
        )


@dataclass(frozen=True, slots=True)
class Neuron:
    """``y = round(sum of (x_j - input_zero_point) * w_j + bias)``, int8 in and out."""

    weights: tuple[int, ...]
    bias: int
    input_zero_point: int
    rounding: Rounding

    def accumulator(self, x: tuple[int, ...]) -> int:
        """The int32 sum of the products and the bias."""
        return sum((value - self.input_zero_point) * w for value, w in zip(x, self.weights, strict=True)) + self.bias

    def output(self, x: tuple[int, ...]) -> int:
        """The int8 that comes out."""
        return self.rounding.output(self.accumulator(x))

    def lines(self) -> list[str]:
        """What a question says of it, as items of a list."""
        return [
            f"weights w = ({numbers(self.weights)}), zero point of x = {self.input_zero_point}, bias = {self.bias}",
            *self.rounding.lines(),
        ]

    def worked(self, x: tuple[int, ...]) -> list[str]:
        """The whole computation, line by line."""
        products = " + ".join(f"({v} - {self.input_zero_point})*{w}" for v, w in zip(x, self.weights, strict=True))
        acc = self.accumulator(x)
        return [f"acc = {products} + {self.bias} = {acc}".replace("- -", "+ ").replace("+ -", "- "), self.rounding.worked(acc)]


def some_rounding(chance: random.Random, rule: str | None = None) -> Rounding:
    """A rule, drawn unless it is named, with a multiplier and a zero point that suit it."""
    rule = rule or chance.choice(list(RULES))
    if rule == "shift-half-up":
        return Rounding(rule, Fraction(1, 1 << chance.randint(2, 6)))
    return Rounding(rule, Fraction(chance.choice((1, 1, 3, 5)), 1 << chance.randint(3, 6)), chance.randint(-20, 20))


def telling_accumulator(chance: random.Random, multiplier: Fraction) -> int:
    """An accumulator on a tie more often than not, or one or two beside it; rarely far out, where the output saturates."""
    half = multiplier.denominator // 2
    reach = 500 if chance.random() < 0.1 else 120
    odd = 2 * chance.randint(-reach // multiplier.numerator, reach // multiplier.numerator) + 1
    return odd * half + chance.choice((0, 0, 0, -1, 1, 2))


def multiplier_text(rule: str, multiplier: Fraction) -> str:
    """The multiplier, and how a Q31 rule stores it."""
    if not rule.startswith("q31"):
        return str(multiplier)
    mantissa, shift = rq.q31(float(multiplier))
    return f"{multiplier}, stored as Q = {mantissa} and r = {-shift}: M = Q * 2^(-31-r)"


def numbers(values: tuple[int, ...]) -> str:
    """``3, -4, 5``."""
    return ", ".join(map(str, values))


def decimal(value: Fraction) -> str:
    """A dyadic rational, exactly, as a decimal number."""
    places = max(value.denominator.bit_length() - 1, 0)
    scaled = abs(value) * 10**places
    digits = str(int(scaled)).rjust(places + 1, "0")
    text = digits if places == 0 else f"{digits[:-places]}.{digits[-places:]}"
    return f"-{text}" if value < 0 else text


def parse_byte(answer: str) -> int:
    """An int8 as an integer or as its byte, ``-112`` or ``0x90``; ``UsageError`` where it is neither."""
    try:
        value = int(answer, 16 if answer.lower().startswith("0x") else 10)
    except ValueError:
        raise UsageError(f"--answer {answer}: the output is an integer such as -112, or a byte such as 0x90") from None
    if answer.lower().startswith("0x"):
        value -= 256 if 128 <= value < 256 else 0
    if not INT8.lo <= value <= INT8.hi:
        raise UsageError(f"--answer {answer}: an int8 is {INT8.lo} to {INT8.hi}")
    return value


def parse_input(answer: str, lo: Sequence[int], hi: Sequence[int]) -> tuple[int, ...]:
    """``3,-4,5`` as integers of the box from ``lo`` to ``hi``; ``UsageError`` where they are none, or outside."""
    count = len(lo)
    try:
        values = tuple(int(part) for part in answer.strip("() ").split(","))
    except ValueError:
        raise UsageError(f"--answer {answer}: an input is {count} integers such as {numbers(tuple(range(count)))}") from None
    if len(values) != count:
        raise UsageError(f"--answer {answer}: holds {len(values)} integers; the input has {count}")
    for i, (value, least, largest) in enumerate(zip(values, lo, hi, strict=True)):
        if not least <= value <= largest:
            raise UsageError(f"--answer {answer}: x{i} is from {least} to {largest}")
    return values
