"""Dense layers and convolutions: an exact sum of products, wrapped where it may leave its width, through the staircase."""

from __future__ import annotations

from typing import Any

import numpy as np
import z3

from bvverify.encode.staircase import requantise, wrapped
from bvverify.encode.values import Value, weighted_sum, width
from bvverify.model.ops import Conv2d, Dense
from bvverify.model.types import AnyArray, Int64Array

Side = list[Any] | None
"""Receives the conditions under which accumulators stay in their ranges, where those do not follow from the box alone."""


def dense(op: Dense, x: AnyArray, acc_lo: Int64Array, acc_hi: Int64Array, side: Side = None) -> AnyArray:
    """``y_i = staircase_i(sum_j centred_ij (x_j - z) + bias_i)``; ``x`` and the result are flat object arrays of ``Value``."""
    out = np.empty(len(op.weight), object)
    for i, row in enumerate(op.centred.tolist()):
        out[i] = _neuron(op, i, row, list(x), int(op.bias[i]), int(acc_lo[i]), int(acc_hi[i]), side)
    return out


def conv2d(op: Conv2d, x: AnyArray, acc_lo: Int64Array, acc_hi: Int64Array, side: Side = None) -> AnyArray:
    """The same for every position of the window; a padded position adds nothing."""
    channels, height, width = x.shape
    outputs, rows, columns = acc_lo.shape
    per_group, per_output = channels // op.groups, outputs // op.groups
    top, left = op.window.padding[:2]
    out: Any = np.empty((outputs, rows, columns), object)
    for o, i, j in np.ndindex(outputs, rows, columns):
        weights, values = [], []
        for c, u, v in np.ndindex(per_group, *op.window.kernel):
            r = i * op.window.strides[0] - top + u * op.window.dilations[0]
            s = j * op.window.strides[1] - left + v * op.window.dilations[1]
            if 0 <= r < height and 0 <= s < width:
                weights.append(int(op.centred[o, c, u, v]))
                values.append(x[o // per_output * per_group + c, r, s])
        out[o, i, j] = _neuron(op, o, weights, values, int(op.bias[o]), int(acc_lo[o, i, j]), int(acc_hi[o, i, j]), side)
    return out


def _neuron(op: Dense | Conv2d, channel: int, weights: list[int], xs: list[Value], bias: int, lo: int, hi: int, side: Side) -> Value:
    offset = bias - op.input_zero_point * sum(weights)
    if side is not None:
        least = offset + sum(min(w * x.lo, w * x.hi) for w, x in zip(weights, xs, strict=True))
        most = offset + sum(max(w * x.lo, w * x.hi) for w, x in zip(weights, xs, strict=True))
        if least < lo or hi < most:
            # At a width that no value leaves: the narrow term below would wrap where the condition fails.
            whole, bits = weighted_sum(weights, xs, offset, least, most), width(least, most)
            side += [whole.term >= z3.BitVecVal(lo, bits), whole.term <= z3.BitVecVal(hi, bits)]
    acc = weighted_sum(weights, xs, offset, lo, hi)
    return requantise(op.staircase, channel, wrapped(acc, op.accumulator_bits))
