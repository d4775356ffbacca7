"""The same function in fewer operations: a clamp behind a staircase is a staircase of fewer levels.

Narrow grids come as a Clip of integers behind each layer. Bounds see two step functions there, and lose at each; joined they lose once.
"""

from __future__ import annotations

from dataclasses import replace

from bvverify.model.network import Network
from bvverify.model.ops import Clamp, Conv2d, Dense, Op, inputs, moved
from bvverify.model.staircase import Staircase


def fuse_clamps(network: Network) -> Network:
    """The network with each clamp of a dense or convolutional layer's result, which nothing else reads, inside that layer."""
    ops, tensors, place = list[Op](), [network.tensors[0]], {0: 0}
    read = [t for op in network.ops for t in inputs(op)] + [network.output.tensor]
    for index, op in enumerate(network.ops):
        before = ops[-1] if ops else None
        if (
            isinstance(op, Clamp)
            and isinstance(before, Dense | Conv2d)
            and op.x == index
            and read.count(index) == 1
            and max(op.lo, before.staircase.lo) <= min(op.hi, before.staircase.hi)
        ):
            stairs = before.staircase
            ops[-1] = replace(before, staircase=Staircase(stairs.requant, max(op.lo, stairs.lo), min(op.hi, stairs.hi)))
            tensors[-1] = network.tensors[index + 1]
        else:
            ops.append(moved(op, tuple(place[t] for t in inputs(op))))
            tensors.append(network.tensors[index + 1])
        place[index + 1] = len(ops)
    output = replace(network.output, tensor=place[network.output.tensor])
    return replace(network, ops=tuple(ops), tensors=tuple(tensors), output=output)
