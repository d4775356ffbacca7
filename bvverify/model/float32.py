"""Float32 arithmetic, one rounding at a time.

Some runtimes add two quantised tensors with fused multiply-adds, and NumPy has none. ``fma`` computes one in float64 with rounding to odd
(Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE
Transactions on Computers 57(4), 2008): the float64 sum is made odd in its last bit when it was inexact, so that the second rounding,
to float32, sees on which side of a tie the exact sum lies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bvverify.model.types import Float32Array


def fma(a: Any, b: Any, c: Any) -> Float32Array:
    """``fl32(a*b + c)`` with one rounding; ``a``, ``b``, ``c`` are float32 (or integers that float32 holds), broadcast.

    The product of two float32 is exact in float64. Valid while nothing leaves the normal range of float32.
    """
    product = np.asarray(a, np.float32).astype(np.float64) * np.asarray(b, np.float32).astype(np.float64)
    return _sum_rounded_to_odd(product, np.asarray(c, np.float32).astype(np.float64)).astype(np.float32)


def _sum_rounded_to_odd(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """``x + y`` in float64, rounded to odd: exact sums stay, inexact ones take the neighbour whose last bit is set."""
    total = np.asarray(x + y, np.float64)
    # Knuth's TwoSum: total + error == x + y exactly.
    other = total - x
    error = (x - (total - other)) + (y - other)
    bits = np.atleast_1d(total).view(np.int64)
    even = (bits & 1) == 0
    error = np.atleast_1d(error)
    # Towards the exact sum, in the order of magnitudes that the bit pattern has.
    step = np.where(np.sign(error) == np.sign(np.atleast_1d(total)), 1, -1)
    odd = np.where((error != 0) & even, bits + step, bits).view(np.float64)
    return odd.reshape(total.shape)
