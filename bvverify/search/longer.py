"""Whether to climb on at a node: a long ascent takes as long as some nodes, and may save many.

A node's own ascent is short, since most nodes are split or closed soon; what it leaves adds up along a path, and where kinks are used up
and a split gains next to nothing it is most of what is missing. A node that misses m has about ``2^(m / g)`` nodes below it while splits
gain g each, and g is what they gained on the way to it: most nodes of a search are closed by the next splits, and what those gain says
nothing of the others. A long ascent brings a share of what is missing, the more the longer ago the last one was above it. That share is
learned. Counted, not timed, so that a search depends on its seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from bvverify.bounds.linear_maps import Tensor
from bvverify.search.node import Node

LEVELS = 8
"""Splits since the last long ascent that are told apart; as many or more are one case."""
_AT_FIRST, _LATELY, _FEW = 0.8, 0.5, 16.0
"""The share of what is missing that a long ascent is taken to bring before it was tried; how much the last batch counts, and what of it
are few rows."""
_MOST = 64.0
"""Nodes that are taken to be below one, at most."""
_SHARE = 2.0
"""Of the nodes: what long ascents may cost, in nodes."""


class Longer:
    """For one search; a long ascent costs as much as ``cost`` nodes a row, and as ``calls`` however few its rows."""

    def __init__(self, cost: float, calls: float) -> None:
        self.cost, self.calls, self.spent = cost, calls, 0.0
        self.share = torch.full((LEVELS,), _AT_FIRST, dtype=torch.float64)

    def worth(self, missing: Tensor, since: Tensor, gain: Tensor, nodes: int) -> Tensor:
        """At which nodes that miss so much, so many splits after the last long ascent, another should pay: bool (rows,).

        A split gains ``gain`` (rows,) there; ``nodes`` is how many there were so far.
        """
        levels = torch.where(torch.isfinite(missing), missing.double(), 0.0) / gain.clamp(min=1e-9)
        below = torch.exp2(levels.clamp(max=30.0)).clamp(max=_MOST)
        saved = (below * (1 - torch.exp2(-self.share[since.clamp(max=LEVELS - 1)] * levels)) - self.cost).clamp(min=0)
        most = max(int((_SHARE * nodes - self.spent) / self.cost), 0)
        if most < len(saved):
            saved[saved.argsort(descending=True, stable=True)[most:]] = 0.0
        # Nothing is known yet of what splits gain, or the calls alone would cost more.
        if not bool((gain > 0).any()) or float(saved.sum()) <= self.calls:
            return torch.zeros(len(saved), dtype=torch.bool)
        return saved > 0

    def learn(self, missing: Tensor, left: Tensor, since: Tensor) -> None:
        """What long ascents of nodes left of what was missing."""
        self.spent += self.calls + self.cost * len(missing)
        brought, case = 1 - left.double() / missing.double(), since.clamp(max=LEVELS - 1)
        for k in sorted(set(case.tolist())):
            here = brought[case == k]
            self.share[k] += _LATELY * len(here) / (len(here) + _FEW) * (here.mean() - self.share[k])


def gains(nodes: Sequence[Node], gain: float) -> Tensor:
    """What a split gained lately on the way to each node, float64 (nodes,); one of ``gain``, as elsewhere, is counted with them."""
    out = []
    for node in nodes:
        at, splits = node, 0
        while splits < min(node.since, LEVELS) and at.parent is not None and math.isfinite(at.parent.bound):
            at, splits = at.parent, splits + 1
        out.append((node.bound - at.bound + gain) / (splits + 1) if splits else gain)
    return torch.tensor(out, dtype=torch.float64)
