"""Exact integer arithmetic on arrays: int64 where nothing can overflow, Python's big integers otherwise.

An array here has dtype int64 or object (Python integers). Every operation first bounds the largest number that it could
make from the largest magnitudes of its operands; NumPy itself would wrap silently.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Scaled = tuple[Any, int]
"""Integers times ``2^-exponent``."""
LIMIT = 1 << 62
EXACT_FLOAT = 1 << 53
"""Below it every integer is a float64, and sums of them are exact in any order: float64 BLAS computes integers."""


def magnitude(x: Any) -> int:
    """The largest absolute value, 0 for an empty array."""
    return max(abs(int(x.max())), abs(int(x.min()))) if x.size else 0


def fit(limit: int, *arrays: Any) -> list[Any]:
    """The arrays as they are if ``limit``, the largest number that they will make, fits into int64; as big integers otherwise."""
    return list(arrays) if limit < LIMIT else [a.astype(object) for a in arrays]


def add(a: Any, b: Any) -> Any:
    """``a + b``."""
    a, b = fit(magnitude(a) + magnitude(b), a, b)
    return a + b


def scale(a: Any, factor: int) -> Any:
    """``a * factor``."""
    return fit(magnitude(a) * abs(factor), a)[0] * factor


def product(a: Any, b: Any) -> Any:
    """The matrix product of ``a`` (..., n, k) and ``b`` (..., k, m)."""
    limit = magnitude(a) * magnitude(np.abs(b).sum(axis=-2)) if magnitude(b) * b.shape[-2] < LIMIT else LIMIT
    if limit < EXACT_FLOAT:
        return np.matmul(a.astype(np.float64), b.astype(np.float64)).astype(np.int64)
    return np.matmul(*fit(limit, a, b))


def total(a: Any) -> Any:
    """Sums over all axes but the first."""
    flat = a.reshape(len(a), -1)
    return fit(magnitude(flat) * flat.shape[1], flat)[0].sum(axis=1)


def narrow(a: Any) -> Any:
    """Big integers as int64 where they fit."""
    return a.astype(np.int64) if magnitude(a) < LIMIT else a


def common(a: Scaled, b: Scaled) -> tuple[Scaled, Scaled]:
    """Both at the finer of their exponents."""
    exponent = max(a[1], b[1])
    return (scale(a[0], 1 << (exponent - a[1])), exponent), (scale(b[0], 1 << (exponent - b[1])), exponent)


def add_scaled(a: Scaled, b: Scaled) -> Scaled:
    """``a + b``."""
    (x, exponent), (y, _) = common(a, b)
    return add(x, y), exponent
