"""Named requantisations: how an integer accumulator becomes an output integer.

This is the one place at which the family is open. A requantisation is frozen data plus one ``match`` in ``apply``; whoever builds a
layer names it, there is no default. Each is a non-decreasing function of the accumulator, so that together with the clamp
that follows it *is* a staircase (``bvverify.model.staircase``); bounds, search and solver see nothing but its thresholds.

======================  ==============================================================  ==================================================
name                    before the clamp                                                computed by
======================  ==============================================================  ==================================================
``shift-half-up``       ``(acc + 2^(s-1)) >> s``                                        the fixed-point networks of AAAI-21 and QVIP
``float32-half-even``   ``rne(fl(fl(acc) * m)) + zero_point``                           ONNX Runtime QLinearMatMul, QLinearConv, QGemm
======================  ==============================================================  ==================================================

``fl`` is one rounding to float32, ``rne`` rounds half to even, ``>>`` is the arithmetic shift. ONNX Runtime clamps the float product
before it converts it to an integer (MLAS ``MlasRequantizeOutput``), so a huge product saturates and never wraps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np

from bvverify.model.types import Float32Array, Int64Array, frozen_array


@dataclass(frozen=True, slots=True)
class ShiftHalfUp:
    """Rounding shift, half up: ``(acc + 2^(shift-1)) >> shift``; ``shift`` from 0 (the identity) to 62."""

    shift: int

    def __post_init__(self) -> None:
        if not 0 <= self.shift <= 62:
            raise ValueError(f"a rounding shift is 0 to 62 bits, not {self.shift}")


@dataclass(frozen=True, slots=True, eq=False)
class Float32HalfEven:
    """One float32 product, rounded half to even, plus the zero point.

    ``multiplier`` is float32, positive and finite, of shape (1,) (per tensor) or (channels,) (per channel).
    """

    multiplier: Float32Array
    zero_point: int

    def __post_init__(self) -> None:
        multiplier = np.atleast_1d(np.asarray(self.multiplier))
        if multiplier.dtype != np.float32 or multiplier.ndim != 1:
            raise ValueError("the multiplier of float32-half-even is a vector of float32")
        if not (np.isfinite(multiplier).all() and (multiplier > 0).all()):
            raise ValueError("every multiplier of float32-half-even is positive and finite")
        object.__setattr__(self, "multiplier", frozen_array(multiplier, np.float32))


Requant = ShiftHalfUp | Float32HalfEven


def name(requant: Requant) -> str:
    """The name that verdicts, encodings and the command line use."""
    match requant:
        case ShiftHalfUp():
            return "shift-half-up"
        case Float32HalfEven():
            return "float32-half-even"
        case _:
            assert_never(requant)


def channels(requant: Requant) -> int:
    """How many different staircases the requantisation holds: 1 when it is per tensor."""
    match requant:
        case ShiftHalfUp():
            return 1
        case Float32HalfEven(multiplier=multiplier):
            return len(multiplier)
        case _:
            assert_never(requant)


def apply(requant: Requant, acc: Int64Array, lo: int, hi: int) -> Int64Array:
    """Requantise accumulators and clamp to ``[lo, hi]``, exactly.

    ``acc`` is int64 of shape (batch, channels, ...), with ``|acc| < 2^62 - 2^(shift-1)``; a per-channel requantisation
    runs along axis 1. Returns int64 of the same shape, within ``[lo, hi]``.
    """
    match requant:
        case ShiftHalfUp(shift=shift):
            half = (1 << shift) >> 1
            shifted: Int64Array = (acc + half) >> shift
            return np.clip(shifted, lo, hi)
        case Float32HalfEven(multiplier=multiplier, zero_point=zero_point):
            per_channel = multiplier.reshape((-1,) + (1,) * (acc.ndim - 2))
            # A product beyond float32's range becomes infinite and then saturates, as it does in the runtime.
            with np.errstate(over="ignore"):
                product = acc.astype(np.float32) * per_channel
            clamped = np.clip(product, np.float32(lo - zero_point), np.float32(hi - zero_point))
            return np.asarray(np.rint(clamped).astype(np.int64) + zero_point)
        case _:
            assert_never(requant)
