"""What a node and the local searches beside it cost, in multiplications: so that their shares are counted, and not timed.

The figures are fitted to measurements (one core; microseconds a node and milliseconds a local search; what is counted, in brackets, at 69
multiplications a nanosecond): QVIP's P1-4 160 and 6 (175, 6), P3-6 260 and 9 (210, 6), three layers of 100 neurons on 784 inputs 460 and 11
(430, 11), a CNN of 1,152 and 400 neurons 2,500 and 90 (2,000, 48). A search in levels took 85 ms on the first, 55 on the second, 30 on the
third.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bvverify.bounds.lagrange import Relaxation
from bvverify.bounds.linear_maps import ConvMap, DenseMap

_PRODUCTS, _ELEMENTWISE = 0.6, 400
"""Of a pass: most steps leave the first layer out; six corners of a unit, and Adam's moments."""
_ROUNDING = 30
_CONVOLVED = 2
"""A convolution of few rows, beside one of many."""
_MOVES = 20
"""Of an input element in a local search: five rounds of four."""
_CALLS = 350 * 10**6
"""Of a local search, whatever the network: thousands of small operations."""
_DEEPEN = 5 * 10**9
_ROUND = 4 * 10**9
"""Of an ascent of sixty steps, however few its rows."""


@dataclass(frozen=True, slots=True)
class Work:
    """Multiplications of one pass of the bound for a row; a local search, one in levels, and an ascent's calls, in nodes."""

    bounding: int
    polish: float
    deepen: float
    calls: float

    @staticmethod
    def of(relaxation: Relaxation, node_steps: int) -> Work:
        """A node is an ascent of so many steps.

        Where a dense layer alone reads the input, a move of a local search changes its accumulators by one column.
        """
        products = steps = 0
        moving = 1
        for index, maps in enumerate(relaxation.maps[torch.float32]):
            match maps:
                case DenseMap(weight=weight):
                    here = moved = weight.numel()
                case ConvMap(weight=weight, shape=shape, window=window):
                    here = weight.numel() * int(np.prod(window.output(*shape[1:])))
                    moved = _CONVOLVED * here
                case _:
                    here = moved = 0
            unit = relaxation.units.get(index)
            elements = 0 if unit is None else len(unit.keep)
            first = isinstance(maps, DenseMap) and len(relaxation.keep[0]) == maps.weight.shape[1] and products + steps == 0
            moving += (0 if first else moved) + _ROUNDING * elements
            products, steps = products + here, steps + elements
        node = 4 * node_steps * (_PRODUCTS * products + _ELEMENTWISE * steps + 1)
        polish = _CALLS + _MOVES * len(relaxation.keep[0]) * moving
        return Work(products + 10 * steps + 1, polish / node, _DEEPEN / node, _ROUND / node)
