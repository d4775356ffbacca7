"""The interpreter's linear parts the other way round: a form over accumulators as forms over what they are sums of.

``sum_i m_i * acc_i(x) = sum_t sum_j form_tj * x_tj + constant`` exactly, for every x. Arrays are int64, or big integers in object arrays
where those would not hold a result (``bvverify.run.exact``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bvverify.model.network import Network
from bvverify.model.ops import Add, AvgPool, Clamp, Conv2d, Dense, Lookup, MaxPool, SumThenRequantise, inputs
from bvverify.run.exact import add, fit, magnitude, product, scale, total


def adjoint(network: Network, index: int, m: Any) -> tuple[list[tuple[int, Any]], Any]:
    """Forms (tensor, (rows, *shape)) and the constant (rows,) of multipliers ``m`` (rows, units) on operation ``index``."""
    op, rows = network.ops[index], len(m)
    shape, out = network.tensors[inputs(op)[0]].shape, network.tensors[index + 1].shape
    match op:
        case Dense(input_zero_point=zero):
            form, constant = product(m, op.centred), product(m, op.bias[:, None])[:, 0]
        case Conv2d(input_zero_point=zero):
            outputs = out[0] // op.groups
            kernel = op.centred.reshape(op.groups, outputs, -1).swapaxes(1, 2)
            parts = product(kernel, m.reshape(rows, op.groups, outputs, -1))
            form = scatter(parts.reshape(rows, shape[0], -1, *out[1:]), op, shape)
            by_channel = total(m.reshape(rows * out[0], -1)).reshape(rows, -1)
            constant = product(by_channel, op.bias[:, None])[:, 0]
        case AvgPool(rule=SumThenRequantise(input_zero_point=zero)):
            positions = op.window.kernel[0] * op.window.kernel[1]
            everywhere = np.broadcast_to(m.reshape(rows, out[0], 1, *out[1:]), (rows, out[0], positions, *out[1:]))
            form, constant = scatter(everywhere, op, shape), np.zeros(rows, np.int64)
        case Clamp() | Lookup():
            form, constant, zero = m, np.zeros(rows, np.int64), 0
        case Add():
            forms = [(t, scale(m, weight).reshape(rows, *shape)) for t, weight in zip((op.a, op.b), op.rule.weights, strict=True)]
            return forms, np.zeros(rows, np.int64)
        case _:
            raise ValueError(f"{op.name} has no linear accumulator")
    return [(op.x, form.reshape(rows, *shape))], add(constant, scale(total(form), -zero))


def windows(x: Any, op: AvgPool | MaxPool | Conv2d, padding: int) -> tuple[Any, Any]:
    """Every window's elements, (rows, C, positions, H', W'), padded with ``padding``; and which of them are inside, (positions, H', W')."""
    window = op.window
    top, left, bottom, right = window.padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=padding)
    inside = np.pad(np.ones(x.shape[2:], bool), ((top, bottom), (left, right)))
    places = [_places(op, k, *window.output(*x.shape[2:])) for k in range(window.kernel[0] * window.kernel[1])]
    return np.stack([padded[:, :, i, j] for i, j in places], axis=2), np.stack([inside[i, j] for i, j in places])


def scatter(parts: Any, op: Conv2d | AvgPool | MaxPool, shape: tuple[int, ...]) -> Any:
    """The sum over windows of what each adds to each element: (rows, C, positions, H', W') to (rows, *shape); padding is dropped."""
    channels, height, width = shape
    top, left, bottom, right = op.window.padding
    parts = fit(magnitude(parts) * parts.shape[2], parts)[0]
    target = np.zeros((len(parts), channels, height + top + bottom, width + left + right), parts.dtype)
    for k in range(parts.shape[2]):
        i, j = _places(op, k, *parts.shape[3:])
        target[:, :, i, j] += parts[:, :, k]
    return target[:, :, top : top + height, left : left + width]


def _places(op: Conv2d | AvgPool | MaxPool, position: int, rows: int, columns: int) -> tuple[slice, slice]:
    """The padded image's rows and columns that one position of every window covers."""
    starts = divmod(position, op.window.kernel[1])
    sizes = zip(starts, op.window.dilations, (rows, columns), op.window.strides, strict=True)
    i, j = (slice(k * d, k * d + (n - 1) * s + 1, s) for k, d, n, s in sizes)
    return i, j
