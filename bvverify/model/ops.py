"""The operations of a quantised network, as frozen data.

An operation names its input tensors by index (tensor 0 is the network's input, operation ``i`` makes tensor ``i + 1``) and holds
everything that its arithmetic depends on. It computes nothing: each reading (``run``, ``bounds``, ``encode``) has one ``match`` over
``Op`` that ends in ``assert_never``.

All arrays are without a batch axis here and with one, first, in the readings. Images are channels first (C, H, W).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bvverify.model.staircase import Staircase
from bvverify.model.types import Float32Array, Int64Array, frozen_array


@dataclass(frozen=True, slots=True)
class Window:
    """The geometry of a convolution or a pooling over (H, W); ``padding`` is (top, left, bottom, right)."""

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)

    def output(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result; raises ``ValueError`` when the window does not fit even once."""
        top, left, bottom, right = self.padding
        reach_h = self.dilations[0] * (self.kernel[0] - 1) + 1
        reach_w = self.dilations[1] * (self.kernel[1] - 1) + 1
        rows, columns = height + top + bottom - reach_h, width + left + right - reach_w
        if rows < 0 or columns < 0:
            raise ValueError(f"a window of {self.kernel} does not fit into {height}x{width} with padding {self.padding}")
        return rows // self.strides[0] + 1, columns // self.strides[1] + 1


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """``y = staircase(sum_j (x_j - input_zero_point) * (weight_ij - weight_zero_point_i) + bias_i)``.

    ``weight`` is int64 (out, in) as stored, ``weight_zero_point`` (1,) or (out,), ``bias`` (out,). The accumulator
    wraps to ``accumulator_bits`` (two's complement), or is exact where that is ``None``.
    """

    name: str
    x: int
    weight: Int64Array
    weight_zero_point: Int64Array
    input_zero_point: int
    bias: Int64Array
    accumulator_bits: int | None
    staircase: Staircase
    centred: Int64Array
    """The weight minus its zero point, (out, in): what multiplies the centred input."""

    @staticmethod
    def of(
        name: str,
        x: int,
        weight: Int64Array,
        bias: Int64Array,
        staircase: Staircase,
        *,
        weight_zero_point: Int64Array | int = 0,
        input_zero_point: int = 0,
        accumulator_bits: int | None = 32,
    ) -> Dense:
        """The operation with its arrays copied, frozen and checked against each other (``ValueError``)."""
        weight = frozen_array(weight, np.int64)
        zero = frozen_array(np.atleast_1d(weight_zero_point), np.int64)
        bias = frozen_array(bias, np.int64)
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or zero.shape not in ((1,), weight.shape[:1]):
            raise ValueError(f"weight {weight.shape}, bias {bias.shape} and zero point {zero.shape} do not fit")
        _check_channels(staircase, weight.shape[0])
        centred = frozen_array(weight - zero[:, None], np.int64)
        return Dense(name, x, weight, zero, input_zero_point, bias, accumulator_bits, staircase, centred)


@dataclass(frozen=True, slots=True, eq=False)
class Conv2d:
    """A convolution over (C, H, W), as ``Dense`` in its arithmetic; padded positions hold ``input_zero_point`` and so add nothing.

    ``weight`` is int64 (out, in / groups, kernel height, kernel width), ``weight_zero_point`` (1,) or (out,), ``bias`` (out,). ``groups``
    equal to the input's channels is a depthwise convolution.
    """

    name: str
    x: int
    weight: Int64Array
    weight_zero_point: Int64Array
    input_zero_point: int
    bias: Int64Array
    window: Window
    groups: int
    accumulator_bits: int | None
    staircase: Staircase
    centred: Int64Array
    """The weight minus its zero point, of the weight's shape."""

    @staticmethod
    def of(
        name: str,
        x: int,
        weight: Int64Array,
        bias: Int64Array,
        staircase: Staircase,
        *,
        window: Window,
        groups: int = 1,
        weight_zero_point: Int64Array | int = 0,
        input_zero_point: int = 0,
        accumulator_bits: int | None = 32,
    ) -> Conv2d:
        """The operation with its arrays copied, frozen and checked against each other (``ValueError``)."""
        weight = frozen_array(weight, np.int64)
        zero = frozen_array(np.atleast_1d(weight_zero_point), np.int64)
        bias = frozen_array(bias, np.int64)
        if weight.ndim != 4 or weight.shape[2:] != window.kernel:
            raise ValueError(f"weight {weight.shape} does not fit the kernel {window.kernel}")
        if bias.shape != weight.shape[:1] or zero.shape not in ((1,), weight.shape[:1]):
            raise ValueError(f"weight {weight.shape}, bias {bias.shape} and zero point {zero.shape} do not fit")
        if groups < 1 or weight.shape[0] % groups:
            raise ValueError(f"{weight.shape[0]} output channels do not divide into {groups} groups")
        _check_channels(staircase, weight.shape[0])
        centred = frozen_array(weight - zero[:, None, None, None], np.int64)
        return Conv2d(name, x, weight, zero, input_zero_point, bias, window, groups, accumulator_bits, staircase, centred)


@dataclass(frozen=True, slots=True)
class FmaAdd:
    """ONNX Runtime's QLinearAdd: ``rne(fma(a, ra, fma(b, rb, offset)))``, in float32; all three are exact float32 values.

    ``ra = fl(sa / sc)``, ``rb = fl(sb / sc)``, ``offset = fl(zc - fma(rb, zb, fl(ra * za)))``, so that the output's zero point is
    inside ``offset`` and is rounded with it. ``ra`` and ``rb`` are positive: the result is non-decreasing in both.
    """

    ra: float
    rb: float
    offset: float

    @property
    def weights(self) -> tuple[int, int]:
        """``ra`` and ``rb`` scaled to integers of some 30 bits, at least 1: bounds speak of the integer sum ``wa * a + wb * b``.

        Any positive weights would do; what they round away is read off all pairs of values where it matters.
        """
        return _scaled(self.ra, self.rb)

    @property
    def line(self) -> tuple[float, float, float]:
        """``(ra, rb, offset)`` of the real sum ``ra * a + rb * b + offset`` that the rule rounds: for gradients only."""
        return self.ra, self.rb, self.offset


@dataclass(frozen=True, slots=True)
class ShiftAdd:
    """XNNPACK's addition: ``((bias + ma * a + mb * b) >> shift) + zero_point``; ``bias`` holds the zero points and half a unit.

    ``ma`` and ``mb`` are below 2^22 and not negative, so that nothing overflows 32 bits.
    """

    ma: int
    mb: int
    bias: int
    shift: int
    zero_point: int

    @property
    def weights(self) -> tuple[int, int]:
        """``ma`` and ``mb``, at least 1."""
        return max(1, self.ma), max(1, self.mb)

    @property
    def line(self) -> tuple[float, float, float]:
        """As for ``FmaAdd``."""
        unit = 1 << self.shift
        return self.ma / unit, self.mb / unit, (self.bias - unit / 2) / unit + self.zero_point


@dataclass(frozen=True, slots=True)
class Q31Add:
    """TFLite's built-in addition, and CMSIS-NN's: ``q31(q31((a - za) << 20, qa) + q31((b - zb) << 20, qb), qo) + zero_point``.

    Each of ``qa``, ``qb``, ``qo`` is mantissa and shift (at most 0) of a multiplier, applied as ``q31-double`` does it, or as
    ``q31-single`` where ``single`` is set. Nothing overflows: operands are below 2^29.
    """

    za: int
    zb: int
    qa: tuple[int, int]
    qb: tuple[int, int]
    qo: tuple[int, int]
    zero_point: int
    single: bool = False

    @property
    def weights(self) -> tuple[int, int]:
        """As for ``FmaAdd``."""
        return _scaled(*self.line[:2])

    @property
    def line(self) -> tuple[float, float, float]:
        """As for ``FmaAdd``."""
        a, b, out = (math.ldexp(mantissa, shift - 31) for mantissa, shift in (self.qa, self.qb, self.qo))
        ra, rb = math.ldexp(a * out, 20), math.ldexp(b * out, 20)
        return ra, rb, self.zero_point - ra * self.za - rb * self.zb


AddRule = FmaAdd | ShiftAdd | Q31Add


def _scaled(ra: float, rb: float) -> tuple[int, int]:
    exponent = 30 - math.frexp(max(ra, rb))[1]
    return max(1, round(math.ldexp(ra, exponent))), max(1, round(math.ldexp(rb, exponent)))


@dataclass(frozen=True, slots=True)
class Add:
    """Elementwise sum of two tensors of one shape, rounded by ``rule`` and clamped to ``[lo, hi]``; ``a`` may be ``b``."""

    name: str
    a: int
    b: int
    rule: AddRule
    lo: int
    hi: int


@dataclass(frozen=True, slots=True, eq=False)
class SumThenRequantise:
    """The mean as an integer sum of ``x - input_zero_point`` over the window, then a staircase (the multiplier divides by the count).

    Valid without padding only, where every window holds the same number of elements.
    """

    input_zero_point: int
    staircase: Staircase


@dataclass(frozen=True, slots=True, eq=False)
class SequentialFloat32:
    """ONNX Runtime's QLinearAveragePool: the mean as a float32 sum, element by element in row-major order of the window.

    ``values[q - lo_of_type] = fl((q - zx) * sx)`` are the dequantised inputs (float32, non-decreasing); the result is
    ``rne(fl(fl(fl(sum) / count) / output_scale) + zero_point)`` (the inner sum is rounded too), clamped to ``[lo, hi]``.
    ``count`` is the number of elements inside the image, or the whole window with ``count_padding``. The order of summation
    matters to the last bit, so this is no function of the integer sum; it is still non-decreasing in every input.
    """

    input_lo: int
    values: Float32Array
    output_scale: float
    zero_point: int
    count_padding: bool
    lo: int
    hi: int


MeanRule = SumThenRequantise | SequentialFloat32


@dataclass(frozen=True, slots=True, eq=False)
class AvgPool:
    """Average over a window of (C, H, W), channel by channel, rounded by ``rule``."""

    name: str
    x: int
    window: Window
    rule: MeanRule


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Maximum over a window of (C, H, W), channel by channel; padded positions never win."""

    name: str
    x: int
    window: Window


@dataclass(frozen=True, slots=True)
class Clamp:
    """``min(max(x, lo), hi)`` on the integers."""

    name: str
    x: int
    lo: int
    hi: int


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """Any unary function of one integer, as a table: ``y = table[x - input_lo]``; it need not be monotone.

    ``table`` is int64 with one entry for every value of the input's type (256 for 8 bits).
    """

    name: str
    x: int
    input_lo: int
    table: Int64Array


@dataclass(frozen=True, slots=True)
class Concat:
    """Tensors joined along ``axis`` (0 is the first axis after the batch)."""

    name: str
    xs: tuple[int, ...]
    axis: int


@dataclass(frozen=True, slots=True)
class Reshape:
    """The same elements, row-major, in another shape (without the batch axis). Flatten is a reshape."""

    name: str
    x: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Transpose:
    """Axes permuted; ``axes`` are those after the batch axis, counted from 0."""

    name: str
    x: int
    axes: tuple[int, ...]


Op = Dense | Conv2d | Add | AvgPool | MaxPool | Clamp | Lookup | Concat | Reshape | Transpose


def inputs(op: Op) -> tuple[int, ...]:
    """The indices of the tensors that an operation reads."""
    match op:
        case Add():
            return (op.a, op.b)
        case Concat():
            return op.xs
        case _:
            return (op.x,)


def moved(op: Op, reads: tuple[int, ...]) -> Op:
    """The operation, reading the tensors ``reads``."""
    match op:
        case Add():
            return replace(op, a=reads[0], b=reads[1])
        case Concat():
            return replace(op, xs=reads)
        case _:
            return replace(op, x=reads[0])


def _check_channels(staircase: Staircase, channels: int) -> None:
    if len(staircase.thresholds) not in (1, channels):
        raise ValueError(f"{len(staircase.thresholds)} multipliers for {channels} output channels")
