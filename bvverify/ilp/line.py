"""The real number that a layer rounds: what the readings over the reals put in the place of the device's arithmetic.

A requantisation becomes its own multiplier, as the rational that it is, times the accumulator; the float32 addition and the float32 mean
become exact sums. No runtime computes that. What is left of the device is one rounding and a clamp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import assert_never

from bvverify.ilp.model import Number, Value, Values, exact
from bvverify.model import requant as rq
from bvverify.model.ops import Add, FmaAdd, Q31Add, SequentialFloat32, ShiftAdd
from bvverify.model.staircase import Staircase

MARGIN = 1e-4
"""What a strict ``<`` becomes: ``<= ... - MARGIN``, in units of the output."""


@dataclass(frozen=True, slots=True)
class Line:
    """``sum of factor * value + constant``, and the clamp ``lo .. hi`` of what it is rounded to. ``arithmetic`` names the device's own."""

    terms: tuple[tuple[Value, Fraction], ...]
    constant: Fraction
    lo: int
    hi: int
    arithmetic: str

    def at(self, values: Values) -> Fraction:
        """The real number, exactly."""
        return sum((factor * values[value.column] for value, factor in self.terms), start=self.constant)

    @property
    def least(self) -> Fraction:
        """Over the ranges of the values; factors are not negative."""
        return sum((factor * value.lo for value, factor in self.terms), start=self.constant)

    @property
    def most(self) -> Fraction:
        """The other end."""
        return sum((factor * value.hi for value, factor in self.terms), start=self.constant)

    def minus(self) -> list[tuple[Value, Number]]:
        """The terms, negated, as a row takes them."""
        return [(value, as_number(-factor)) for value, factor in self.terms]


def half_up(p: Fraction) -> int:
    """The nearest integer, the upper one of two."""
    return math.floor(p + Fraction(1, 2))


def as_number(value: Fraction) -> Number:
    """An int where it is one, the nearest float64 otherwise: what a solver can be given."""
    return int(value) if value.denominator == 1 else float(value)


def before(p: Fraction, margin: float = 0.0) -> Number:
    """``p - margin`` as a row's bound."""
    return as_number(p - exact(margin))


def of_staircase(staircase: Staircase, channel: int, acc: Value) -> Line:
    """``multiplier * accumulator + zero point`` (and the real bias where the engine adds one)."""
    requant = staircase.requant
    constant = rq.before_rounding(requant, channel, 0)
    factor = rq.before_rounding(requant, channel, 1) - constant
    return Line(((acc, factor),), constant, staircase.lo, staircase.hi, rq.name(requant))


def of_add(op: Add, a: Value, b: Value) -> Line:
    """The real sum that an addition rounds, with the multipliers that the runtime has."""
    match op.rule:
        case FmaAdd(ra=ra, rb=rb, offset=offset):
            factors, constant = (Fraction(ra), Fraction(rb)), Fraction(offset)
            arithmetic = "float32 multiply-adds"
        case ShiftAdd(ma=ma, mb=mb, bias=bias, shift=shift, zero_point=zero_point):
            factors = Fraction(ma, 1 << shift), Fraction(mb, 1 << shift)
            # The bias holds half a unit, which makes of a shift a rounding.
            constant = Fraction(bias, 1 << shift) - Fraction(1, 2) + zero_point
            arithmetic = "one rounding shift"
        case Q31Add():
            qa, qb, qo = (Fraction(mantissa) * Fraction(2) ** (shift - 31) for mantissa, shift in (op.rule.qa, op.rule.qb, op.rule.qo))
            factors = qa * qo * (1 << 20), qb * qo * (1 << 20)
            constant = op.rule.zero_point - factors[0] * op.rule.za - factors[1] * op.rule.zb
            arithmetic = "three Q31 multiplications"
        case _:
            assert_never(op.rule)
    return Line(((a, factors[0]), (b, factors[1])), constant, op.lo, op.hi, arithmetic)


def of_mean(rule: SequentialFloat32, xs: list[Value], count: int) -> Line:
    """The exact mean of dequantised values over ``count`` elements, on the output's scale.

    A dequantised value is ``(q - zero point) * scale``: the step between the first two is the scale, up to float32's rounding.
    """
    first, last = (Fraction(float(rule.values[i])) for i in (0, -1))
    step = (last - first) / (len(rule.values) - 1)
    factor = step / count / Fraction(rule.output_scale)
    constant = (first - rule.input_lo * step) * len(xs) / count / Fraction(rule.output_scale) + rule.zero_point
    return Line(tuple((x, factor) for x in xs), constant, rule.lo, rule.hi, "a float32 mean")
