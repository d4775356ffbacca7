"""How long the steps of a node's ascent are: learned as the search goes.

Far from closing a node has far to climb; near it, long steps lose what its parent had found. How far is far differs by a factor of thirty
between networks, so half of the nodes take longer steps than the rest, and what they gained says which way to go, by the size of the gap.
Counted, not timed, so that a search depends on its seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from bvverify.bounds.linear_maps import Tensor

_FIRST, _POWER = 0.35, 0.25
"""The pace to begin with, as a multiple of the settings' rate: so much for a gap of one, growing as that power of the gap."""
_APART = 1.5
"""How much longer than the pace the steps of half of the nodes are; the other half's are so much shorter."""
_LEAST, _MOST = -8, 9
"""Sizes of gaps that are told apart, in powers of two."""
SIZES = _MOST - _LEAST + 1
"""How many those are."""
_QUICK, _AT_ONCE, _FEW = 1.0, 0.4, 16.0
"""How quickly the logarithm of a pace follows what was gained, at most how far at once, and what counts as few nodes."""
_NEIGHBOURS = 0.6
"""What the next size of gap learns of it."""
_SLOWEST, _FASTEST = 0.005, 4.0


class Pace:
    """For one search."""

    def __init__(self) -> None:
        self.log = math.log(_FIRST) + _POWER * math.log(2) * torch.arange(_LEAST, _MOST + 1, dtype=torch.float64)

    def of(self, bounds: Tensor, numbers: Sequence[int]) -> Tensor:
        """The paces (rows,), float32, of nodes with these numbers, and bounds above them."""
        pace = self.log[_sizes(bounds)] + _longer(numbers).double() * math.log(_APART)
        return pace.exp().float()

    def learn(self, bounds: Tensor, reached: Tensor, numbers: Sequence[int]) -> None:
        """Nodes with these bounds above them reached these."""
        sizes, longer = _sizes(bounds), _longer(numbers) > 0
        # What is above zero is closed, however far.
        gained = ((torch.maximum(reached.double(), bounds).clamp(max=0) - bounds) / -bounds).nan_to_num(0.0)
        for s in sorted(set(sizes.tolist())):
            here = sizes == s
            long, short = gained[here & longer], gained[here & ~longer]
            if not len(long) or not len(short):
                continue
            up, down, rows = float(long.mean()), float(short.mean()), min(len(long), len(short))
            way = _QUICK * (up - down) / max(up + down, 1e-6) * rows / (rows + _FEW)
            way = min(max(way, -_AT_ONCE), _AT_ONCE)
            near = _NEIGHBOURS ** (torch.arange(len(self.log)) - s).abs().double()
            self.log = (self.log + way * near).clamp(math.log(_SLOWEST), math.log(_FASTEST))


def size(gap: float) -> int:
    """The size of a gap: from 0, below ``SIZES``."""
    return round(math.log2(min(max(gap, 2.0**_LEAST), 2.0**_MOST))) - _LEAST


def _sizes(bounds: Tensor) -> Tensor:
    return torch.tensor([size(-bound) for bound in bounds.tolist()])


def _longer(numbers: Sequence[int]) -> Tensor:
    """1 where the steps are longer, -1 where they are shorter: two nodes in a row alike, in the order in which they were made."""
    return (torch.tensor(numbers) // 2 % 2) * 2 - 1
