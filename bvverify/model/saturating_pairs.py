"""The accumulator of x86 CPUs without VNNI: products of uint8 by int8, summed in pairs that saturate to 16 bits (``vpmaddubsw``).

    acc = sum over i of sat16(x[2i]*w[2i] + x[2i+1]*w[2i+1]) - zx * sum(w) + bias

over the raw integers, with consecutive inputs in pairs; an odd last one stands alone. ONNX Runtime's QGemm and QLinearMatMul compute it
where the activations are uint8 and the weights int8 (MLAS packs the reduction in fours, that is two pairs, so that blocks change nothing).

A pair leaves int16 only if both weights have one sign, s: 255 * 127 and 255 * 128 fit. It is then ``p - s * e`` with the **excess**

    e = max(0, s * p - M),    p = x[2i]*w[2i] + x[2i+1]*w[2i+1],    M = 32767 upwards, 32768 downwards,

a ReLU of two inputs, at most 32512. So a dense layer with such pairs is, exactly, three operations that every reading of a network
already has: a dense layer that makes the excesses, one unit for each pair that some uint8 input drives out of int16; a concat of the
input and the excesses; and the layer itself with a weight of -s for each excess. Pairs that cannot leave int16 cost nothing; where a
box keeps one inside, its unit is the constant zero for intervals already. The alternatives are worse: a unit for each pair instead of
for the few that saturate, or a sum that each of the readings (numbers, ranges, bit-vectors, kernel) would have to learn anew.

For convolutions the order in which the runtime pairs products has not been established; they are taken where no order could matter.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bvverify.model.network import Network
from bvverify.model.ops import Concat, Conv2d, Dense
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import UINT8, Int64Array, QType

NAME = "saturating-pairs"
EXACT = "exact"
EXCESS = QType(15, signed=False)
"""The type of an excess; uint8 inputs fit into it as well."""
MOST = 1 << 13
"""Pairs of one layer that may leave int16; beyond it a layer is refused (its excesses alone would be a large network)."""
_LO, _HI = -(1 << 15), (1 << 15) - 1
_GREATEST = 2 * UINT8.hi * 128 + _LO


def assumed(semantics: str) -> bool:
    """Whether the name of a network's semantics says that pairs saturate."""
    return semantics.endswith(NAME)


def expand(op: Dense, tensor: int) -> tuple[Dense, Concat, Dense] | None:
    """A dense layer on uint8 with pairs that saturate, as three operations; None where no input drives a pair out of int16.

    ``tensor`` is the index of the tensor that the first of the three will make, the others make the next ones. ``ValueError`` for a weight
    that is no int8 with zero point 0, or more than ``MOST`` pairs.
    """
    if op.weight.min(initial=0) < -128 or op.weight.max(initial=0) > 127 or op.weight_zero_point.any():
        raise ValueError(f"{NAME} holds for int8 weights with zero point 0")
    signs = _signs(op.weight)
    output, pair = np.nonzero(signs)
    if not len(output):
        return None
    if len(output) > MOST:
        raise ValueError(f"{len(output)} pairs of products can leave int16; bvverify models up to {MOST} in a layer")
    sign, unit = signs[output, pair], np.arange(len(output))
    rows = np.zeros((len(unit), op.weight.shape[1]), np.int64)
    for column in (2 * pair, 2 * pair + 1):
        rows[unit, column] = sign * op.weight[output, column]
    excess = Dense.of(f"{op.name} (excess of pairs)", op.x, rows, np.where(sign > 0, -_HI, _LO), _ramp(), accumulator_bits=None)
    taken = np.zeros((len(op.weight), len(unit)), np.int64)
    taken[output, unit] = -sign
    layer = Dense.of(
        op.name,
        tensor + 1,
        np.concatenate([op.weight, taken], axis=1),
        op.bias + op.input_zero_point * taken.sum(axis=1),  # the zero point is taken off the excesses as well
        op.staircase,
        input_zero_point=op.input_zero_point,
        accumulator_bits=op.accumulator_bits,
    )
    return excess, Concat(f"{op.name} (with the excess of pairs)", (op.x, tensor), 0), layer


def excesses(network: Network) -> list[int]:
    """The operations that make excesses."""
    return [i for i, op in enumerate(network.ops) if isinstance(op, Dense) and _makes_excess(op)]


def in_any_order(op: Dense | Conv2d) -> bool:
    """Whether no two products of one output with a uint8 can leave int16 together, however they are paired."""
    weight = op.weight.reshape(len(op.weight), -1)
    least, most = (np.sort(side, axis=1) for side in (np.minimum(weight, 0), np.maximum(weight, 0)))
    return bool((UINT8.hi * least[:, :2].sum(axis=1) >= _LO).all() and (UINT8.hi * most[:, -2:].sum(axis=1) <= _HI).all())


def never_matter(network: Network) -> bool:
    """Whether the network, as read under either accumulator, is the same function under the other, for all inputs.

    Weights are taken for int8 unless one of them is beyond it, since a network does not say: False may be too careful.
    """
    for op in network.ops:
        if isinstance(op, Dense | Conv2d) and network.tensors[op.x].qtype == UINT8 and op.weight.max(initial=0) <= 127:
            paired = isinstance(op, Dense) and not _signs(op.weight).any() and not _makes_excess(op)
            if not paired and not in_any_order(op):
                return False
    return True


def _signs(weight: Int64Array) -> Int64Array:
    """1 where a pair of products with uint8 can pass int16 upwards, -1 downwards, else 0; (out, pairs)."""
    pairs = weight[:, : weight.shape[1] // 2 * 2].reshape(len(weight), -1, 2)
    most, least = (UINT8.hi * f(pairs, 0).sum(axis=2) for f in (np.maximum, np.minimum))
    return (most > _HI).astype(np.int64) - (least < _LO)


def _makes_excess(op: Dense) -> bool:
    return op.staircase.requant == ShiftHalfUp(0) and (op.staircase.lo, op.staircase.hi) == (0, _GREATEST)


@lru_cache(maxsize=1)
def _ramp() -> Staircase:
    """``max(0, a)``, for an excess."""
    return Staircase(ShiftHalfUp(0), 0, _GREATEST)
