"""fbgemm's sums in pairs that saturate to 16 bits: on CPUs without VNNI in its matrix kernels, on every CPU in its depthwise ones.

The matrix kernels serve linear layers and most convolutions, and are ``bvverify.model.saturating_pairs`` to the bit (PyTorch 2.13, AVX2 and
AVX512 without VNNI, ``scripts/record_pairs_torch.py``). Convolutions with as many outputs as inputs a group may have kernels of their
own: depthwise ones, whose pairs are taps, and 3x3 ones, which choose their instructions by the CPU alone, so that they could not be
measured. Which products those add in pairs is their own affair: such a convolution is read only where no two products can leave int16.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from bvverify.load.torch_trace import Step
from bvverify.load.torch_values import Integers, Reader
from bvverify.model import saturating_pairs
from bvverify.model.ops import Conv2d, Dense, Window
from bvverify.model.types import Int64Array

Layer = TypeVar("Layer", Dense, Conv2d)
_INT16 = np.iinfo(np.int16)
_GROUPWISE = (2, 4, 8, 16)
"""Channels a group for which a 3x3 convolution with as many outputs may have a kernel of its own."""


def check_any_two(r: Reader, step: Step, weight: Int64Array, most_input: int, kernel: str) -> None:
    """Refuse a layer of which the two largest products of one sign can leave int16, with raw inputs from 0 to ``most_input``."""
    taps = np.sort(weight.reshape(len(weight), -1), axis=1)
    most, least = taps[:, -2:].clip(min=0).sum(axis=1), taps[:, :2].clip(max=0).sum(axis=1)
    if (most * most_input > _INT16.max).any() or (least * most_input < _INT16.min).any():
        raise r.unsupported(
            step,
            f"fbgemm's {kernel} kernel sums pairs of products with int16 saturation, and here a pair can leave int16;"
            " quantise its weights to -64..63, or choose pytorch-qnnpack",
        )


def most_input(x: Integers, window: Window, zero_point: int) -> int:
    """The largest raw input of a convolution: padding holds the zero point, which a clamp may have left out."""
    return max(x.hi, zero_point) if any(window.padding) else x.hi


def _own_kernel(op: Conv2d) -> bool:
    """Whether fbgemm may take another kernel than that of matrices; its further conditions (strides, padding) are left out."""
    channels = op.weight.shape[1]
    return len(op.weight) == op.groups * channels and (channels == 1 or (channels in _GROUPWISE and op.window.kernel == (3, 3)))


def layer(r: Reader, step: Step, op: Layer, x: Integers) -> Layer:
    """The layer as the profile's CPU sums it: itself, or one behind the operations that make the excess of its pairs."""
    if not r.saturating_pairs:
        return op
    if isinstance(op, Conv2d) and _own_kernel(op):
        check_any_two(r, step, op.weight, most_input(x, op.window, op.input_zero_point), "grouped")
        return op
    shape: tuple[int, ...] = r.tensors[x.index].shape
    try:
        parts = saturating_pairs.expand(op, shape, len(r.ops) + 1)
    except ValueError as error:
        raise r.unsupported(step, f"under accumulator {saturating_pairs.NAME}, {error}; ask about accumulator exact") from None
    if parts is None:
        return op
    excess, joined, last = parts
    units = len(excess.weight)
    r.add_excess(excess, (units, *shape[1:]))
    r.add_excess(joined, (shape[0] + units, *shape[1:]))
    assert isinstance(last, type(op))
    return last
