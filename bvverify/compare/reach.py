"""Inputs that drive one accumulator to a given value: bounded subset sums, by search and, where it fails, exactly.

An accumulator that reads the box directly is ``sum_j c_j x_j + constant`` with ``lo <= x <= hi``. ``search`` walks down the coefficients
from the largest, taking off as much of what is missing as each can; ``solve`` decides, by dynamic programming over sets of sums held as
the bits of one integer, whether a value within a range occurs at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bvverify.bounds import interval
from bvverify.model.network import Network
from bvverify.model.ops import AvgPool, Conv2d, Dense, Reshape, SumThenRequantise, inputs
from bvverify.model.types import Int64Array

_MOST_BITS = 1 << 30
"""Sets of sums held at once by ``solve``, in bits (128 MB)."""


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """``coefficients . x + constant`` over the flattened tensor that an operation reads; exact integers."""

    coefficients: Int64Array
    constant: int

    def value(self, x: Int64Array) -> Int64Array:
        """For a batch (batch, size) of tensors; int64 (batch,)."""
        return x @ self.coefficients + self.constant


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Whether the value is reached was not decided: the sums are too many."""


def form(network: Network, index: int, unit: int) -> Form | None:
    """The accumulator of one output element (flat index) of an operation, before any wrap; None where it has none."""
    op = network.ops[index]
    x = network.tensors[inputs(op)[0]]
    match op:
        case Dense(input_zero_point=zero):
            weight, bias, taps = op.centred[unit], int(op.bias[unit]), np.arange(x.size)
        case Conv2d(input_zero_point=zero):
            channel, row, column = np.unravel_index(unit, network.tensors[index + 1].shape)
            per_group, group = op.weight.shape[1], int(channel) // (len(op.weight) // op.groups)
            patch = _places(x.shape, op)[group * per_group : (group + 1) * per_group, row, column]
            weight, bias, taps = op.centred[channel].ravel(), int(op.bias[channel]), patch.ravel()
        case AvgPool(rule=SumThenRequantise(input_zero_point=zero)):
            channel, row, column = np.unravel_index(unit, network.tensors[index + 1].shape)
            taps = _places(x.shape, op)[channel, row, column].ravel()
            weight, bias = np.ones(taps.size, np.int64), 0
        case _:
            return None
    inside = taps >= 0
    coefficients = np.zeros(x.size, np.int64)
    np.add.at(coefficients, taps[inside], weight[inside])
    return Form(coefficients, bias - zero * int(coefficients.sum()))


def _places(shape: tuple[int, ...], op: Conv2d | AvgPool) -> Int64Array:
    """For every tap of every window the flat index of the element that it reads, -1 for padding."""
    places = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    return np.asarray(interval.windows(places, op.window, -1))


def reads_input(network: Network, index: int) -> bool:
    """Whether an operation reads the network's input, or a reshape of it: then forms over what it reads are forms over the input."""
    tensor = inputs(network.ops[index])[0]
    while tensor and isinstance(network.ops[tensor - 1], Reshape):
        (tensor,) = inputs(network.ops[tensor - 1])
    return tensor == 0


def search(
    of: Form, lo: Int64Array, hi: Int64Array, first: int, last: int, rng: np.random.Generator, count: int, centre: Int64Array | None = None
) -> Int64Array:
    """Inputs (found, size) of the flat box with a value in ``first .. last``, from ``count`` random starts; every one is exact.

    With ``centre``, half of the starts keep most elements of that input.
    """
    x = rng.integers(lo, hi + 1, (count, lo.size))
    if centre is not None:
        near = rng.random((count, 1)) < np.linspace(0, 1, count)[:, None]
        x = np.where(near & (rng.random(x.shape) < 0.9), centre, x)
    missing = rng.integers(first, last + 1, count) - of.value(x)
    for _ in range(3):
        # Roughly from the largest coefficient to the smallest, in an order of its own for each pass.
        size = np.abs(of.coefficients) * rng.uniform(0.5, 1.0, lo.size)
        for j in np.argsort(-size):
            c = int(of.coefficients[j])
            if c == 0 or lo[j] == hi[j]:
                continue
            move = np.clip(np.sign(missing) * (np.abs(missing) // abs(c)) * (1 if c > 0 else -1), lo[j] - x[:, j], hi[j] - x[:, j])
            x[:, j] += move
            missing -= move * c
    value = of.value(x)
    return x[(first <= value) & (value <= last)]


def solve(of: Form, lo: Int64Array, hi: Int64Array, first: int, last: int) -> Int64Array | Unsettled | None:
    """An input of the flat box whose value is in ``first .. last``; None when there is none, exactly."""
    # x = lo + u, or hi - u where the coefficient is negative: a sum of non-negative multiples.
    c = np.abs(of.coefficients)
    base = int(np.where(of.coefficients > 0, lo, hi) @ of.coefficients) + of.constant
    at = [int(j) for j in np.argsort(c, kind="stable") if c[j] and lo[j] < hi[j]]
    most = [int(hi[j] - lo[j]) for j in at]
    common = math.gcd(*(int(c[j]) for j in at)) if at else 1
    step = [int(c[j]) // common for j in at]
    low, high = -(-(first - base) // common), (last - base) // common
    total = sum(s * m for s, m in zip(step, most, strict=True))
    low, high = max(low, 0), min(high, total)
    if low > high:
        return None
    if total * (len(at) + 1) > _MOST_BITS:
        return Unsettled()
    sums = [1]
    for s, m in zip(step, most, strict=True):
        reached, left, chunk = sums[-1], m, 1
        while left:  # any multiple up to m is a sum of these chunks
            part = min(chunk, left)
            reached |= reached << (s * part)
            left, chunk = left - part, 2 * chunk
        sums.append(reached)
    hits = (sums[-1] >> low) & ((1 << (high - low + 1)) - 1)
    if not hits:
        return None
    value = low + (hits & -hits).bit_length() - 1
    x = np.where(of.coefficients >= 0, lo, hi).astype(np.int64)
    for k in range(len(at) - 1, -1, -1):
        u = next(u for u in range(most[k] + 1) if value >= u * step[k] and (sums[k] >> (value - u * step[k])) & 1)
        value -= u * step[k]
        x[at[k]] += u if of.coefficients[at[k]] > 0 else -u
    return x
