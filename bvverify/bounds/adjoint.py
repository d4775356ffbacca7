"""Adjoints: a linear form over the results of a linear map, as one over its inputs. Exact integers."""

from __future__ import annotations

from typing import assert_never

import numpy as np

from bvverify.bounds.forms import product
from bvverify.model.ops import AvgPool, Conv2d, Dense, MaxPool
from bvverify.model.types import Int64Array


def adjoint(op: Dense | Conv2d, multiplier: Int64Array, shape: tuple[int, ...]) -> tuple[Int64Array, Int64Array]:
    """A form over accumulators (rows, *output shape) as one over the layer's input (rows, *shape), and its constant (rows,).

    The constant is the bias minus what the input's zero point takes away, exactly.
    """
    rows = len(multiplier)
    match op:
        case Dense():
            coefficients = product(multiplier, op.centred)
            constant = product(multiplier, op.bias[:, None])[:, 0]
        case Conv2d():
            outputs, per_group = op.centred.shape[:2]
            grouped = multiplier.reshape(rows, op.groups, outputs // op.groups, -1)
            kernel = op.centred.reshape(op.groups, outputs // op.groups, -1).transpose(0, 2, 1)
            # (rows, groups, channels of a group x kernel, positions)
            unfolded = product(kernel, grouped).reshape(rows, op.groups * per_group, -1, *multiplier.shape[2:])
            coefficients = np.zeros((rows, *shape), np.int64)
            width = op.window.kernel[1]
            for position in range(unfolded.shape[2]):
                add_at_position(coefficients, unfolded[:, :, position], op, divmod(position, width))
            constant = product(multiplier.sum(axis=(2, 3)), op.bias[:, None])[:, 0]
        case _:
            assert_never(op)
    return coefficients, constant - op.input_zero_point * coefficients.reshape(rows, -1).sum(axis=1)


def spread_windows(op: AvgPool, multiplier: Int64Array, shape: tuple[int, ...]) -> Int64Array:
    """A form over the sums of windows as one over the elements."""
    coefficients = np.zeros((len(multiplier), *shape), np.int64)
    height, width = op.window.kernel
    for position in range(height * width):
        add_at_position(coefficients, multiplier, op, divmod(position, width))
    return coefficients


def add_at_position(target: Int64Array, part: Int64Array, op: Conv2d | AvgPool | MaxPool, position: tuple[int, int]) -> None:
    """Add ``part`` (rows, C, H', W') to the elements of ``target`` (rows, C, H, W) that one position of every window covers."""
    window = op.window
    top, left = window.padding[:2]
    starts = (position[0] * window.dilations[0] - top, position[1] * window.dilations[1] - left)
    source, goal = [], []
    for axis, start in enumerate(starts):
        stride, count, size = window.strides[axis], part.shape[axis + 2], target.shape[axis + 2]
        first = max(0, -(start // stride)) if start < 0 else 0
        end = min(count, (size - 1 - start) // stride + 1)
        if end <= first:
            return
        source.append(slice(first, end))
        goal.append(slice(start + first * stride, start + (end - 1) * stride + 1, stride))
    target[:, :, goal[0], goal[1]] += part[:, :, source[0], source[1]]
