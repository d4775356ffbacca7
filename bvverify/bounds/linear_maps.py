"""The linear part of each operation in batched torch: from values of its inputs to accumulators, and its adjoint.

Values are flat, (rows, kept elements), and relative to a reference point of the box, so that biases, zero points and padding drop out.
Dense layers keep only elements that vary within the box (``keep``); convolutions run as convolutions over all elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np
import torch
from torch.nn.grad import conv2d_input

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
    Op,
    Reshape,
    Transpose,
    Window,
    inputs,
)
from bvverify.model.types import Int64Array

Tensor = torch.Tensor


def kept(network: Network, lo: list[Int64Array], hi: list[Int64Array]) -> list[Int64Array]:
    """The elements (flat indices) of each tensor that take part: those that vary, where only dense layers read and make them."""
    count = len(network.tensors)
    free = [True] + [isinstance(op, Dense | Reshape) for op in network.ops]
    for op in network.ops:
        if not isinstance(op, Dense | Reshape):
            for t in inputs(op):
                free[t] = False
    # A reshape passes its elements on: both sides keep the same ones, or all.
    for _ in range(count):
        for index, op in enumerate(network.ops):
            if isinstance(op, Reshape):
                free[op.x] = free[index + 1] = free[op.x] and free[index + 1]
    varies = [np.flatnonzero(a.ravel() < b.ravel()) for a, b in zip(lo, hi, strict=True)]
    return [varies[t] if free[t] else np.arange(lo[t].size) for t in range(count)]


@dataclass(frozen=True, slots=True, eq=False)
class DenseMap:
    """A matrix (kept outputs, kept inputs)."""

    weight: Tensor

    def forward(self, xs: list[Tensor]) -> Tensor:
        """Accumulators of values."""
        return xs[0] @ self.weight.T

    def backward(self, m: Tensor) -> list[Tensor]:
        """A form over accumulators as forms over the inputs."""
        return [m @ self.weight]


@dataclass(frozen=True, slots=True, eq=False)
class ConvMap:
    """A convolution; an integer mean is one with a weight of ones, channel by channel.

    Its adjoint is a convolution, too: one of stride 1 that makes all ``strides`` phases of the input as channels of their own (Shi et al.,
    2016, "sub-pixel convolution"). Four to six times as fast as torch's own transposed convolution on one core.
    """

    weight: Tensor
    window: Window
    groups: int
    shape: tuple[int, ...]
    phases: Tensor | None
    """(channels x phases, outputs a group, kernel / stride rounded up); None for dilated windows."""

    @staticmethod
    def of(weight: Tensor, window: Window, groups: int, shape: tuple[int, ...]) -> ConvMap:
        """With the adjoint prepared."""
        if window.dilations != (1, 1):
            return ConvMap(weight, window, groups, shape, None)
        (rows, columns), (outputs, per_group) = window.strides, weight.shape[:2]
        reach = -(-weight.shape[2] // rows), -(-weight.shape[3] // columns)
        grouped = weight.reshape(groups, outputs // groups, *weight.shape[1:])
        phases = weight.new_zeros(groups, per_group, rows, columns, outputs // groups, *reach)
        for i in range(rows):
            for j in range(columns):
                part = grouped[..., i::rows, j::columns].flip(3, 4).transpose(1, 2)
                phases[:, :, i, j, :, reach[0] - part.shape[3] :, reach[1] - part.shape[4] :] = part
        return ConvMap(weight, window, groups, shape, phases.flatten(0, 3))

    def forward(self, xs: list[Tensor]) -> Tensor:
        """Accumulators of values."""
        top, left, bottom, right = self.window.padding
        x = torch.nn.functional.pad(xs[0].reshape(-1, *self.shape), (left, right, top, bottom))
        window = self.window
        return torch.nn.functional.conv2d(x, self.weight, None, window.strides, 0, window.dilations, self.groups).flatten(1)

    def backward(self, m: Tensor) -> list[Tensor]:
        """A form over accumulators as forms over the inputs."""
        top, left, bottom, right = self.window.padding
        channels, height, width = self.shape
        padded = (len(m), channels, height + top + bottom, width + left + right)
        out = m.reshape(len(m), len(self.weight), *self.window.output(height, width))
        window = self.window
        if self.phases is None:
            x = conv2d_input(  # type: ignore[no-untyped-call]
                padded, self.weight, out, window.strides, 0, window.dilations, self.groups
            )
        else:
            reach, (rows, columns) = self.phases.shape[2:], window.strides
            y = torch.nn.functional.conv2d(out, self.phases, None, 1, (reach[0] - 1, reach[1] - 1), 1, self.groups)
            y = y.reshape(len(m), channels, rows, columns, *y.shape[2:]).permute(0, 1, 4, 2, 5, 3)
            x = y.reshape(len(m), channels, rows * y.shape[2], columns * y.shape[4])
            # What no window reaches, at the lower and the right end.
            x = torch.nn.functional.pad(x, (0, max(padded[3] - x.shape[3], 0), 0, max(padded[2] - x.shape[2], 0)))
        return [x[:, :, top : top + height, left : left + width].flatten(1)]


@dataclass(frozen=True, slots=True)
class SumMap:
    """The accumulator of a residual add: a weighted sum of two tensors; with one weight of 1, the tensor itself."""

    weights: tuple[int, ...]

    def forward(self, xs: list[Tensor]) -> Tensor:
        """Accumulators of values."""
        total = xs[0] * self.weights[0]
        for x, weight in zip(xs[1:], self.weights[1:], strict=True):
            total = total + x * weight
        return total

    def backward(self, m: Tensor) -> list[Tensor]:
        """A form over accumulators as forms over the inputs."""
        return [m * weight for weight in self.weights]


@dataclass(frozen=True, slots=True, eq=False)
class MoveMap:
    """Elements moved, not changed: ``sources`` (for each input) are the places in the result that its elements go to."""

    places: tuple[Tensor, ...]
    size: int

    def forward(self, xs: list[Tensor]) -> Tensor:
        """The result of values."""
        out = xs[0].new_zeros(len(xs[0]), self.size)
        for x, place in zip(xs, self.places, strict=True):
            out[:, place] = x
        return out

    def backward(self, m: Tensor) -> list[Tensor]:
        """A form over the result as forms over the inputs."""
        return [m[:, place] for place in self.places]


@dataclass(frozen=True, slots=True)
class SameMap:
    """A reshape: flat, nothing moves."""

    def forward(self, xs: list[Tensor]) -> Tensor:
        """The result of values."""
        return xs[0]

    def backward(self, m: Tensor) -> list[Tensor]:
        """A form over the result as forms over the inputs."""
        return [m]


LinearMap = DenseMap | ConvMap | SumMap | MoveMap | SameMap


def linear_map(network: Network, index: int, keep: list[Int64Array], dtype: torch.dtype) -> LinearMap | None:
    """The linear part of operation ``index``; None where it has none (a maximum has its own: ``positions``)."""
    op = network.ops[index]
    shape, out = network.tensors[inputs(op)[0]].shape, network.tensors[index + 1].shape
    match op:
        case Dense():
            return DenseMap(torch.tensor(op.centred[np.ix_(keep[index + 1], keep[op.x])], dtype=dtype))
        case Conv2d():
            return ConvMap.of(torch.tensor(op.centred, dtype=dtype), op.window, op.groups, shape)
        case AvgPool():
            return ConvMap.of(torch.ones((shape[0], 1, *op.window.kernel), dtype=dtype), op.window, shape[0], shape)
        case Add():
            return SumMap(op.rule.weights)
        case Clamp() | Lookup():
            return SumMap((1,))
        case Reshape():
            return SameMap()
        case Transpose():
            places = np.arange(int(np.prod(out))).reshape(out).transpose(np.argsort(op.axes)).ravel()
            return MoveMap((torch.from_numpy(places.copy()),), len(places))
        case Concat():
            ends = np.cumsum([network.tensors[t].shape[op.axis] for t in op.xs])[:-1]
            parts = np.split(np.arange(int(np.prod(out))).reshape(out), ends, axis=op.axis)
            return MoveMap(tuple(torch.from_numpy(p.ravel().copy()) for p in parts), int(np.prod(out)))
        case MaxPool():
            return None
        case _:
            assert_never(op)


def positions(op: MaxPool, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """For each position of the window and each window the element (flat), int64 (positions, windows), and whether it is inside."""
    channels, height, width = shape
    rows, columns = op.window.output(height, width)
    top, left = op.window.padding[:2]
    index, inside = [], []
    for i in range(op.window.kernel[0]):
        for j in range(op.window.kernel[1]):
            y = np.arange(rows) * op.window.strides[0] + i * op.window.dilations[0] - top
            x = np.arange(columns) * op.window.strides[1] + j * op.window.dilations[1] - left
            ok = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))[None]
            at = np.clip(y, 0, height - 1)[:, None] * width + np.clip(x, 0, width - 1)[None]
            index.append((np.arange(channels)[:, None, None] * height * width + at).ravel())
            inside.append(np.broadcast_to(ok, (channels, rows, columns)).ravel())
    return torch.from_numpy(np.stack(index)), torch.from_numpy(np.stack(inside))


def has_accumulator(op: Op) -> bool:
    """Whether an operation's accumulator can be bounded on its own (``bvverify.model.certificate.Tightening``)."""
    return isinstance(op, Dense | Conv2d)
