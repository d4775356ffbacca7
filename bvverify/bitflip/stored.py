"""The parameters that a network's runtime keeps in memory, as the integers that are stored, and what flipped bits make of them.

The threat is that of Zhang et al., "Verification of Bit-Flip Attacks against Quantized Neural Networks" (2025): an attacker flips at most N
bits in each of at most M stored parameters. Integers are two's complement, the sign bit included: bit 7 of an int8 weight moves it by 128.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from bvverify.errors import UnsupportedError
from bvverify.model import saturating_pairs
from bvverify.model.network import Network
from bvverify.model.ops import Conv2d, Dense
from bvverify.model.requant import ByChannel, Fbgemm, Requant
from bvverify.model.types import Int64Array

Kind = Literal["weight", "bias"]
KINDS: tuple[Kind, ...] = ("weight", "bias")


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """The weights or biases of operation ``op``: ``values`` int64, of the operation's own shape, each in ``bits`` bits."""

    op: int
    kind: Kind
    values: Int64Array
    bits: int
    signed: bool

    def flipped(self, mask: int) -> Int64Array:
        """Every value with the bits of ``mask`` flipped."""
        raw = (self.values ^ mask) & ((1 << self.bits) - 1)
        return np.where(raw >> (self.bits - 1), raw - (1 << self.bits), raw) if self.signed else raw


def stored(network: Network, kinds: Sequence[Kind] = KINDS, layers: Sequence[str] | None = None) -> list[Stored]:
    """What is stored, in the order of the operations; ``layers`` are names of operations (None: all that hold parameters).

    Weights are int8, or uint8 where one is beyond int8; fixed-point networks store as many bits as their profile says. Biases are int32.
    A bias of zeros alone is taken for none, since files leave it out; where a requantisation adds a real bias, none is stored as integers.
    ``UnsupportedError`` for the accumulator of saturating pairs, in whose operations a weight occurs several times.
    """
    if saturating_pairs.assumed(network.semantics):
        raise UnsupportedError("flipped bits are decided for exact accumulators, not for saturating pairs")
    found = []
    for index, op in enumerate(network.ops):
        if not isinstance(op, Dense | Conv2d) or (layers is not None and op.name not in layers):
            continue
        bits = _fixed_point_bits(network.semantics)
        for kind in kinds:
            if kind == "weight":
                signed = bits is not None or int(op.weight.max(initial=0)) <= 127
                found.append(Stored(index, "weight", op.weight, bits or 8, signed))
            elif op.bias.any() and not _real_bias(op.staircase.requant):
                found.append(Stored(index, "bias", op.bias, 32, True))
    return found


def masks(bits: int, flips: int) -> Int64Array:
    """Every choice of 1 to ``flips`` of so many bits, as masks: fewer bits first, lower ones first."""
    return np.array([sum(1 << b for b in chosen) for n in range(1, flips + 1) for chosen in combinations(range(bits), n)], np.int64)


def with_flip(network: Network, part: Stored, place: tuple[int, ...], mask: int) -> Network:
    """The network with bits of one parameter flipped."""
    op = network.ops[part.op]
    assert isinstance(op, Dense | Conv2d)
    values = part.values.copy()
    values[place] = part.flipped(mask)[place]
    if part.kind == "bias":
        changed: Dense | Conv2d = replace(op, bias=values)
    else:
        zeros = op.weight_zero_point.reshape(-1, *(1,) * (values.ndim - 1))
        changed = replace(op, weight=values, centred=values - zeros)
    return replace(network, ops=(*network.ops[: part.op], changed, *network.ops[part.op + 1 :]))


def _fixed_point_bits(semantics: str) -> int | None:
    """The width of a fixed-point network's weights, from its profile."""
    name, _, settings = semantics.partition(":")
    if name != "fixed-point":
        return None
    return int(dict(s.split("=", 1) for s in settings.split(","))["bits"])


def _real_bias(requant: Requant) -> bool:
    parts = requant.parts if isinstance(requant, ByChannel) else (requant,)
    return any(isinstance(p, Fbgemm) and p.bias is not None for p in parts)
