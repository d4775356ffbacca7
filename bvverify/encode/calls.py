"""A requantisation of the model as a call of its normative definition."""

from __future__ import annotations

from fractions import Fraction
from typing import assert_never

import numpy as np

from bvverify.encode import definitions
from bvverify.errors import UnsupportedError
from bvverify.model import requant as rq
from bvverify.model.requant import (
    ByChannel,
    Fbgemm,
    Float32HalfEven,
    Float64Away,
    Q31Double,
    Q31HalfUp,
    Q31Single,
    Qnnpack,
    RationalHalfUp,
    Requant,
    ShiftHalfUp,
)


def call(requant: Requant, channel: int, acc: str, lo: str, hi: str, bits: int) -> tuple[str, str]:
    """The path of the definition, and its call for one channel: ``acc``, ``lo`` and ``hi`` are terms, ``bits`` an accumulator's width.

    ``UnsupportedError`` where a parameter does not fit the definition's widths.
    """
    if isinstance(requant, ByChannel):
        for part in requant.parts:
            if channel < rq.channels(part):
                return call(part, channel, acc, lo, hi, bits)
            channel -= rq.channels(part)
    name = rq.name(requant)
    function, parameters = _parameters(requant, channel, bits)
    return definitions.requantisation(name), f"(requantise-{function} {' '.join([acc, *parameters, lo, hi])})"


def _parameters(requant: Requant, channel: int, bits: int) -> tuple[str, list[str]]:
    """The function's name and what stands between the accumulator and the clamp."""
    name = rq.name(requant)
    match requant:
        case ShiftHalfUp(shift=shift):
            return name, [integer(shift, bits)]
        case Q31Double() | Q31HalfUp() | Q31Single():
            values = (int(requant.mantissa[channel]), int(requant.shift[channel]), requant.zero_point)
            return name, [integer(v, bits) for v in values]
        case Float32HalfEven() | Qnnpack():
            return name, [real32(requant.multiplier[channel]), integer(requant.zero_point, bits)]
        case Fbgemm(per_channel=True):
            return f"{name}-per-channel", [
                real32(requant.offset[channel]),
                real32(requant.multiplier[channel]),
                integer(requant.zero_point, bits),
            ]
        case Fbgemm():
            bias = 0.0 if requant.bias is None else requant.bias[channel]
            terms = [real32(v) for v in (bias, requant.offset[channel], requant.multiplier[channel])]
            return f"{name}-per-tensor", [*terms, integer(requant.zero_point, bits)]
        case Float64Away():
            return name, [real64(requant.multiplier[channel]), integer(requant.zero_point, bits)]
        case RationalHalfUp(multiplier=multiplier):
            return name, [*_fraction(multiplier[channel], bits), integer(requant.zero_point, bits)]
        case ByChannel():
            raise AssertionError("a part of a requantisation by channel has no parts")
        case _:
            assert_never(requant)


def _fraction(value: Fraction, bits: int) -> list[str]:
    exact = 4 * bits
    if (value.numerator << bits) + 2 * value.denominator >= 1 << (exact - 1):
        raise UnsupportedError(f"rational-half-up: the multiplier {value} does not fit the definition's {exact} bits; round it to fewer")
    return [integer(value.numerator, exact), integer(value.denominator, exact)]


def integer(value: int, bits: int) -> str:
    """A signed bit-vector literal that a reader can read."""
    return f"(_ bv{value} {bits})" if value >= 0 else f"(bvneg (_ bv{-value} {bits}))"


def real32(value: float | np.float32) -> str:
    """A float32 literal, to the bit."""
    return f"((_ to_fp 8 24) #x{int(np.float32(value).view(np.uint32)):08x})"


def real64(value: float | np.float64) -> str:
    """A float64 literal, to the bit."""
    return f"((_ to_fp 11 53) #x{int(np.float64(value).view(np.uint64)):016x})"
