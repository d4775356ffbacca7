"""Accelerated projected gradient descent into a box (Beck and Teboulle, 2009), many rows at once."""

from __future__ import annotations

from bvverify.bounds.linear_maps import Tensor


class Accelerated:
    """``now`` is the point so far, ``ahead`` where the next gradient is wanted: both (rows, n), within ``lo`` and ``hi``, or near."""

    def __init__(self, x: Tensor, lo: Tensor, hi: Tensor) -> None:
        self.now = self.ahead = x
        self.lo, self.hi, self.momentum = lo, hi, 1.0

    def step(self, gradient: Tensor) -> None:
        """Down a gradient at ``ahead``, divided by the largest curvature."""
        after = (self.ahead - gradient).clamp(min=self.lo, max=self.hi)
        grown = (1 + (1 + 4 * self.momentum * self.momentum) ** 0.5) / 2
        self.ahead = after + (self.momentum - 1) / grown * (after - self.now)
        self.now, self.momentum = after, grown
