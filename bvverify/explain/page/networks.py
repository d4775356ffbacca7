"""Networks as plain JSON data for the page: exact numbers only, rationals as ``"n/d"``, arrays in base64 of the narrowest type.

The page computes neurons from this data on its own (``js/network.js``), so that it holds weights, biases and requantisations as they
are stored, not results. A layer whose weights would take the page beyond its limit is marked ``omitted``: its values are shown, its
neurons' calculations are not.
"""

from __future__ import annotations

import base64
from fractions import Fraction
from typing import Any, assert_never

import numpy as np

from bvverify.model import ops
from bvverify.model import requant as rq
from bvverify.model.network import Network
from bvverify.model.staircase import Staircase
from bvverify.model.types import Int64Array, Tensor

MOST_WEIGHTS = 1 << 21
"""Weights of one network that a page holds (as many bytes, for int8)."""


def encode_array(values: Int64Array) -> dict[str, str]:
    """An integer array, flat and row-major, little endian."""
    kinds = ("int8", "uint8", "int16", "int32", "int64")
    lo, hi = int(values.min(initial=0)), int(values.max(initial=0))
    kind = next(k for k in kinds if np.iinfo(k).min <= lo and hi <= np.iinfo(k).max)
    little = np.ascontiguousarray(values, np.dtype(kind).newbyteorder("<"))
    return {"type": kind, "data": base64.b64encode(little.tobytes()).decode()}


def network_data(network: Network) -> dict[str, Any]:
    """The network: ``tensors`` (shape, type and zero point) and ``ops``."""
    left, layers = MOST_WEIGHTS, []
    for op in network.ops:
        size = op.weight.size if isinstance(op, ops.Dense | ops.Conv2d) else 0
        layers.append(_operation(op) if size <= left else {"kind": "omitted", "name": op.name, "omitted": size, "xs": list(ops.inputs(op))})
        left -= size if size <= left else 0
    return {
        "output": network.output.tensor,
        "tensors": [_tensor(t) for t in network.tensors],
        "ops": layers,
    }


def _tensor(t: Tensor) -> dict[str, Any]:
    return {"shape": list(t.shape), "type": str(t.qtype), "zero_point": None if t.quantisation is None else t.quantisation.zero_point}


def _operation(op: ops.Op) -> dict[str, Any]:
    match op:
        case ops.Dense():
            return {"kind": "dense", "name": op.name, "x": op.x} | _layer(op)
        case ops.Conv2d():
            return {"kind": "convolution", "name": op.name, "x": op.x, "window": _window(op.window), "groups": op.groups} | _layer(op)
        case ops.AvgPool(rule=ops.SumThenRequantise() as rule):
            return {
                "kind": "mean",
                "name": op.name,
                "x": op.x,
                "window": _window(op.window),
                "input_zero_point": rule.input_zero_point,
                "accumulator_bits": None,
                "staircase": _staircase(rule.staircase),
            }
        case ops.AvgPool(rule=ops.SequentialFloat32() as rule):
            return {
                "kind": "float mean",
                "name": op.name,
                "x": op.x,
                "window": _window(op.window),
                "input_lo": rule.input_lo,
                "values": [_exact(v) for v in rule.values],
                "output_scale": _exact(np.float32(rule.output_scale)),
                "zero_point": rule.zero_point,
                "count_padding": rule.count_padding,
                "lo": rule.lo,
                "hi": rule.hi,
            }
        case ops.AvgPool():
            raise ValueError(f"{op.name}: an unknown rule")
        case ops.Add():
            return {"kind": "add", "name": op.name, "a": op.a, "b": op.b, "lo": op.lo, "hi": op.hi, "rule": _addition(op.rule)}
        case ops.MaxPool():
            return {"kind": "max", "name": op.name, "x": op.x, "window": _window(op.window)}
        case ops.Clamp():
            return {"kind": "clamp", "name": op.name, "x": op.x, "lo": op.lo, "hi": op.hi}
        case ops.Lookup():
            return {"kind": "table", "name": op.name, "x": op.x, "input_lo": op.input_lo, "table": encode_array(op.table)}
        case ops.Concat():
            return {"kind": "concat", "name": op.name, "xs": list(op.xs), "axis": op.axis}
        case ops.Reshape():
            return {"kind": "reshape", "name": op.name, "x": op.x}
        case ops.Transpose():
            return {"kind": "transpose", "name": op.name, "x": op.x, "axes": list(op.axes)}
        case _:
            assert_never(op)


def _layer(op: ops.Dense | ops.Conv2d) -> dict[str, Any]:
    return {
        "weight": encode_array(op.weight),
        "weight_shape": list(op.weight.shape),
        "weight_zero_point": op.weight_zero_point.tolist(),
        "input_zero_point": op.input_zero_point,
        "bias": op.bias.tolist(),
        "accumulator_bits": op.accumulator_bits,
        "staircase": _staircase(op.staircase),
    }


def _window(window: ops.Window) -> dict[str, Any]:
    return {
        "kernel": list(window.kernel),
        "strides": list(window.strides),
        "padding": list(window.padding),
        "dilations": list(window.dilations),
    }


def _addition(rule: ops.AddRule) -> dict[str, Any]:
    match rule:
        case ops.FmaAdd():
            return {"kind": "fma", "ra": _exact(rule.ra), "rb": _exact(rule.rb), "offset": _exact(rule.offset)}
        case ops.ShiftAdd():
            return {"kind": "shift", "ma": rule.ma, "mb": rule.mb, "bias": rule.bias, "shift": rule.shift, "zero_point": rule.zero_point}
        case ops.Q31Add():
            scaled = {"qa": list(rule.qa), "qb": list(rule.qb), "qo": list(rule.qo)}
            return {"kind": "q31", "za": rule.za, "zb": rule.zb, "zero_point": rule.zero_point, "single": rule.single} | scaled
        case _:
            assert_never(rule)


def _staircase(staircase: Staircase) -> dict[str, Any]:
    return {"lo": staircase.lo, "hi": staircase.hi, "requantisation": requantisation_data(staircase.requant)}


def requantisation_data(requant: rq.Requant) -> list[dict[str, Any]]:
    """One object a channel (one for all where they share it): the rule's name and its stored parameters."""
    if isinstance(requant, rq.ByChannel):
        return [one for part in requant.parts for one in requantisation_data(part)]
    common = {"rule": rq.name(requant), "zero_point": 0 if isinstance(requant, rq.ShiftHalfUp) else requant.zero_point}
    match requant:
        case rq.ShiftHalfUp(shift=shift):
            return [common | {"shift": shift}]
        case rq.Q31Double() | rq.Q31HalfUp() | rq.Q31Single():
            pairs = zip(requant.mantissa.tolist(), requant.shift.tolist(), strict=True)
            return [common | {"mantissa": mantissa, "shift": shift} for mantissa, shift in pairs]
        case rq.Fbgemm(multiplier=multiplier, bias=bias, scale=scale, per_channel=per_channel):
            forms = [common | {"multiplier": _exact(m), "scale": _exact(s)} for m, s in zip(multiplier, scale, strict=True)]
            if bias is not None:
                forms = [form | {"bias": _exact(b), "per_channel": per_channel} for form, b in zip(forms, bias, strict=True)]
            return forms
        case rq.Float32HalfEven() | rq.Qnnpack() | rq.Float64Away():
            return [common | {"multiplier": _exact(m)} for m in requant.multiplier]
        case rq.RationalHalfUp(multiplier=multiplier):
            return [common | {"multiplier": _text(m)} for m in multiplier]
        case _:
            assert_never(requant)


def _exact(value: Any) -> str:
    """A float as the rational that it is."""
    return _text(Fraction(float(value)))


def _text(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"
