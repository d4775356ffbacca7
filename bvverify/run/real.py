"""What a network over the reals computes, exactly: integers over a power of two, as long as they get."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from bvverify.model.ops import MaxPool
from bvverify.model.real import Affine, Convolution, Largest, RealNetwork, Relu, Shaped
from bvverify.model.types import Float32Array, Int64Array
from bvverify.run.adjoint import windows


def run(network: RealNetwork, x: Int64Array, scale: float) -> list[Fraction]:
    """The outputs, flat, for the input ``scale * x``; ``scale`` is a float taken exactly, x integers of the input's shape."""
    unit = Fraction(scale)  # dyadic
    exponent = unit.denominator.bit_length() - 1
    values = x.astype(object).reshape(network.shapes[0]) * unit.numerator
    for op in network.ops:
        match op:
            case Affine() | Convolution():
                weight, by = dyadic(op.weight)
                bias, by_bias = dyadic(op.bias)
                exponent += by
                if by_bias > exponent:
                    values, exponent = values << (by_bias - exponent), by_bias
                total = weight @ values if isinstance(op, Affine) else _convolve(op, weight, values)
                bias = bias << (exponent - by_bias)
                values = total + bias.reshape(-1, *(1,) * (total.ndim - 1))
            case Relu():
                values = np.maximum(values, 0)
            case Largest(window=window):
                seen, inside = windows(values[None], MaxPool(op.name, 0, window), 0)
                values = _ints(np.where(inside[None, None], seen, values.min())[0].max(axis=1))
            case Shaped(shape=shape):
                values = values.reshape(shape)
    return [Fraction(int(v), 1 << exponent) for v in values.reshape(-1)]


def dyadic(values: Float32Array) -> tuple[Any, int]:
    """Integers (Python's) and an exponent: ``values = integers * 2^-exponent``, exactly."""
    _, exponents = np.frexp(values.astype(np.float64))
    lowest = int((24 - exponents[values != 0]).max(initial=0))
    return _ints(np.ldexp(values.astype(np.float64), lowest)), lowest


def _ints(values: Any) -> Any:
    """As Python's integers: NumPy's own, with which it pads, would overflow."""
    return np.vectorize(int, otypes=[object])(values)


def _convolve(op: Convolution, weight: Any, values: Any) -> Any:
    seen = _ints(windows(values[None], _window_of(op), 0)[0][0])  # (C, positions, H', W')
    of_group, out = op.weight.shape[1], len(op.weight) // op.groups
    parts = []
    for group in range(op.groups):
        rows = weight[group * out : (group + 1) * out].reshape(out, -1)
        parts.append(rows @ seen[group * of_group : (group + 1) * of_group].reshape(rows.shape[1], -1))
    return np.concatenate(parts).reshape(len(op.weight), *seen.shape[2:])


def _window_of(op: Convolution) -> MaxPool:
    """Something of this window, which is all that ``windows`` looks at."""
    return MaxPool(op.name, 0, op.window)
