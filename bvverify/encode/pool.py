"""Pooling over windows of (C, H, W): maxima, integer means, and the float32 mean of ONNX Runtime in the theory of floating point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, assert_never

import numpy as np
import z3

from bvverify.encode.staircase import requantise
from bvverify.encode.values import Value, const, maximum, narrowed, weighted_sum
from bvverify.model.ops import AvgPool, MaxPool, SequentialFloat32, SumThenRequantise, Window
from bvverify.model.types import AnyArray


def max_pool(op: MaxPool, x: AnyArray) -> AnyArray:
    """The largest value inside the image."""
    out = _empty(op.window, x)
    for index, values in _windows(op.window, x):
        out[index] = maximum(values)
    return out


def avg_pool(op: AvgPool, x: AnyArray) -> AnyArray:
    """The mean by its rule."""
    out = _empty(op.window, x)
    for index, values in _windows(op.window, x):
        match op.rule:
            case SumThenRequantise(input_zero_point=zero, staircase=staircase):
                offset = -zero * len(values)
                lo, hi = sum(v.lo for v in values) + offset, sum(v.hi for v in values) + offset
                out[index] = requantise(staircase, index[0], weighted_sum([1] * len(values), values, offset, lo, hi))
            case SequentialFloat32():
                out[index] = _float_mean(op.rule, values, op.window)
            case _:
                assert_never(op.rule)
    return out


def _float_mean(rule: SequentialFloat32, values: list[Value], window: Window) -> Value:
    """Float32 additions in the runtime's order (a padded position adds nothing), the division, the scale, the rounding."""
    count = window.kernel[0] * window.kernel[1] if rule.count_padding else len(values)
    ends = [_concrete(rule, [v.lo for v in values], count), _concrete(rule, [v.hi for v in values], count)]
    if ends[0] == ends[1]:
        return const(ends[0])  # non-decreasing in every input
    mode, sort = z3.RNE(), z3.Float32()
    total: Any = z3.FPVal(0.0, sort)
    for value in values:
        total = z3.fpAdd(mode, total, _dequantised(rule, value))
    mean = z3.fpDiv(mode, total, z3.FPVal(float(count), sort))
    scaled = z3.fpDiv(mode, mean, z3.FPVal(float(rule.output_scale), sort))
    shifted = z3.fpAdd(mode, scaled, z3.FPVal(float(rule.zero_point), sort))
    lo, hi = (z3.FPVal(float(v), sort) for v in (rule.lo, rule.hi))
    clamped = z3.If(z3.fpLT(shifted, lo), lo, z3.If(z3.fpGT(shifted, hi), hi, shifted))
    bits = max(rule.hi.bit_length(), (~rule.lo).bit_length() if rule.lo < 0 else 0) + 2
    return narrowed(z3.fpToSBV(mode, clamped, z3.BitVecSort(bits)), ends[0], ends[1])


def _dequantised(rule: SequentialFloat32, value: Value) -> Any:
    """``fl((q - z) * s)`` from its table: comparisons over the values that occur."""
    sort = z3.Float32()

    def tree(first: int, last: int) -> Any:
        if first == last:
            return z3.FPVal(float(rule.values[first - rule.input_lo]), sort)
        middle = (first + last + 1) // 2
        return z3.If(value.term >= z3.BitVecVal(middle, value.term.size()), tree(middle, last), tree(first, middle - 1))

    return tree(value.lo, value.hi)


def _concrete(rule: SequentialFloat32, q: list[int], count: int) -> int:
    total = np.float32(0)
    for v in q:
        total = total + rule.values[v - rule.input_lo]
    shifted = total / np.float32(count) / np.float32(rule.output_scale) + np.float32(rule.zero_point)
    return int(np.clip(np.rint(shifted), rule.lo, rule.hi))


def _empty(window: Window, x: AnyArray) -> AnyArray:
    return np.empty((x.shape[0], *window.output(x.shape[1], x.shape[2])), object)


def _windows(window: Window, x: AnyArray) -> Iterator[tuple[tuple[int, int, int], list[Value]]]:
    """Every position with the values of its window that lie inside the image, in row-major order."""
    channels, height, width = x.shape
    top, left = window.padding[:2]
    for c, i, j in np.ndindex(channels, *window.output(height, width)):
        values = []
        for u, v in np.ndindex(*window.kernel):
            r = i * window.strides[0] - top + u * window.dilations[0]
            s = j * window.strides[1] - left + v * window.dilations[1]
            if 0 <= r < height and 0 <= s < width:
                values.append(x[c, r, s])
        yield (c, i, j), values
