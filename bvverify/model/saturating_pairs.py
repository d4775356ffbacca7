"""The accumulator of x86 CPUs without VNNI: products of uint8 by int8, summed in pairs that saturate to 16 bits (``vpmaddubsw``).

    acc = sum over i of sat16(x[2i]*w[2i] + x[2i+1]*w[2i+1]) - zx * sum(w) + bias

over the raw integers, with consecutive inputs in pairs; an odd last one stands alone. ONNX Runtime's QGemm, QLinearMatMul and QLinearConv
compute it where the activations are uint8 and the weights int8 (MLAS packs the reduction in fours, that is two pairs, so that blocks
change nothing). In a convolution the order is that of the window's positions, row by row, and of the group's channels at each of them; a
padded position holds the raw zero point and takes part. A convolution with one input and one output channel a group (depthwise) is exact.
All of this was measured on ONNX Runtime 1.32 on an emulated Haswell (``scripts/record_pairs.py``, ``tests/differential/pairs.npz``).

PyTorch's engine fbgemm computes the same wherever it multiplies matrices, measured with its AVX2 and its AVX512 kernels
(``scripts/record_pairs_torch.py``, ``tests/differential/pairs_torch.npz``). For some shapes of convolutions it has kernels of their own;
``bvverify.load.torch_layers`` names them.

A pair leaves int16 only if both weights have one sign, s: 255 * 127 and 255 * 128 fit. It is then ``p - s * e`` with the **excess**

    e = max(0, s * p - M),    p = x[2i]*w[2i] + x[2i+1]*w[2i+1],    M = 32767 upwards, 32768 downwards,

a ReLU of two inputs, at most 32512. So a layer with such pairs is, exactly, three operations that every reading of a network already has: a
layer that makes the excesses, one unit for each pair that some uint8 input drives out of int16; a concat of the input and the
excesses; and the layer itself with a weight of -s for each excess. Pairs that cannot leave int16 cost nothing; where a box keeps one
inside, its unit is the constant zero for intervals already. The alternatives are worse: a unit for each pair instead of for the few that
saturate, or a sum that each of the readings (numbers, ranges, bit-vectors, kernel) would have to learn anew.

The excesses of a convolution lie on the grid of its input: that of a window at the window's **anchor**, a position of it that is never in
the padding, so that the layer's own window finds it there. A convolution whose windows have no such position is refused.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bvverify.model.network import Network
from bvverify.model.ops import Concat, Conv2d, Dense, Window
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import UINT8, Int64Array, QType

NAME = "saturating-pairs"
EXACT = "exact"
RUNTIMES = ("onnxruntime", "pytorch-fbgemm")
"""Profiles of runtimes that sum so where the CPU has no VNNI; all the others sum exactly on every CPU."""
EXCESS = QType(15, signed=False)
"""The type of an excess; uint8 inputs fit into it as well."""
MOST = 1 << 14
"""Excesses of one layer; beyond it a layer is refused (they alone would be a large network)."""
_LO, _HI = -(1 << 15), (1 << 15) - 1
_GREATEST = 2 * UINT8.hi * 128 + _LO

Parts = tuple[Dense, Concat, Dense] | tuple[Conv2d, Concat, Conv2d]
Pairs = list[tuple[int, int, int]]
"""Pairs that can leave int16: the output channel, the first of the two inputs in the order of summation, and the sign."""


def assumed(semantics: str) -> bool:
    """Whether the name of a network's semantics says that pairs saturate."""
    return semantics.endswith(NAME)


def possible(semantics: str) -> bool:
    """Whether the runtime that a name of semantics begins with sums in saturating pairs on some CPU."""
    return semantics.replace(",", ":").partition(":")[0].partition("+")[0] in RUNTIMES


def exact_with(semantics: str) -> str:
    """With which feature of an x86 CPU such a runtime sums exactly: fbgemm knows AVX512-VNNI alone, ONNX Runtime AVX-VNNI as well."""
    return "AVX512-VNNI" if semantics.startswith("pytorch-fbgemm") else "VNNI"


def expand(op: Dense | Conv2d, shape: tuple[int, ...], tensor: int) -> Parts | None:
    """A layer on uint8 inputs of ``shape`` with pairs that saturate, as three operations; None where no input drives one out of int16.

    ``tensor`` is the index of the tensor that the first of the three will make, the others make the next ones. ``ValueError`` for a weight
    that is no int8 with zero point 0, too many excesses, or a convolution without an anchor.
    """
    if op.weight.min(initial=0) < -128 or op.weight.max(initial=0) > 127 or op.weight_zero_point.any():
        raise ValueError(f"{NAME} holds for int8 weights with zero point 0")
    signs = _signs(op)
    found = np.argwhere(signs)
    count = len(found) * int(np.prod(shape[1:], dtype=np.int64))
    if count > MOST:
        raise ValueError(f"{count} pairs of products can leave int16; bvverify models up to {MOST} in a layer")
    if not count:
        return None
    pairs = [(int(output), 2 * int(pair), int(signs[output, pair])) for output, pair in found]
    joined = Concat(f"{op.name} (with the excess of pairs)", (op.x, tensor), 0)
    if isinstance(op, Dense):
        return _excess_of_dense(op, pairs), joined, _less_excess_of_dense(op, pairs, tensor + 1)
    at = anchor(op, shape)
    return _excess_of_convolution(op, shape, pairs, at), joined, _less_excess_of_convolution(op, shape, pairs, at, tensor + 1)


def excesses(network: Network) -> list[int]:
    """The operations that make excesses."""
    return [i for i, op in enumerate(network.ops) if isinstance(op, Dense | Conv2d) and _makes_excess(op)]


def never_matter(network: Network) -> bool:
    """Whether the network, as read under either accumulator, is the same function under the other, for all inputs.

    Weights are taken for int8 unless one of them is beyond it, since a network does not say: False may be too careful.
    """
    return not any(
        isinstance(op, Dense | Conv2d)
        and (_makes_excess(op) or (network.tensors[op.x].qtype == UINT8 and op.weight.max(initial=0) <= 127 and _signs(op).any()))
        for op in network.ops
    )


def _signs(op: Dense | Conv2d) -> Int64Array:
    """1 where a pair of products with uint8 can pass int16 upwards, -1 downwards, else 0; (out, pairs), in the order of summation."""
    weight = _in_order(op)
    if isinstance(op, Conv2d) and op.weight.shape[:2] == (op.groups, 1):
        return np.zeros((len(weight), 0), np.int64)  # depthwise
    pairs = weight[:, : weight.shape[1] // 2 * 2].reshape(len(weight), -1, 2)
    most, least = (UINT8.hi * f(pairs, 0).sum(axis=2) for f in (np.maximum, np.minimum))
    return (most > _HI).astype(np.int64) - (least < _LO)


def _in_order(op: Dense | Conv2d) -> Int64Array:
    """The weight (out, products) in the order in which the runtime sums."""
    return op.weight if isinstance(op, Dense) else op.weight.transpose(0, 2, 3, 1).reshape(len(op.weight), -1)


def _makes_excess(op: Dense | Conv2d) -> bool:
    return op.staircase.requant == ShiftHalfUp(0) and (op.staircase.lo, op.staircase.hi) == (0, _GREATEST)


@lru_cache(maxsize=1)
def _ramp() -> Staircase:
    """``max(0, a)``, for an excess."""
    return Staircase(ShiftHalfUp(0), 0, _GREATEST)


def _limit(sign: int) -> int:
    return _HI if sign > 0 else -_LO


def _excess_of_dense(op: Dense, pairs: Pairs) -> Dense:
    weight = np.zeros((len(pairs), op.weight.shape[1]), np.int64)
    for unit, (output, first, sign) in enumerate(pairs):
        weight[unit, first : first + 2] = sign * op.weight[output, first : first + 2]
    bias = np.array([-_limit(sign) for _, _, sign in pairs])
    return Dense.of(f"{op.name} (excess of pairs)", op.x, weight, bias, _ramp(), accumulator_bits=None)


def _less_excess_of_dense(op: Dense, pairs: Pairs, x: int) -> Dense:
    taken = np.zeros((len(op.weight), len(pairs)), np.int64)
    for unit, (output, _, sign) in enumerate(pairs):
        taken[output, unit] = -sign
    return Dense.of(
        op.name,
        x,
        np.concatenate([op.weight, taken], axis=1),
        op.bias + op.input_zero_point * taken.sum(axis=1),  # the zero point is taken off the excesses as well
        op.staircase,
        input_zero_point=op.input_zero_point,
        accumulator_bits=op.accumulator_bits,
    )


def anchor(op: Conv2d, shape: tuple[int, ...]) -> tuple[int, int]:
    """The first position of the window (row, column) that lies inside the image in every window."""
    window, found = op.window, []
    for axis, (size, windows) in enumerate(zip(shape[1:], window.output(*shape[1:]), strict=True)):
        before, step = window.padding[axis], window.strides[axis]
        at = [k * window.dilations[axis] - before for k in range(window.kernel[axis])]
        found.append(next((k for k, first in enumerate(at) if first >= 0 and first + (windows - 1) * step < size), None))
    row, column = found
    if row is None or column is None:
        raise ValueError("its padding is so wide that every position of its window is padded somewhere, which bvverify does not model")
    return row, column


def _excess_of_convolution(op: Conv2d, shape: tuple[int, ...], pairs: Pairs, anchor: tuple[int, int]) -> Conv2d:
    """The excess of the window whose anchor is at each position of the image: (pairs, H, W)."""
    of_group, outputs = op.weight.shape[1], len(op.weight) // op.groups
    weight, bias = np.zeros((len(pairs), shape[0], *op.window.kernel), np.int64), np.zeros(len(pairs), np.int64)
    for unit, (output, first, sign) in enumerate(pairs):
        for product in (first, first + 1):
            i, j, c = np.unravel_index(product, (*op.window.kernel, of_group))
            weight[unit, output // outputs * of_group + c, i, j] = sign * op.weight[output, c, i, j]
        # The pair sees raw integers, in the padding as well: what the zero point takes off is added again.
        bias[unit] = op.input_zero_point * weight[unit].sum() - _limit(sign)
    after = [(k - 1 - a) * d for k, a, d in zip(op.window.kernel, anchor, op.window.dilations, strict=True)]
    before = [a * d for a, d in zip(anchor, op.window.dilations, strict=True)]
    window = Window(op.window.kernel, padding=(before[0], before[1], after[0], after[1]), dilations=op.window.dilations)
    name = f"{op.name} (excess of pairs)"
    return Conv2d.of(
        name, op.x, weight, bias, _ramp(), window=window, input_zero_point=op.input_zero_point, accumulator_bits=None
    )  # fmt: skip


def _less_excess_of_convolution(op: Conv2d, shape: tuple[int, ...], pairs: Pairs, anchor: tuple[int, int], x: int) -> Conv2d:
    """The layer over image and excesses; its groups are written out, since excesses do not divide into them."""
    of_group, outputs = op.weight.shape[1], len(op.weight) // op.groups
    weight = np.zeros((len(op.weight), shape[0] + len(pairs), *op.window.kernel), np.int64)
    for output, kernel in enumerate(op.weight):
        first = output // outputs * of_group
        weight[output, first : first + of_group] = kernel
    for unit, (output, _, sign) in enumerate(pairs):
        weight[(output, shape[0] + unit, *anchor)] = -sign
    return Conv2d.of(
        op.name,
        x,
        weight,
        op.bias + op.input_zero_point * weight[:, shape[0] :].sum(axis=(1, 2, 3)),
        op.staircase,
        window=op.window,
        input_zero_point=op.input_zero_point,
        accumulator_bits=op.accumulator_bits,
    )
