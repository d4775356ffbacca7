"""The accumulators of every unit for concrete inputs: the plain definition that the certificates' units have."""

import numpy as np

from bvverify.model.certificate import INPUT
from bvverify.model.ops import Add, AvgPool, Clamp, Conv2d, Dense, Lookup, MaxPool, SumThenRequantise
from bvverify.run import interpreter


def accumulators(network, tensors):
    """By operation (and INPUT): int64 (batch, units)."""
    out = {INPUT: tensors[0].reshape(len(tensors[0]), -1)}
    for index, op in enumerate(network.ops):
        acc = _of(network, op, tensors)
        if acc is not None:
            out[index] = acc.reshape(len(acc), -1)
    return out


def _of(network, op, tensors):
    match op:
        case Dense() | Conv2d():
            return interpreter.accumulate(op, tensors[op.x])
        case Add():
            a, b = op.rule.weights
            return a * tensors[op.a] + b * tensors[op.b]
        case Clamp() | Lookup():
            return tensors[op.x]
        case AvgPool(rule=SumThenRequantise(input_zero_point=zero)):
            return np.stack([patch.sum(axis=-1) for patch in _patches(op, tensors[op.x] - zero, 0)], axis=-1)
        case MaxPool():
            steps = []
            for patch in _patches(op, tensors[op.x], network.tensors[op.x].qtype.lo):
                so_far = np.maximum.accumulate(patch, axis=-1)
                steps.append(patch[..., 1:] - so_far[..., :-1])  # (batch, channels, steps)
            return np.stack(steps, axis=-1).swapaxes(1, 2)  # (batch, steps, channels, windows)
    return None


def _patches(op, x, padding):
    """The elements of each window in turn, (batch, channels, elements), one position of the output after the other."""
    window, (height, width) = op.window, x.shape[2:]
    top, left = window.padding[:2]
    rows, columns = window.output(height, width)
    for i in range(rows):
        for j in range(columns):
            elements = []
            for u in range(window.kernel[0]):
                for v in range(window.kernel[1]):
                    r, s = i * window.strides[0] + u - top, j * window.strides[1] + v - left
                    inside = 0 <= r < height and 0 <= s < width
                    elements.append(x[:, :, r, s] if inside else np.full(x.shape[:2], padding))
            yield np.stack(elements, axis=-1)
