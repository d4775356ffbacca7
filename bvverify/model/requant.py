"""Named requantisations: how an integer accumulator becomes an output integer.

This is the one place at which the family is open. A requantisation is frozen data plus one ``match`` in ``apply``; whoever builds a
layer names it, there is no default. Each is a non-decreasing function of the accumulator, so that together with the clamp
that follows it *is* a staircase (``bvverify.model.staircase``); bounds, search and solver see nothing but its thresholds.

======================  ==============================================================  ==================================================
name                    before the clamp                                                computed by
======================  ==============================================================  ==================================================
``shift-half-up``       ``(acc + 2^(s-1)) >> s``                                        the fixed-point networks of AAAI-21 and QVIP
``q31-double``          ``h = ((acc << l)*Q + 2^30) >> 31``, ``away`` by ``2^r``        TFLite's reference convolutions; CMSIS-NN
``q31-half-up``         the same h, then ``(h + 2^(r-1)) >> r``                         TFLite optimised (ruy)
``q31-single``          ``(acc*Q + 2^(30-s)) >> (31-s)``                                CMSIS-NN with single rounding
``float32-half-even``   ``rne(fl(fl(acc) * m))``                                        ONNX Runtime; LiteRT's XNNPACK
``fbgemm``              ``rne(fl(r * m))``, r the sum with a float bias                 PyTorch eager, engine fbgemm
``qnnpack``             ``rne(fl(fl(acc) * m))``, another m                             PyTorch eager, engine qnnpack
``float64-away``        ``away(acc * M)`` in float64                                    TFLite's reference FULLY_CONNECTED
``rational-half-up``    ``floor(acc*m + 1/2)`` over the rationals                       nobody: the reading of ILP encodings
======================  ==============================================================  ==================================================

All but the first add the output's zero point next. ``fl`` is one rounding to float32, ``rne`` rounds half to even, ``away`` half away from
zero, ``>>`` is the arithmetic shift; ``Q``, ``s`` are mantissa and exponent of the multiplier, ``l = max(s, 0)``, ``r = max(-s, 0)``.

**Overflow.** ONNX Runtime clamps the float product before it converts it (MLAS ``MlasRequantizeOutput``), so that a huge product saturates.
The others wrap or convert to the least integer when a product passes 2^31. ``reach`` is the largest accumulator for which
that is excluded; a network in which an accumulator could pass it is refused when it is built (``bvverify.model.network``). Beyond
their reach the functions here stay what they are at its end, so that they remain non-decreasing.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from bvverify.model.float32 import fma
from bvverify.model.types import Float32Array, Int64Array, frozen_array

_INT32 = (1 << 31) - (1 << 17)
"""How far a product of a 32-bit kernel may go: room for the zero point, and for what float32 rounds."""


@dataclass(frozen=True, slots=True)
class ShiftHalfUp:
    """Rounding shift, half up: ``(acc + 2^(shift-1)) >> shift``; ``shift`` from 0 (the identity) to 62."""

    shift: int

    def __post_init__(self) -> None:
        if not 0 <= self.shift <= 62:
            raise ValueError(f"a rounding shift is 0 to 62 bits, not {self.shift}")


@dataclass(frozen=True, slots=True, eq=False)
class _Q31:
    """A multiplier ``mantissa * 2^(shift - 31)``: int64 of shape (1,) or (channels,) each, ``mantissa`` 0 or in [2^30, 2^31)."""

    mantissa: Int64Array
    shift: Int64Array
    zero_point: int

    def __post_init__(self) -> None:
        mantissa, shift = (np.atleast_1d(np.asarray(v, np.int64)) for v in (self.mantissa, self.shift))
        if mantissa.ndim != 1 or mantissa.shape != shift.shape:
            raise ValueError("a Q31 multiplier is a vector of mantissas and one of shifts, of one length")
        if not ((mantissa == 0) | ((mantissa >= 1 << 30) & (mantissa < 1 << 31))).all():
            raise ValueError("the mantissa of a Q31 multiplier is 0 or has 31 bits")
        if not ((shift >= -62) & (shift <= 30)).all():
            raise ValueError("the shift of a Q31 multiplier is -62 to 30")
        object.__setattr__(self, "mantissa", frozen_array(mantissa, np.int64))
        object.__setattr__(self, "shift", frozen_array(shift, np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Q31Double(_Q31):
    """Two roundings: half up in the high half of the doubled product, then half away from zero in the right shift."""


@dataclass(frozen=True, slots=True, eq=False)
class Q31HalfUp(_Q31):
    """Two roundings, both half up."""


@dataclass(frozen=True, slots=True, eq=False)
class Q31Single(_Q31):
    """One rounding, half up, of the 64-bit product."""


@dataclass(frozen=True, slots=True, eq=False)
class _FloatMultiplier:
    """A float32 multiplier, positive and finite, of shape (1,) (per tensor) or (channels,) (per channel), and the zero point."""

    multiplier: Float32Array
    zero_point: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "multiplier", _positive(self.multiplier, np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Float32HalfEven(_FloatMultiplier):
    """One float32 product, rounded half to even, plus the zero point; ONNX Runtime and XNNPACK."""


@dataclass(frozen=True, slots=True, eq=False)
class Qnnpack(_FloatMultiplier):
    """The same function as ``float32-half-even`` within its reach; PyTorch's engine makes the multiplier in its own order of roundings."""


@dataclass(frozen=True, slots=True, eq=False)
class Fbgemm:
    """PyTorch's engine fbgemm: the bias is a real number, added in float32 before the multiplication.

    With ``scale = fl(sx * sw)`` and ``multiplier = fl(scale / sy)``, ``r = fl(fl(acc) + fl(bias / scale))`` where the weights have a scale
    for each channel, ``r = fma(bias, fl(1 / scale), fl(acc))`` where they have one; ``rne(fl(r * multiplier)) + zero_point``. All three
    arrays are float32 of shape (channels,); without a bias, ``bias`` is None and r is ``fl(acc)``.
    """

    multiplier: Float32Array
    bias: Float32Array | None
    scale: Float32Array
    per_channel: bool
    zero_point: int

    def __post_init__(self) -> None:
        multiplier, scale = _positive(self.multiplier, np.float32), _positive(self.scale, np.float32)
        if multiplier.shape != scale.shape:
            raise ValueError("fbgemm takes one scale for each multiplier")
        object.__setattr__(self, "multiplier", multiplier)
        object.__setattr__(self, "scale", scale)
        if self.bias is not None:
            bias = np.atleast_1d(np.asarray(self.bias))
            if bias.dtype != np.float32 or bias.shape != multiplier.shape or not np.isfinite(bias).all():
                raise ValueError("the bias of fbgemm is float32, finite, and one for each multiplier")
            object.__setattr__(self, "bias", frozen_array(bias, np.float32))

    @property
    def offset(self) -> Float32Array:
        """``fl(bias / scale)``, or ``fl(1 / scale)`` where one scale holds for all: what the formula calls for."""
        if self.per_channel:
            return np.zeros_like(self.scale) if self.bias is None else self.bias / self.scale
        return np.float32(1) / self.scale


@dataclass(frozen=True, slots=True, eq=False)
class Float64Away:
    """One float64 product, rounded half away from zero, plus the zero point; ``multiplier`` float64, positive, (1,) or (channels,)."""

    multiplier: NDArray[np.float64]
    zero_point: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "multiplier", _positive(self.multiplier, np.float64))


@dataclass(frozen=True, slots=True)
class RationalHalfUp:
    """``floor(acc * multiplier + zero_point + 1/2)`` over exact rationals, one multiplier or one a channel."""

    multiplier: tuple[Fraction, ...]
    zero_point: int

    def __post_init__(self) -> None:
        if not self.multiplier or not all(m > 0 for m in self.multiplier):
            raise ValueError("every multiplier of rational-half-up is positive")


@dataclass(frozen=True, slots=True)
class ByChannel:
    """Channels in order, each block under a requantisation of its own (which has a multiplier for each of its channels)."""

    parts: tuple[ShiftHalfUp | Q31Double | Q31HalfUp | Q31Single | Float32HalfEven | Qnnpack | Fbgemm | Float64Away | RationalHalfUp, ...]


Requant = ShiftHalfUp | Q31Double | Q31HalfUp | Q31Single | Float32HalfEven | Fbgemm | Qnnpack | Float64Away | RationalHalfUp | ByChannel


def name(requant: Requant) -> str:
    """The name that verdicts, encodings and the command line use."""
    match requant:
        case ShiftHalfUp():
            return "shift-half-up"
        case Q31Double():
            return "q31-double"
        case Q31HalfUp():
            return "q31-half-up"
        case Q31Single():
            return "q31-single"
        case Float32HalfEven():
            return "float32-half-even"
        case Fbgemm():
            return "fbgemm"
        case Qnnpack():
            return "qnnpack"
        case Float64Away():
            return "float64-away"
        case RationalHalfUp():
            return "rational-half-up"
        case ByChannel(parts=parts):
            return "+".join(dict.fromkeys(name(p) for p in parts))
        case _:
            assert_never(requant)


def channels(requant: Requant) -> int:
    """How many different staircases the requantisation holds: 1 when it is per tensor."""
    match requant:
        case ShiftHalfUp():
            return 1
        case Q31Double(mantissa=multiplier) | Q31HalfUp(mantissa=multiplier) | Q31Single(mantissa=multiplier):
            return len(multiplier)
        case Float32HalfEven() | Qnnpack() | Fbgemm() | Float64Away() | RationalHalfUp():
            return len(requant.multiplier)
        case ByChannel(parts=parts):
            return sum(channels(p) for p in parts)
        case _:
            assert_never(requant)


def reach(requant: Requant) -> Int64Array | None:
    """For each channel the largest absolute accumulator for which the runtime does not overflow; None where it cannot."""
    match requant:
        case ShiftHalfUp() | Float32HalfEven() | RationalHalfUp():
            return None
        case Q31Double(shift=shift) | Q31HalfUp(shift=shift) | Q31Single(shift=shift):
            return np.int64(_INT32) >> np.maximum(shift, 0)
        case Qnnpack(multiplier=multiplier) | Float64Away(multiplier=multiplier):
            return np.minimum(_INT32 / multiplier.astype(np.float64), 2.0**31 - 1).astype(np.int64)
        case Fbgemm(multiplier=multiplier, bias=bias, scale=scale):
            added = np.zeros(len(scale)) if bias is None else np.abs(bias.astype(np.float64) / scale)
            return np.floor(np.minimum(_INT32 / multiplier.astype(np.float64), 2.0**31 - 1) - 2 * added - 2).astype(np.int64)
        case ByChannel(parts=parts):
            ends = [reach(p) for p in parts]
            whole = np.iinfo(np.int64).max
            return np.concatenate([np.full(channels(p), whole) if e is None else e for p, e in zip(parts, ends, strict=True)])
        case _:
            assert_never(requant)


def apply(requant: Requant, acc: Int64Array, lo: int, hi: int) -> Int64Array:
    """Requantise accumulators and clamp to ``[lo, hi]``, exactly.

    ``acc`` is int64 of shape (batch, channels, ...), with ``|acc| < 2^62 - 2^(shift-1)``; a per-channel requantisation
    runs along axis 1. Returns int64 of the same shape, within ``[lo, hi]``.
    """
    if isinstance(requant, ByChannel):
        ends = np.cumsum([channels(p) for p in requant.parts])[:-1]
        parts = np.split(acc, ends, axis=1)
        return np.concatenate([apply(p, a, lo, hi) for p, a in zip(requant.parts, parts, strict=True)], axis=1)

    def each(values: Any) -> Any:
        """One value a channel, along axis 1."""
        return np.asarray(values).reshape((-1,) + (1,) * (acc.ndim - 2))

    limit = reach(requant)
    if limit is not None:
        acc = np.clip(acc, -each(limit), each(limit))
    match requant:
        case ShiftHalfUp(shift=shift):
            half = (1 << shift) >> 1
            shifted: Int64Array = (acc + half) >> shift
            return np.clip(shifted, lo, hi)
        case Q31Double() | Q31HalfUp():
            left, right = each(np.maximum(requant.shift, 0)), each(np.maximum(-requant.shift, 0))
            high = ((acc << left) * each(requant.mantissa) + (1 << 30)) >> 31
            half = (np.int64(1) << right) >> 1
            up, away = (high + half) >> right, np.sign(high) * ((np.abs(high) + half) >> right)
            return np.clip((up if isinstance(requant, Q31HalfUp) else away) + requant.zero_point, lo, hi)
        case Q31Single(mantissa=mantissa, shift=shift):
            # In two steps, as the runtime does it: (v + 2^(t-1)) >> t is ((v >> (t-1)) + 1) >> 1, for every t.
            product = (acc * each(mantissa)) >> each(np.minimum(30 - shift, 62))
            return np.clip(((product + 1) >> 1) + requant.zero_point, lo, hi)
        case Float32HalfEven() | Qnnpack():
            # A product beyond float32's range becomes infinite and then saturates, as it does in the runtime.
            with np.errstate(over="ignore"):
                product = acc.astype(np.float32) * each(requant.multiplier)
            return _half_even(product, requant.zero_point, lo, hi)
        case Fbgemm(multiplier=multiplier, bias=bias, per_channel=per_channel):
            total = acc.astype(np.float32)
            if bias is not None:
                total = total + each(requant.offset) if per_channel else fma(each(bias), each(requant.offset), total)
            return _half_even(total * each(multiplier), requant.zero_point, lo, hi)
        case Float64Away(multiplier=multiplier):
            product = acc * each(multiplier)
            whole = np.trunc(product)
            # The fraction is exact in float64; adding a half before rounding down would not be.
            away = whole + np.sign(product) * (np.abs(product - whole) >= 0.5)
            return np.clip(away.astype(np.int64) + requant.zero_point, lo, hi)
        case RationalHalfUp(multiplier=fractions):
            # Beyond the accumulators that saturate nothing changes any more; up to there int64 is mostly wide enough.
            span = max(abs(lo - requant.zero_point), abs(hi - requant.zero_point)) + 1
            wide = any(2 * (span + 2) * m.denominator + 4 * m.numerator >= 1 << 62 for m in fractions)
            kind: Any = object if wide else np.int64
            top, bottom = (each(np.array(v, kind)) for v in zip(*((m.numerator, m.denominator) for m in fractions), strict=True))
            end = span * bottom // top + 1
            quotient = (2 * np.clip(acc.astype(kind), -end, end) * top + bottom) // (2 * bottom)
            return np.clip(quotient + requant.zero_point, lo, hi).astype(np.int64)
        case _:
            assert_never(requant)


def real_multiplier(requant: Requant) -> tuple[Fraction, ...]:
    """The real number by which a requantisation multiplies, exactly: one for all channels or one for each."""
    match requant:
        case ShiftHalfUp(shift=shift):
            return (Fraction(1, 1 << shift),)
        case Q31Double() | Q31HalfUp() | Q31Single():
            pairs = zip(requant.mantissa.tolist(), requant.shift.tolist(), strict=True)
            return tuple(Fraction(mantissa) * Fraction(2) ** (shift - 31) for mantissa, shift in pairs)
        case Float32HalfEven() | Qnnpack() | Fbgemm() | Float64Away():
            return tuple(Fraction(float(m)) for m in requant.multiplier)
        case RationalHalfUp(multiplier=multiplier):
            return multiplier
        case ByChannel(parts=parts):
            return tuple(m for part in parts for m in real_multiplier(part))
        case _:
            assert_never(requant)


def of_channel(requant: Requant, channel: int) -> tuple[Requant, int]:
    """The part of a requantisation that a channel belongs to (all of it, mostly), and the channel's number there."""
    if isinstance(requant, ByChannel):
        for part in requant.parts:
            if channel < channels(part):
                return of_channel(part, channel)
            channel -= channels(part)
        raise ValueError(f"there are only {channels(requant)} channels")
    return requant, channel


def zero_point_of(requant: Requant, channel: int) -> int:
    """What a channel's requantisation adds behind its rounding."""
    part, _ = of_channel(requant, channel)
    return 0 if isinstance(part, ShiftHalfUp | ByChannel) else part.zero_point


def before_rounding(requant: Requant, channel: int, acc: int) -> Fraction:
    """The real number that a requantisation would round if it computed exactly, the zero point included."""
    part, channel = of_channel(requant, channel)
    added = Fraction(0)
    if isinstance(part, Fbgemm) and part.bias is not None:
        bias, scale = part.bias, part.scale
        added = Fraction(float(bias[channel % len(bias)])) / Fraction(float(scale[channel % len(scale)]))
    multipliers = real_multiplier(part)
    return (acc + added) * multipliers[channel % len(multipliers)] + zero_point_of(part, channel)


def idealised(requant: Requant) -> Requant:
    """``rational-half-up`` of the same real multiplier; ``ValueError`` where a real bias is added besides.

    A Q31 mantissa of 0 stands for a multiplier that is too small to move any accumulator, as does the ``2^-62`` that it becomes here.
    """
    match requant:
        case ShiftHalfUp():
            return RationalHalfUp(real_multiplier(requant), 0)
        case ByChannel(parts=parts):
            made = [idealised(p) for p in parts]
            return ByChannel(tuple(p for p in made if not isinstance(p, ByChannel)))
        case Fbgemm(bias=bias) if bias is not None:
            raise ValueError("fbgemm adds a real bias, which rational-half-up does not have")
        case _:
            return RationalHalfUp(tuple(m or Fraction(1, 1 << 62) for m in real_multiplier(requant)), requant.zero_point)


def _half_even(product: Float32Array, zero_point: int, lo: int, hi: int) -> Int64Array:
    clamped = np.clip(product, np.float32(lo - zero_point), np.float32(hi - zero_point))
    return np.asarray(np.rint(clamped).astype(np.int64) + zero_point)


def _positive(values: Any, dtype: type) -> Any:
    values = np.atleast_1d(np.asarray(values))
    if values.dtype != dtype or values.ndim != 1:
        raise ValueError(f"a multiplier is a vector of {np.dtype(dtype)}")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError("every multiplier is positive and finite")
    return frozen_array(values, dtype)


def q31(real: float) -> tuple[int, int]:
    """TFLite's ``QuantizeMultiplier``: mantissa and shift of a float64 of at least 0, ``real ~ mantissa * 2^(shift - 31)``.

    The mantissa is rounded half away from zero; multipliers below 2^-32 become 0, as in the runtime.
    """
    fraction, shift = np.frexp(np.float64(real))
    scaled = Fraction(float(fraction)) * (1 << 31)
    mantissa, shift = (scaled + Fraction(1, 2)).__floor__(), int(shift)
    if mantissa == 1 << 31:
        mantissa, shift = 1 << 30, shift + 1
    if shift > 30:
        return (1 << 31) - 1, 30
    return (0, 0) if shift < -31 else (mantissa, shift)
