"""What is asked about flipped bits: a network, a box of its inputs, which parameters can be hit, how many, and in how many bits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bvverify.bitflip.stored import Kind, Stored, masks, stored, with_flip
from bvverify.model.network import Network
from bvverify.model.ops import Conv2d, Dense
from bvverify.model.query import Box, Property, Query
from bvverify.model.types import Int64Array
from bvverify.run import interpreter


@dataclass(frozen=True, slots=True)
class Flip:
    """Bits of one parameter: the ``mask`` of those that flip in element ``place`` of ``parts[part]``."""

    part: int
    place: tuple[int, ...]
    mask: int


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Whether the class stays ``label`` for every input of ``box``, with up to ``bits`` flipped bits in each of ``parameters`` parameters.

    Or in fewer parameters. They are those of ``kinds`` in the operations named ``layers`` (None: in all).
    """

    network: Network
    box: Box
    label: int
    kinds: tuple[Kind, ...]
    layers: tuple[str, ...] | None
    bits: int = 1
    parameters: int = 1

    @property
    def violation(self) -> Property:
        """The class stays, where the first index of the largest output is the class."""
        return Property.robustness(self.label, self.network.output_tensor.size)

    def query(self, network: Network) -> Query:
        """The question whether ``network``, with flips in it, keeps the class on the box."""
        return Query(network, self.box, self.violation)

    def parts(self) -> list[Stored]:
        """The parameters that can be hit."""
        return stored(self.network, self.kinds, self.layers)

    def violated(self, x: Int64Array, flips: Sequence[Flip]) -> int | None:
        """The class that ``x`` has with ``flips``, where that violates what is asked; else None, also where more is hit than is allowed."""
        parts, network = self.parts(), self.network
        if len({(f.part, f.place) for f in flips}) != len(flips) or len(flips) > self.parameters or not self.box.contains(x):
            return None
        for flip in flips:
            if flip.mask not in masks(parts[flip.part].bits, self.bits):
                return None
            network = applied(network, parts, flip)
        found = int(interpreter.run(network, x[None]).reshape(-1).argmax())
        return None if found == self.label else found

    @property
    def sha256(self) -> str:
        """Identifies what is asked, the network's integers included."""
        asked = [self.network.semantics, self.label, self.kinds, self.layers, self.bits, self.parameters, self.network.provenance.sha256]
        digest = hashlib.sha256(json.dumps(asked).encode())
        for side in (
            self.box.lo,
            self.box.hi,
            *(a for op in self.network.ops if isinstance(op, Dense | Conv2d) for a in (op.weight, op.bias)),
        ):
            digest.update(str(side.shape).encode() + np.ascontiguousarray(side, "<i8").tobytes())
        return digest.hexdigest()


def applied(network: Network, parts: Sequence[Stored], flip: Flip) -> Network:
    """``network`` with a flip more; ``parts`` are those of the network without any, whose other parameters may have flipped since."""
    return with_flip(network, now(network, parts[flip.part]), flip.place, flip.mask)


def now(network: Network, part: Stored) -> Stored:
    """The same parameters as they are in a network with flips in it."""
    op = network.ops[part.op]
    assert isinstance(op, Dense | Conv2d)
    return Stored(part.op, part.kind, op.weight if part.kind == "weight" else op.bias, part.bits, part.signed)
