"""Every requantisation by its definition, in integers and fractions, step by step; written apart from ``model.requant.apply``.

``fl`` is a rounding to the nearest float32, which is a grid whose unit is the spacing of the numbers around the value: half to even on that
grid is half to even in the last bit. What exceeds float32 saturates behind it, so that the exponent needs no end upwards.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import assert_never

import numpy as np

from bvverify.explain.calculation import Multiplier, Rounding, Rule, Step
from bvverify.model import requant as rq
from bvverify.model.ops import AddRule, FmaAdd, Q31Add, ShiftAdd
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
from bvverify.model.types import QType, Quantisation

_PRECISION = {"float32": (24, -149), "float64": (53, -1074)}
"""Bits of the significand, and the exponent of the smallest spacing."""


def requantise(requant: Requant, channel: int, acc: int, lo: int, hi: int) -> Rounding:
    """The rounding of accumulator ``acc`` of one channel (any, where one multiplier holds for all); ``acc`` is within the rule's reach."""
    match requant:
        case ByChannel(parts=parts):
            for part in parts:
                if channel < rq.channels(part):
                    return requantise(part, channel, acc, lo, hi)
                channel -= rq.channels(part)
            raise ValueError(f"there are only {rq.channels(requant)} channels")
        case ShiftHalfUp(shift=shift):
            zero_point, constants = 0, [("multiplier", Multiplier("shift", 1, -shift))]
            exact = Fraction(acc, 1 << shift)
            steps = [Step.of("shift", f"({acc} + 2^{shift - 1}) >> {shift}" if shift else f"{acc}", exact, Rule.HALF_UP)]
        case Q31Double(mantissa=mantissas, shift=shifts) | Q31HalfUp(mantissa=mantissas, shift=shifts):
            mantissa, shift = (int(v[channel % len(v)]) for v in (mantissas, shifts))
            second = Rule.HALF_UP if isinstance(requant, Q31HalfUp) else Rule.HALF_AWAY
            zero_point, constants = requant.zero_point, [("multiplier", Multiplier("Q31", mantissa, shift - 31))]
            steps = _q31_twice(acc, mantissa, shift, second)
        case Q31Single(mantissa=mantissas, shift=shifts):
            mantissa, shift = (int(v[channel % len(v)]) for v in (mantissas, shifts))
            zero_point, constants = requant.zero_point, [("multiplier", Multiplier("Q31", mantissa, shift - 31))]
            steps = _q31_once(acc, mantissa, shift)
        case Float32HalfEven() | Qnnpack():
            stored = _stored(requant.multiplier, channel)
            zero_point, constants = requant.zero_point, [("multiplier", stored)]
            steps = [_fl("to float32", f"fl({acc})", Fraction(acc))]
            steps += _product(steps[-1].result, stored)
        case Fbgemm():
            zero_point = requant.zero_point
            steps, constants = _fbgemm(requant, channel, acc)
        case Float64Away():
            stored = _stored(requant.multiplier, channel)
            zero_point, constants = requant.zero_point, [("multiplier", stored)]
            product = _fl("product", f"fl64({acc} * m)", acc * stored.real, "float64")
            steps = [product, Step.of("to integer", f"away({_short(product.result)})", product.result, Rule.HALF_AWAY)]
        case RationalHalfUp(multiplier=multipliers):
            real = multipliers[channel % len(multipliers)]
            zero_point, constants = requant.zero_point, [("multiplier", Multiplier("rational", real.numerator, 0, real.denominator))]
            steps = [Step.of("to integer", f"floor({acc} * m + 1/2)", acc * real, Rule.HALF_UP)]
        case _:
            assert_never(requant)
    named = dict(constants)
    added = named["bias"].real / named["scale"].real if "bias" in named else Fraction(0)
    value = (acc + added) * named["multiplier"].real
    return Rounding(rq.name(requant), tuple(constants), value, tuple(steps), int(steps[-1].result), zero_point, lo, hi)


def add(rule: AddRule, a: int, b: int, lo: int, hi: int) -> Rounding:
    """The rounded sum of two operands."""
    match rule:
        case FmaAdd(ra=ra, rb=rb, offset=offset):
            constants = [(n, _float(np.float32(v))) for n, v in (("ra", ra), ("rb", rb), ("offset", offset))]
            inner = _fl("inner fma", f"fl({b} * rb + offset)", b * Fraction(rb) + Fraction(offset))
            outer = _fl("outer fma", f"fl({a} * ra + {_short(inner.result)})", a * Fraction(ra) + inner.result)
            last = Step.of("to integer", f"rne({_short(outer.result)})", outer.result, Rule.HALF_EVEN)
            # The zero point is inside the offset, and is rounded with it.
            value = a * Fraction(ra) + b * Fraction(rb) + Fraction(offset)
            return Rounding("fma-add", tuple(constants), value, (inner, outer, last), int(last.result), 0, lo, hi)
        case ShiftAdd(ma=ma, mb=mb, bias=bias, shift=shift, zero_point=zero_point):
            constants = [("ma", Multiplier("integer", ma)), ("mb", Multiplier("integer", mb)), ("bias", Multiplier("integer", bias))]
            # The bias holds half a unit already, so that the plain shift rounds half up.
            value = Fraction(ma * a + mb * b + bias - ((1 << shift) >> 1), 1 << shift)
            step = Step.of("shift", f"({bias} + {ma} * {a} + {mb} * {b}) >> {shift}", value, Rule.HALF_UP)
            return Rounding("shift-add", tuple(constants), value, (step,), int(step.result), zero_point, lo, hi)
        case Q31Add():
            return _q31_add(rule, a, b, lo, hi)
        case _:
            assert_never(rule)


def quantise(quantiser: Quantisation, qtype: QType, x: np.float32) -> Rounding:
    """How the model's first quantiser makes an integer of the real number ``x`` (float32)."""
    real, scale = Fraction(float(x)), Fraction(quantiser.scale)
    constants = [("scale", _float(np.float32(quantiser.scale)))]
    inverse = _fl("inverse", "fl(1 / scale)", 1 / scale)
    zero_point, rule, steps = quantiser.zero_point, Rule.HALF_EVEN, []
    match quantiser.rounding:
        case "divide-half-even" | "divide-half-away":
            steps = [_fl("quotient", f"fl({_short(real)} / scale)", real / scale)]
            rule = Rule.HALF_AWAY if quantiser.rounding == "divide-half-away" else Rule.HALF_EVEN
        case "multiply-half-even":
            steps = [inverse, _fl("product", f"fl({_short(real)} * {_short(inverse.result)})", real * inverse.result)]
        case "multiply-add-half-even":
            total = real * inverse.result + zero_point
            steps = [inverse, _fl("fma", f"fl({_short(real)} * {_short(inverse.result)} + {zero_point})", total)]
            zero_point = 0
        case _:
            assert_never(quantiser.rounding)
    steps.append(
        Step.of("to integer", f"{'away' if rule is Rule.HALF_AWAY else 'rne'}({_short(steps[-1].result)})", steps[-1].result, rule)
    )
    value = real / scale + (quantiser.zero_point - zero_point)
    return Rounding(f"quantise, {quantiser.rounding}", tuple(constants), value, tuple(steps), int(steps[-1].result), zero_point,
                    qtype.lo, qtype.hi)  # fmt: skip


def mean(total: list[tuple[Fraction, str]], count: int, scale: float, zero_point: int, lo: int, hi: int) -> Rounding:
    """A float32 mean: the ``total`` of dequantised values (with their names), in order, divided, scaled and moved; each step rounded."""
    steps, held = [], Fraction(0)
    for value, name in total:
        steps.append(_fl("sum", f"fl({_short(held)} + {name})", held + value))
        held = steps[-1].result
    exact = sum((v for v, _ in total), Fraction(0)) / count / Fraction(scale) + zero_point
    constants = (("scale", _float(np.float32(scale))), ("zero point", _float(np.float32(zero_point))))
    steps.append(_fl("mean", f"fl({_short(held)} / {count})", held / count))
    steps.append(_fl("scaled", f"fl({_short(steps[-1].result)} / scale)", steps[-1].result / Fraction(scale)))
    steps.append(_fl("moved", f"fl({_short(steps[-1].result)} + {zero_point})", steps[-1].result + zero_point))
    held = steps[-1].result
    steps.append(Step.of("to integer", f"rne({_short(held)})", held, Rule.HALF_EVEN))
    # The zero point was added before the rounding.
    return Rounding("float-mean", constants, exact, tuple(steps), int(steps[-1].result), 0, lo, hi)


def _q31_twice(acc: int, mantissa: int, shift: int, second: Rule) -> list[Step]:
    """The high half of the doubled product, half up; then the right shift, where there is one."""
    left, right = max(shift, 0), max(-shift, 0)
    moved = f"({acc} << {left})" if left else f"{acc}"
    high = Step.of("high half", f"({moved} * {mantissa} + 2^30) >> 31", Fraction((acc << left) * mantissa, 1 << 31), Rule.HALF_UP)
    if not right:
        return [high]
    h = int(high.result)
    formula = f"({h} + 2^{right - 1}) >> {right}" if second is Rule.HALF_UP else f"away({h} / 2^{right})"
    return [high, Step.of("right shift", formula, Fraction(h, 1 << right), second)]


def _q31_once(acc: int, mantissa: int, shift: int) -> list[Step]:
    formula = f"({acc} * {mantissa} + 2^{30 - shift}) >> {31 - shift}"
    return [Step.of("shift", formula, Fraction(acc * mantissa, 1 << (31 - shift)), Rule.HALF_UP)]


def _q31_add(rule: Q31Add, a: int, b: int, lo: int, hi: int) -> Rounding:
    steps: list[Step] = []

    def times(x: int, q: tuple[int, int]) -> int:
        steps.extend(_q31_once(x, *q) if rule.single else _q31_twice(x, *q, Rule.HALF_AWAY))
        return int(steps[-1].result)

    total = times((a - rule.za) << 20, rule.qa) + times((b - rule.zb) << 20, rule.qb)
    rounded = times(total, rule.qo)
    constants = tuple((name, Multiplier("Q31", q[0], q[1] - 31)) for name, q in (("qa", rule.qa), ("qb", rule.qb), ("qo", rule.qo)))
    real = dict(constants)
    value = ((a - rule.za) * real["qa"].real + (b - rule.zb) * real["qb"].real) * (1 << 20) * real["qo"].real
    return Rounding("q31-add", constants, value, tuple(steps), rounded, rule.zero_point, lo, hi)


def _fbgemm(requant: Fbgemm, channel: int, acc: int) -> tuple[list[Step], list[tuple[str, Multiplier]]]:
    multiplier, scale = _stored(requant.multiplier, channel), _stored(requant.scale, channel)
    constants = [("multiplier", multiplier), ("scale", scale)]
    steps = [_fl("to float32", f"fl({acc})", Fraction(acc))]
    held = steps[-1].result
    if requant.bias is not None:
        bias = _stored(requant.bias, channel)
        constants.append(("bias", bias))
        if requant.per_channel:
            steps.append(_fl("bias", "fl(bias / scale)", bias.real / scale.real))
            steps.append(_fl("with bias", f"fl({_short(held)} + {_short(steps[-1].result)})", held + steps[-1].result))
        else:
            steps.append(_fl("inverse", "fl(1 / scale)", 1 / scale.real))
            steps.append(_fl("with bias", f"fl(bias * {_short(steps[-1].result)} + {_short(held)})", bias.real * steps[-1].result + held))
    return steps + _product(steps[-1].result, multiplier), constants


def _product(held: Fraction, multiplier: Multiplier) -> list[Step]:
    product = _fl("product", f"fl({_short(held)} * m)", held * multiplier.real)
    return [product, Step.of("to integer", f"rne({_short(product.result)})", product.result, Rule.HALF_EVEN)]


def _fl(name: str, formula: str, exact: Fraction, kind: str = "float32") -> Step:
    """One rounding to a float type."""
    bits, least = _PRECISION[kind]
    exponent = least
    if exact:
        # floor(log2(|exact|)): from the lengths of numerator and denominator, which are off by at most one.
        top, bottom = abs(exact.numerator), exact.denominator
        log = top.bit_length() - bottom.bit_length()
        log -= (top << max(-log, 0)) < (bottom << max(log, 0))
        exponent = max(log - bits + 1, least)
    return Step.of(name, formula, exact, Rule.HALF_EVEN, _power(exponent))


@lru_cache(maxsize=512)
def _power(exponent: int) -> Fraction:
    return Fraction(2) ** exponent


def _stored(values: np.ndarray, channel: int) -> Multiplier:
    return _float(values[channel % len(values)])


def _float(value: np.floating) -> Multiplier:
    width = value.dtype.itemsize
    return _unpacked(int(value.view(f"u{width}")), width)


@lru_cache(maxsize=512)
def _unpacked(bits: int, width: int) -> Multiplier:
    """A float's bit pattern of ``width`` bytes as an odd mantissa and an exponent."""
    top, bottom = float(np.array(bits, f"u{width}").view(f"f{width}")).as_integer_ratio()
    exponent = 1 - bottom.bit_length()
    while top and top % 2 == 0:
        top, exponent = top // 2, exponent + 1
    return Multiplier(f"float{8 * width}", top, exponent, 1, f"0x{bits:0{2 * width}x}")


def _short(value: Fraction) -> str:
    """A number in a formula: exact where it is an integer, else to nine digits."""
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.9g}"
