"""Boxes of integer inputs from what a user gives: an input and a radius, or intervals of reals through the model's own quantiser.

A quantiser is ``saturate(rne(fl(x / scale)) + zero_point)`` in ONNX Runtime, and much the same elsewhere (``Rounding``): each step is
non-decreasing, so the image of an interval of reals is the integer interval between the images of its ends. A real number reaches the
runtime as the float32 nearest to it, which is non-decreasing as well; the image taken here is that of every real in the interval, so it
is never too small.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, assert_never

import numpy as np

from bvverify.errors import UsageError
from bvverify.model.float32 import fma
from bvverify.model.query import Box
from bvverify.model.types import AnyArray, Cells, Float32Array, Int64Array, QType, Quantisation

_OVERFLOW = 1 << 30
"""TFLite's built-in kernels convert to int32 before they clamp; its XNNPACK clamps first, and is held to the same."""


def quantise(x: AnyArray, quantiser: Quantisation | Cells, qtype: QType) -> Int64Array:
    """Float32 ``x`` (any shape, finite) to integers of ``qtype``, as the runtime that the quantiser's rounding belongs to computes it.

    ``UsageError`` for values so far out that the runtime's conversion overflows.
    """
    x = np.asarray(x, np.float32)
    if isinstance(quantiser, Cells):
        return np.searchsorted(np.array(quantiser.starts, np.float32), x, side="right").astype(np.int64)
    scale = np.float32(quantiser.scale)
    if quantiser.rounding == "multiply-add-half-even":
        with np.errstate(over="ignore"):
            total = fma(x, np.float32(1) / scale, np.float32(quantiser.zero_point))
        return np.asarray(np.rint(np.clip(total, np.float32(qtype.lo), np.float32(qtype.hi))).astype(np.int64))
    with np.errstate(over="ignore"):
        scaled: AnyArray = x * (np.float32(1) / scale) if quantiser.rounding == "multiply-half-even" else x / scale
    match quantiser.rounding:
        case "divide-half-even":
            whole = np.rint(scaled)
        case "multiply-half-even":
            _check_overflow(scaled)
            whole = np.rint(scaled)
        case "divide-half-away":
            _check_overflow(scaled)
            # The fraction is exact; adding a half before rounding down would not be.
            whole = np.trunc(scaled) + np.copysign(np.abs(scaled - np.trunc(scaled)) >= 0.5, scaled)
        case _:
            assert_never(quantiser.rounding)
    # Clamped as floats first: beyond int64 a cast is undefined, and the ends are exact in float32.
    clamped = np.clip(whole, np.float32(qtype.lo - quantiser.zero_point), np.float32(qtype.hi - quantiser.zero_point))
    return np.asarray(clamped.astype(np.int64) + quantiser.zero_point)


def clipped(x: AnyArray, quantiser: Quantisation | Cells, qtype: QType) -> int:
    """How many of the reals ``x`` lie beyond what the quantiser can say, so that it makes an end of the type of them."""
    if isinstance(quantiser, Cells):
        return 0  # the outer cells have no end
    wide = QType(16, signed=True)
    return int(np.count_nonzero(quantise(x, quantiser, wide) != quantise(x, quantiser, qtype)))


def _check_overflow(scaled: AnyArray) -> None:
    if (np.abs(scaled) >= np.float32(_OVERFLOW)).any():
        raise UsageError(f"an input beyond {_OVERFLOW} times the scale of the model's quantiser: TFLite's conversion overflows there")


def dequantise(q: AnyArray, quantisation: Quantisation | Cells) -> Float32Array:
    """ONNX DequantizeLinear: ``fl((q - zero_point) * scale)``, float32; of a cell, the first number in it (of cell 0, the last)."""
    if isinstance(quantisation, Cells):
        starts = np.array(quantisation.starts, np.float32)
        first = np.concatenate([np.nextafter(starts[:1], np.float32(-np.inf)), starts])
        return np.asarray(first[np.minimum(q, len(starts))])
    return (np.asarray(q, np.int64) - quantisation.zero_point).astype(np.float32) * np.float32(quantisation.scale)


def around(x: Int64Array, radius: int, qtype: QType) -> Box:
    """All integers within ``radius`` of ``x`` in every element, inside the type."""
    return Box.of(np.maximum(x - radius, qtype.lo), np.minimum(x + radius, qtype.hi))


def nearest_float32(value: Fraction) -> np.float32:
    """The float32 nearest to a rational, ties to even; infinite beyond the largest."""
    # Fraction to float64 is correctly rounded; repair the second rounding where float64 landed on a float32 tie.
    try:
        double = float(value)
    except OverflowError:
        return np.float32(np.inf if value > 0 else -np.inf)
    with np.errstate(over="ignore"):
        single = np.float32(double)
    if Fraction(double) == value or not np.isfinite(single):
        return single
    neighbours = [single, np.nextafter(single, np.float32(-np.inf)), np.nextafter(single, np.float32(np.inf))]
    finite = [n for n in neighbours if np.isfinite(n)]
    return min(finite, key=lambda n: (abs(Fraction(float(n)) - value), int(np.float32(n).view(np.int32)) & 1))


def image(lo: list[Fraction], hi: list[Fraction], quantiser: Quantisation | Cells, qtype: QType) -> Box:
    """The exact integer image of a box of reals (flat lists of rationals) under the quantiser; flat int64 bounds."""
    ends: list[Any] = [np.array([nearest_float32(v) for v in side], np.float32) for side in (lo, hi)]
    return Box.of(quantise(ends[0], quantiser, qtype), quantise(ends[1], quantiser, qtype))
