"""Whether the saturating-pairs accumulator (``bvverify.model.saturating_pairs``) makes a difference on a box, by intervals.

The range of a pair of products over ranges of its inputs is exact, and a layer in which no pair leaves int16 computes what the exact
accumulator does; so, layer by layer, where intervals let no pair of the network leave int16 on a box, both accumulators are one function
there. The converse does not hold: behind the first layer intervals may let pairs leave that never do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bvverify.bounds import interval
from bvverify.model import saturating_pairs
from bvverify.model.network import Network
from bvverify.model.query import Box


@dataclass(frozen=True, slots=True)
class Reach:
    """How many pairs intervals let leave int16: on the boxes in question, and on the whole input space."""

    on_box: int
    anywhere: int

    @staticmethod
    def of(network: Network, boxes: Iterable[Box]) -> Reach:
        """Of a network that was read under saturating-pairs."""
        tensor = network.input.tensor
        whole = Box.of(np.full(tensor.shape, tensor.qtype.lo), np.full(tensor.shape, tensor.qtype.hi))
        return Reach(_leaving(network, boxes), _leaving(network, [whole]))

    def __str__(self) -> str:
        if not self.anywhere:
            return "none can leave int16, whatever the input: the same with and without VNNI"
        if not self.on_box:
            return f"none can leave int16 on this box: the same with and without VNNI (for other inputs, {self.anywhere} could)"
        return f"{self.on_box} could leave int16 on this box, as far as intervals tell ({self.anywhere} for all inputs)"


def _leaving(network: Network, boxes: Iterable[Box]) -> int:
    made = saturating_pairs.excesses(network)
    out = [np.zeros(network.tensors[i + 1].shape, bool) for i in made]
    for box in boxes if made else ():
        hi = interval.propagate(network, box).hi
        out = [so_far | (hi[i + 1] > 0) for so_far, i in zip(out, made, strict=True)]
    return sum(int(mask.sum()) for mask in out)
