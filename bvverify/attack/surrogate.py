"""A differentiable stand-in of a network: float32 torch, rounding replaced by the identity in the backward pass.

Straight-through estimator (Bengio, Leonard, Courville, 2013): the forward pass rounds and clamps (nearly) as the network does, the
gradient is that of the line that the staircase follows, with a small slope left where it saturates, so that a neuron that is
stuck can come back. Nothing here is exact and nothing has to be: what an attack finds is replayed by the interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np
import torch
import torch.nn.functional as functional

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
    SequentialFloat32,
    SumThenRequantise,
    Transpose,
    Window,
    inputs,
)
from bvverify.model.staircase import Staircase

LEAK = 0.05


@dataclass(frozen=True, slots=True)
class Ramp:
    """The line that a staircase follows: ``z ~ lo + (a - start) / step`` rounded down, clamped to ``[lo, hi]``."""

    start: torch.Tensor
    step: torch.Tensor
    lo: float
    hi: float

    @staticmethod
    def of(staircase: Staircase) -> Ramp:
        """The line through the first and the last threshold of each channel; ``start`` is one step before the first."""
        t = staircase.thresholds.astype(np.float64)
        levels = t.shape[1]
        if levels == 0:
            return Ramp(torch.zeros(1), torch.ones(1), float(staircase.lo), float(staircase.hi))
        step = (t[:, -1] - t[:, 0]) / max(levels - 1, 1) if levels > 1 else np.ones(len(t))
        step = np.maximum(step, 1e-6)
        start = t[:, 0] - step
        return Ramp(
            torch.tensor(start, dtype=torch.float32), torch.tensor(step, dtype=torch.float32), float(staircase.lo), float(staircase.hi)
        )

    def line(self, a: torch.Tensor) -> torch.Tensor:
        """The unrounded output of accumulators (batch, channels, ...): the staircase is its floor, clamped."""
        shape = (-1,) + (1,) * (a.dim() - 2)
        return ((a - self.start.reshape(shape)) / self.step.reshape(shape)).add_(self.lo)

    def both(self, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The staircase forward, the leaky line backward; and the line."""
        line = self.line(a)
        return straight_through(line, line.floor(), self.lo, self.hi), line


def straight_through(line: torch.Tensor, rounded: torch.Tensor, lo: float, hi: float) -> torch.Tensor:
    """``clamp(rounded)`` forward; backward the gradient of ``clamp(line)`` with slope ``LEAK`` outside."""
    if not line.requires_grad:
        return rounded.clamp(lo, hi)
    inside = line.clamp(lo, hi)
    leaky = inside + LEAK * (line - inside)
    return leaky + (rounded.clamp(lo, hi) - leaky).detach()


class Surrogate:
    """The network as a torch function of a float batch (batch, *input shape); weights are converted once."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._weights: dict[int, torch.Tensor] = {}
        self._biases: dict[int, torch.Tensor] = {}
        self._ramps: dict[int, Ramp] = {}
        self._tables: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        for index, op in enumerate(network.ops):
            self._prepare(index, op)

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The outputs, both flattened to (batch, outputs): unrounded and unclamped (smooth), and as the network would give them."""
        tensors = [x]
        smooth = x
        for index, op in enumerate(self.network.ops):
            value, line = self._step(index, op, [tensors[i] for i in inputs(op)])
            tensors.append(value)
            if index + 1 == self.network.output.tensor:
                smooth = line
        return smooth.flatten(1), tensors[self.network.output.tensor].flatten(1)

    def first_dense(self) -> int | None:
        """The dense operation that alone reads the input (through reshapes), if there is one: its accumulator moves by a column a move."""
        tensor = 0
        while True:
            readers = [i for i, op in enumerate(self.network.ops) if tensor in inputs(op)]
            if len(readers) != 1 or tensor == self.network.output.tensor:
                return None
            match self.network.ops[readers[0]]:
                case Reshape():
                    tensor = readers[0] + 1
                case Dense():
                    return readers[0]
                case _:
                    return None

    def accumulate(self, index: int, x: torch.Tensor) -> torch.Tensor:
        """The accumulator of dense operation ``index`` for its flat inputs (batch, inputs)."""
        op = self.network.ops[index]
        assert isinstance(op, Dense)
        return functional.linear(x - op.input_zero_point, self._weights[index], self._biases[index])

    def columns(self, index: int) -> torch.Tensor:
        """What each input element adds to the accumulators of dense operation ``index``: (inputs, outputs)."""
        return self._weights[index].T

    def after(self, index: int, acc: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As a call, from the accumulator of dense operation ``index`` on; no gradient passes."""
        network, ramp = self.network, self._ramps[index]
        line = ramp.line(acc)
        tensors = {index + 1: line.floor().clamp(ramp.lo, ramp.hi)}
        smooth = line
        for later, op in enumerate(network.ops[index + 1 :], index + 1):
            tensors[later + 1], line = self._step(later, op, [tensors[i] for i in inputs(op)])
            if later + 1 == network.output.tensor:
                smooth = line
        return smooth.flatten(1), tensors[network.output.tensor].flatten(1)

    def _prepare(self, index: int, op: Op) -> None:
        match op:
            case Dense() | Conv2d():
                self._weights[index] = torch.tensor(op.centred, dtype=torch.float32)
                self._biases[index] = torch.tensor(op.bias, dtype=torch.float32)
                self._ramps[index] = Ramp.of(op.staircase)
            case AvgPool(rule=SumThenRequantise(staircase=staircase)):
                self._ramps[index] = Ramp.of(staircase)
            case Lookup():
                # A central difference over a few entries: the slope of the table, smoothed.
                padded = np.pad(op.table.astype(np.float64), 4, mode="edge")
                slope = (padded[8:] - padded[:-8]) / 8
                self._tables[index] = (torch.tensor(op.table, dtype=torch.float32), torch.tensor(slope, dtype=torch.float32))
            case _:
                pass

    def _step(self, index: int, op: Op, xs: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """One operation: its result, and the same before rounding and clamping (for the outputs)."""
        x = xs[0]
        match op:
            case Dense():
                acc = functional.linear(x - op.input_zero_point, self._weights[index], self._biases[index])
                return self._ramps[index].both(acc)
            case Conv2d():
                padded = _pad(x - op.input_zero_point, op.window, 0.0)
                acc = functional.conv2d(
                    padded, self._weights[index], self._biases[index], op.window.strides, 0, op.window.dilations, op.groups
                )
                return self._ramps[index].both(acc)
            case Add(rule=rule):
                ra, rb, offset = rule.line
                total = xs[0] * ra + (xs[1] * rb + offset)
                return straight_through(total, total.round(), op.lo, op.hi), total
            case AvgPool(rule=rule):
                return self._average(index, op.window, rule, x)
            case MaxPool():
                flat = _unfold(_pad(x, op.window, -1e9), op.window).amax(dim=-1)
                return flat, flat
            case Clamp():
                return straight_through(x, x, op.lo, op.hi), x
            case Lookup():
                table, slope = self._tables[index]
                at = (x.detach().round() - op.input_lo).long().clamp(0, len(table) - 1)
                value = table[at] + slope[at] * (x - x.detach())
                return value, value
            case Concat():
                joined = torch.cat(xs, dim=op.axis + 1)
                return joined, joined
            case Reshape():
                return x.reshape(len(x), *op.shape), x.reshape(len(x), *op.shape)
            case Transpose():
                moved = x.permute(0, *(a + 1 for a in op.axes))
                return moved, moved
            case _:
                assert_never(op)

    def _average(
        self, index: int, window: Window, rule: SumThenRequantise | SequentialFloat32, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        match rule:
            case SumThenRequantise():
                acc = _unfold(x - rule.input_zero_point, window).sum(dim=-1)
                return self._ramps[index].both(acc)
            case SequentialFloat32():
                values = torch.tensor(rule.values)
                slope = float(values[-1] - values[0]) / max(len(values) - 1, 1)
                real = float(values[0]) + slope * (x - rule.input_lo)
                ones = torch.ones((1, 1, *x.shape[2:]))
                count = _unfold(_pad(ones, window, 1.0 if rule.count_padding else 0.0), window).sum(dim=-1)
                line = _unfold(_pad(real, window, 0.0), window).sum(dim=-1) / count / rule.output_scale + rule.zero_point
                return straight_through(line, line.round(), rule.lo, rule.hi), line
            case _:
                assert_never(rule)


def _pad(x: torch.Tensor, window: Window, value: float) -> torch.Tensor:
    top, left, bottom, right = window.padding
    return functional.pad(x, (left, right, top, bottom), value=value) if any(window.padding) else x


def _unfold(x: torch.Tensor, window: Window) -> torch.Tensor:
    """All windows of (batch, C, H, W), as (batch, C, H', W', kernel size)."""
    reach = [d * (k - 1) + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    parts = x.unfold(2, reach[0], window.strides[0]).unfold(3, reach[1], window.strides[1])
    return parts[..., :: window.dilations[0], :: window.dilations[1]].flatten(4)
