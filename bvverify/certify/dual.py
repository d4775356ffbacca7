"""Weak duality: a lower bound of linear forms over a network, for any multipliers, in exact integers.

Walk the network backwards with coefficients c on each tensor. At a step function ``z`` of the accumulator ``a``, with multiplier m,

    c * z  >=  m * a + least (c * z - m * a) over the step function on the accumulator's range,

and ``m * a`` is again a linear form over earlier tensors, the accumulator being linear in them. What reaches the input is least at a
corner of its range. Every ``>=`` holds for every m, so that nothing here depends on where the multipliers came from.
"""

from __future__ import annotations

from typing import Any, assert_never

import numpy as np

from bvverify.certify.exact import add, fit, magnitude, product, scale, total
from bvverify.certify.ranges import Frame, Ranges, windows
from bvverify.certify.steps import least_on_steps, least_on_table
from bvverify.model.certificate import Multipliers
from bvverify.model.network import Network
from bvverify.model.ops import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv2d,
    Dense,
    Lookup,
    MaxPool,
    Reshape,
    Transpose,
    inputs,
)

Scaled = tuple[Any, int]
"""Integers times ``2^-exponent``."""


class Dual:
    """A bound under way: forms still to be bounded by tensor, (rows, *shape), and the constant so far, (rows,)."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.forms: dict[int, Scaled] = {}
        self.constant: Scaled = (np.zeros(rows, object), 0)

    def add_constant(self, values: Any, exponent: int) -> None:
        """Add ``values * 2^-exponent`` (rows,) to the bound."""
        self.constant = _sum(self.constant, (np.broadcast_to(values, (self.rows,)).astype(object), exponent))

    def add_form(self, tensor: int, form: Any, exponent: int) -> None:
        """Add a form over a tensor to what is to be bounded."""
        before = self.forms.get(tensor)
        self.forms[tensor] = (form, exponent) if before is None else _sum(before, (form, exponent))

    def push(self, network: Network, index: int, m: Any, exponent: int) -> None:
        """Turn multipliers on the accumulators of operation ``index`` (rows, units) into forms over its inputs."""
        op = network.ops[index]
        x = inputs(op)[0]
        shape, out = network.tensors[x].shape, network.tensors[index + 1].shape
        match op:
            case Dense():
                form, bias = product(m, op.centred), product(m, op.bias[:, None])[:, 0]
            case Conv2d():
                form, bias = _through_windows(op, m, shape, out), product(total_by_channel(m, out), op.bias[:, None])[:, 0]
            case AvgPool():
                everywhere = np.broadcast_to(
                    m.reshape(self.rows, out[0], 1, *out[1:]), (self.rows, out[0], op.window.kernel[0] * op.window.kernel[1], *out[1:])
                )
                form, bias = scatter(everywhere, op, shape), np.zeros(self.rows, np.int64)
            case Clamp() | Lookup():
                self.add_form(x, m.reshape(self.rows, *shape), exponent)
                return
            case Add():
                for tensor, weight in zip((op.a, op.b), op.rule.weights, strict=True):
                    self.add_form(tensor, scale(m, weight).reshape(self.rows, *shape), exponent)
                return
            case _:
                raise ValueError(f"{op.name} has no linear accumulator")
        zero = op.rule.input_zero_point if isinstance(op, AvgPool) else op.input_zero_point  # type: ignore[union-attr]
        self.add_form(x, form.reshape(self.rows, *shape), exponent)
        self.add_constant(add(bias, scale(total(form), -zero)), exponent)


def lower(frame: Frame, ranges: Ranges, dual: Dual, multipliers: Multipliers) -> Scaled:
    """The bound of everything in ``dual``, (rows,) big integers times ``2^-exponent``; ``ranges`` have as many rows, or one."""
    network = frame.network
    for tensor in range(len(network.ops), 0, -1):
        if tensor in dual.forms:
            _back(frame, ranges, dual, tensor - 1, *dual.forms.pop(tensor), multipliers)
    if 0 in dual.forms:
        dual.add_constant(*_least_in_range(*dual.forms.pop(0), ranges.lo[0], ranges.hi[0]))
    return dual.constant


def _back(frame: Frame, ranges: Ranges, dual: Dual, index: int, c: Any, exponent: int, multipliers: Multipliers) -> None:
    """Take the form ``c`` off the result of operation ``index``."""
    network, op = frame.network, frame.network.ops[index]
    shapes = [network.tensors[t].shape for t in inputs(op)]
    match op:
        case Concat():
            ends = np.cumsum([shape[op.axis] for shape in shapes])[:-1]
            for tensor, part in zip(op.xs, np.split(c, ends, axis=op.axis + 1), strict=True):
                dual.add_form(tensor, part, exponent)
        case Reshape():
            dual.add_form(op.x, c.reshape(dual.rows, *shapes[0]), exponent)
        case Transpose():
            dual.add_form(op.x, c.transpose(0, *(int(a) + 1 for a in np.argsort(op.axes))), exponent)
        case MaxPool():
            _back_through_max(frame, ranges, dual, index, c, exponent, multipliers)
        case Dense() | Conv2d() | Add() | AvgPool() | Clamp() | Lookup():
            steps = frame.steps[index]
            if index in ranges.opaque or (steps is None and not isinstance(op, Lookup)):
                dual.add_constant(*_least_in_range(c, exponent, ranges.lo[index + 1], ranges.hi[index + 1]))
                return
            m, m_exponent = _multiplier(multipliers, index, c.reshape(dual.rows, -1).shape)
            (c2, common), (m2, _) = _common((c.reshape(dual.rows, -1), exponent), (m, m_exponent))
            if isinstance(op, Lookup):
                least = least_on_table(op, c2, m2, *ranges.acc[index])
            else:
                assert steps is not None
                least = least_on_steps(steps, c2, m2, *ranges.acc[index], network.tensors[index + 1].shape)
            dual.add_constant(total(least), common)
            if m.any():
                dual.push(network, index, m, m_exponent)
        case _:
            assert_never(op)


def _back_through_max(frame: Frame, ranges: Ranges, dual: Dual, index: int, c: Any, exponent: int, multipliers: Multipliers) -> None:
    """``m_k = m_(k-1) + max(0, x_k - m_(k-1))``, from the last position of the window to the first."""
    op, out = frame.network.ops[index], frame.network.tensors[index + 1].shape
    assert isinstance(op, MaxPool)
    positions, size = op.window.kernel[0] * op.window.kernel[1], int(np.prod(out))
    steps = frame.steps[index]
    assert steps is not None
    low, high = ranges.acc[index]
    values, m_exponent = _multiplier(multipliers, index, (dual.rows, (positions - 1) * size))
    (c, common), (values, _) = _common((c.reshape(dual.rows, -1), exponent), (values, m_exponent))
    parts = []
    for k in range(positions - 1, 0, -1):
        at = slice((k - 1) * size, k * size)
        m = values[:, at]
        dual.add_constant(total(least_on_steps(steps, c, m, low[:, at], high[:, at], out)), common)
        parts.append(m)
        c = add(c, -m)
    everything = np.stack([c, *parts[::-1]], axis=1).reshape(dual.rows, positions, *out).swapaxes(1, 2)
    x = frame.network.tensors[op.x]
    _, inside = windows(np.zeros((1, 1, *x.shape[1:]), np.int64), op, 0)
    # A padded position holds the type's least value.
    dual.add_constant(scale(total(np.where(inside, 0, everything)), x.qtype.lo), common)
    dual.add_form(op.x, scatter(np.where(inside, everything, 0), op, x.shape), common)


def _multiplier(multipliers: Multipliers, index: int, shape: tuple[int, ...]) -> Scaled:
    if index not in multipliers.values:
        return np.zeros(shape, np.int64), 0
    return multipliers.values[index], multipliers.exponents[index]


def _least_in_range(c: Any, exponent: int, lo: Any, hi: Any) -> Scaled:
    """The least ``c * x`` over the ranges: (rows,)."""
    c = fit(magnitude(c) * max(magnitude(lo), magnitude(hi)), c)[0]
    return total(np.minimum(c * lo, c * hi)), exponent


def _through_windows(op: Conv2d, m: Any, shape: tuple[int, ...], out: tuple[int, ...]) -> Any:
    """The adjoint of a convolution, group by group."""
    rows, outputs = len(m), out[0] // op.groups
    grouped = m.reshape(rows, op.groups, outputs, -1)
    kernel = op.centred.reshape(op.groups, outputs, -1).swapaxes(1, 2)
    parts = product(kernel, grouped)
    return scatter(parts.reshape(rows, shape[0], -1, *out[1:]), op, shape)


def scatter(parts: Any, op: Conv2d | AvgPool | MaxPool, shape: tuple[int, ...]) -> Any:
    """The sum over windows of what each adds to each element: (rows, C, positions, H', W') to (rows, *shape)."""
    window, (channels, height, width) = op.window, shape
    top, left, bottom, right = window.padding
    parts = fit(magnitude(parts) * parts.shape[2], parts)[0]
    target = np.zeros((len(parts), channels, height + top + bottom, width + left + right), parts.dtype)
    for position in range(parts.shape[2]):
        i, j = divmod(position, window.kernel[1])
        i, j = i * window.dilations[0], j * window.dilations[1]
        end_i, end_j = i + (parts.shape[3] - 1) * window.strides[0] + 1, j + (parts.shape[4] - 1) * window.strides[1] + 1
        target[:, :, i : end_i : window.strides[0], j : end_j : window.strides[1]] += parts[:, :, position]
    return target[:, :, top : top + height, left : left + width]


def total_by_channel(m: Any, out: tuple[int, ...]) -> Any:
    """Sums over the positions of each channel: (rows, C)."""
    by_channel = m.reshape(len(m), out[0], -1)
    return fit(magnitude(m) * by_channel.shape[2], by_channel)[0].sum(axis=2)


def _common(a: Scaled, b: Scaled) -> tuple[Scaled, Scaled]:
    exponent = max(a[1], b[1])
    return (scale(a[0], 1 << (exponent - a[1])), exponent), (scale(b[0], 1 << (exponent - b[1])), exponent)


def _sum(a: Scaled, b: Scaled) -> Scaled:
    (x, exponent), (y, _) = _common(a, b)
    return add(x, y), exponent
