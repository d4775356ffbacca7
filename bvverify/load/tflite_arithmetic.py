"""Whose arithmetic an operator of a .tflite file is computed in: requantisations, additions, means and activation ranges by profile.

Measured against LiteRT 2.3 on x86-64 (``tests/differential/test_litert.py``; its kernels for ARM may round otherwise); CMSIS-NN's follow
its sources. ``M`` is the float64 ``sx * sw / sy`` of float32 scales, ``F`` the same with ``sx * sw`` rounded to float32 first.

=================  ================  =================================================  =================  =============
operator           tflite-reference  tflite-optimised                                   tflite-xnnpack     cmsis-nn
=================  ================  =================================================  =================  =============
FULLY_CONNECTED    float64-away      q31-half-up, of F where there is one scale         float32-half-even  q31-double, F
CONV_2D            q31-double        q31-half-up                                        float32-half-even  q31-double
DEPTHWISE_CONV_2D  q31-double        q31-half-up in whole blocks of 8, then q31-double  float32-half-even  q31-double
ADD                3 x q31-double    3 x q31-double                                     a rounding shift   3 x q31-double
=================  ================  =================================================  =================  =============

CMSIS-NN uses ``q31-single`` throughout where single rounding is switched on, and F where a FULLY_CONNECTED has one scale.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, assert_never

import numpy as np

from bvverify.load.profile import CmsisNn, TfLite
from bvverify.model.float32 import fma
from bvverify.model.ops import AddRule, Q31Add, ShiftAdd
from bvverify.model.requant import ByChannel, Float32HalfEven, Float64Away, Q31Double, Q31HalfUp, Q31Single, Requant, q31
from bvverify.model.types import Float32Array, Quantisation

Runtime = TfLite | CmsisNn
_BLOCK = 8
"""Channels that the optimised depthwise kernel takes at a time."""


def product(runtime: Runtime, kind: str, x: Quantisation, weight_scale: Float32Array, y: Quantisation) -> Requant:
    """The requantisation of a FULLY_CONNECTED, CONV_2D or DEPTHWISE_CONV_2D; ``weight_scale`` is (1,) or (channels,)."""
    sx, sy, sw = np.float32(x.scale), np.float32(y.scale), weight_scale.astype(np.float32)
    exact = np.float64(sx) * sw.astype(np.float64) / np.float64(sy)
    rounded = (sx * sw).astype(np.float64) / np.float64(sy)
    one_scale = kind == "FULLY_CONNECTED" and len(sw) == 1
    match runtime:
        case CmsisNn(single_rounding=single):
            return _q31(Q31Single if single else Q31Double, rounded if one_scale else exact, y.zero_point)
        case TfLite(mode="xnnpack"):
            multiplier = sx * sw / sy
            if not ((multiplier >= 2.0**-32) & (multiplier < 256)).all():
                raise ValueError("sx * sw / sy leaves the range of XNNPACK, 2^-32 to 2^8, so that other kernels would compute it")
            return Float32HalfEven(multiplier, y.zero_point)
        case TfLite(mode="reference"):
            return Float64Away(exact, y.zero_point) if kind == "FULLY_CONNECTED" else _q31(Q31Double, exact, y.zero_point)
        case TfLite():
            if kind != "DEPTHWISE_CONV_2D":
                return _q31(Q31HalfUp, rounded if one_scale else exact, y.zero_point)
            whole = len(sw) // _BLOCK * _BLOCK
            blocks, rest = _q31(Q31HalfUp, exact[:whole], y.zero_point), _q31(Q31Double, exact[whole:], y.zero_point)
            return blocks if whole == len(sw) else ByChannel((blocks, rest)) if whole else rest
        case _:
            assert_never(runtime)


def addition(runtime: Runtime, a: Quantisation, b: Quantisation, y: Quantisation) -> AddRule:
    """The rule of an ADD; ``ValueError`` where XNNPACK's multipliers would leave their range."""
    match runtime:
        case TfLite(mode="xnnpack"):
            ra, rb = (np.float32(s.scale) / np.float32(y.scale) for s in (a, b))
            shift = 20 - (int(np.frexp(max(ra, rb))[1]) - 1)
            if not (min(ra, rb) >= 2.0**-10 and max(ra, rb) < 256):
                raise ValueError(f"a ratio of {ra} or {rb} of scales leaves the range of XNNPACK, 2^-10 to 2^8")
            ma, mb = (int(np.rint(np.ldexp(r, shift))) for r in (ra, rb))
            bias = (1 << (shift - 1)) - ma * a.zero_point - mb * b.zero_point
            return ShiftAdd(ma, mb, bias, shift, y.zero_point)
        case TfLite() | CmsisNn():
            twice = 2 * max(a.scale, b.scale)
            out = twice / ((1 << 20) * y.scale)
            single = isinstance(runtime, CmsisNn) and runtime.single_rounding
            rule = Q31Add(a.zero_point, b.zero_point, q31(a.scale / twice), q31(b.scale / twice), q31(out), y.zero_point, single)
            if rule.qo[1] > 0:
                raise ValueError("the output's scale is too small for the inputs' by more than 2^19")
            return rule
        case _:
            assert_never(runtime)


def quantiser(runtime: Runtime, meaning: Quantisation) -> Quantisation:
    """A QUANTIZE of float32: the reference kernel, which runs on microcontrollers too, divides and rounds half away from zero.

    The optimised one does as XNNPACK in whole vectors, and as the reference in what is left over (refused by the loader).
    """
    divides = isinstance(runtime, CmsisNn) or runtime == TfLite("reference")
    return replace(meaning, rounding="divide-half-away" if divides else "multiply-half-even")


def dequantises_exactly(runtime: Runtime, meaning: Quantisation) -> bool:
    """Whether a DEQUANTIZE of int8 is ``fl((q - zero_point) * scale)``; the optimised kernel adds ``-zero_point * scale`` last."""
    if runtime != TfLite("optimised"):
        return True
    q, scale, zero = np.arange(-128, 128).astype(np.float32), np.float32(meaning.scale), np.float32(meaning.zero_point)
    expected, apart = (q - zero) * scale, -zero * scale
    return bool((q * scale + apart == expected).all() and (fma(q, scale, apart) == expected).all())


def mean_multiplier(count: int) -> float:
    """The least float64 above ``1 / count``: with it ``float64-away`` is the integer mean, half away from zero.

    A product with it is never below the exact mean, so that a tie reaches the half; and it is above by less than 2^-50 of it, where the
    next mean below a tie lacks ``1 / count``.
    """
    return float(np.nextafter(1.0 / count, np.inf))


def activation(runtime: Runtime, kind: str, name: str, y: Quantisation, lo: int, hi: int) -> tuple[int, int]:
    """``[lo, hi]`` narrowed by the activation that is fused into an operator of ``kind``; ``ValueError`` for one that is no clamp."""
    # The delegate leaves averages to the built-in kernels.
    delegated = runtime == TfLite("xnnpack") and kind != "AVERAGE_POOL_2D"

    def at(real: float) -> int:
        scaled = np.float32(real) / np.float32(y.scale)
        if delegated:
            # XNNPACK adds the zero point before it rounds, half to even.
            return int(np.rint(np.clip(scaled + np.float32(y.zero_point), np.float32(lo), np.float32(hi))))
        away = np.copysign(np.floor(np.abs(np.float64(scaled)) + 0.5), scaled)
        return int(np.clip(away + y.zero_point, lo, hi))

    ends: dict[str, tuple[Any, Any]] = {"NONE": (lo, hi), "RELU": (0.0, hi), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}
    if name not in ends:
        raise ValueError(f"the fused activation {name} is not supported; bvverify takes NONE, RELU, RELU6 and RELU_N1_TO_1")
    low, high = (at(end) if isinstance(end, float) else end for end in ends[name])
    return min(max(lo, low), hi), max(min(hi, high), lo)


def _q31(kind: type[Q31Double] | type[Q31HalfUp] | type[Q31Single], real: Any, zero_point: int) -> Q31Double | Q31HalfUp | Q31Single:
    parts = np.array([q31(float(m)) for m in real], np.int64).reshape(-1, 2)
    return kind(parts[:, 0], parts[:, 1], zero_point)
