"""The exact interpreter: the oracle for everything else.

Batched NumPy over int64 tensors of shape (batch, *shape). Sums of products go through float64 BLAS where every partial sum stays below
2^53 and so is an exact integer whatever the order of summation; through int64 otherwise. Values of the input must lie
within the input tensor's type (``UsageError``).
"""

from __future__ import annotations

from typing import assert_never

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bvverify.errors import InternalError, UsageError
from bvverify.model import box
from bvverify.model import requant as rq
from bvverify.model.float32 import fma
from bvverify.model.network import Network
from bvverify.model.ops import (
    Add,
    AddRule,
    AvgPool,
    Clamp,
    Concat,
    Conv2d,
    Dense,
    FmaAdd,
    Lookup,
    MaxPool,
    MeanRule,
    Op,
    Q31Add,
    Reshape,
    SequentialFloat32,
    ShiftAdd,
    SumThenRequantise,
    Transpose,
    Window,
    inputs,
)
from bvverify.model.types import AnyArray, Int64Array

_EXACT = 1 << 53


def run(network: Network, x: Int64Array) -> Int64Array:
    """The integer outputs, (batch, *output shape), for integer inputs (batch, *input shape)."""
    return trace(network, x)[network.output.tensor]


def trace(network: Network, x: Int64Array) -> list[Int64Array]:
    """Every tensor of the network, in order, for integer inputs of shape (batch, *input shape)."""
    tensor = network.input.tensor
    x = np.asarray(x, np.int64)
    if x.shape[1:] != tensor.shape:
        raise UsageError(f"the network takes inputs of shape {tensor.shape}, not {x.shape[1:]}")
    if x.size and (x.min() < tensor.qtype.lo or x.max() > tensor.qtype.hi):
        raise UsageError(f"an input value of {int(x.min())} to {int(x.max())} is outside {tensor.qtype}")
    tensors = [x]
    for op in network.ops:
        tensors.append(evaluate(op, [tensors[i] for i in inputs(op)]))
    return tensors


def quantise_input(network: Network, x: AnyArray) -> Int64Array:
    """What the network's first operation reads of ``x`` as the model's file takes it: (batch, *any shape of the right size).

    Floats pass the file's quantiser; where the file takes integers, ``x`` must hold integers of the type.
    """
    declared = network.input
    x = np.asarray(x)
    if x.shape[0] and int(np.prod(x.shape[1:])) != declared.tensor.size:
        raise UsageError(f"the network takes {declared.tensor.size} values an input, not the shape {x.shape[1:]}")
    flat = x.reshape(len(x), *declared.tensor.shape)
    if declared.quantiser is not None:
        if not np.isfinite(flat).all():
            raise UsageError("the input holds NaN or infinite values")
        return box.quantise(flat.astype(np.float32), declared.quantiser, declared.tensor.qtype)
    if flat.dtype.kind not in "iub":
        if not np.array_equal(flat, np.rint(flat)):
            raise UsageError(f"the network takes integers of type {declared.tensor.qtype}, not fractions")
        flat = np.rint(flat)
    return flat.astype(np.int64)


def declared_output(network: Network, y: Int64Array) -> AnyArray:
    """Integer outputs (batch, *shape) as the model's file declares them: dequantised to float32, or in the integer type."""
    y = y.reshape(len(y), *network.output.file_shape[1:])
    if network.output.dequantiser is not None:
        return box.dequantise(y, network.output.dequantiser)
    qtype = network.output_tensor.qtype
    width = 8 if qtype.bits <= 8 else 16
    return y.astype(f"{'int' if qtype.signed else 'uint'}{width}")


def evaluate(op: Op, xs: list[Int64Array]) -> Int64Array:
    """One operation on a batch."""
    x = xs[0]
    match op:
        case Dense() | Conv2d():
            return op.staircase.apply(wrap(accumulate(op, x), op.accumulator_bits))
        case Add(rule=rule):
            return np.clip(_sum(rule, xs[0], xs[1]), op.lo, op.hi)
        case AvgPool(rule=rule):
            return _mean(op.window, rule, x)
        case MaxPool():
            # Padding is below every value of every type.
            return _windows(x, op.window, -(1 << 32)).max(axis=(-2, -1))
        case Clamp():
            return np.clip(x, op.lo, op.hi)
        case Lookup():
            return np.asarray(op.table[x - op.input_lo])
        case Concat():
            return np.concatenate(xs, axis=op.axis + 1)
        case Reshape():
            return x.reshape(len(x), *op.shape)
        case Transpose():
            return x.transpose(0, *(a + 1 for a in op.axes))
        case _:
            assert_never(op)


def accumulate(op: Dense | Conv2d, x: Int64Array) -> Int64Array:
    """The exact accumulator, before it wraps: int64 (batch, channels, ...)."""
    centred = x - op.input_zero_point
    match op:
        case Dense():
            return _product(centred, op.centred.T) + op.bias
        case Conv2d():
            return _convolve(op, centred) + op.bias[:, None, None]
        case _:
            assert_never(op)


def wrap(acc: Int64Array, bits: int | None) -> Int64Array:
    """Two's complement: the accumulator modulo ``2^bits``, or as it is where ``bits`` is None."""
    if bits is None:
        return acc
    half = 1 << (bits - 1)
    if not acc.size or (-half <= acc.min() and acc.max() < half):
        return acc
    return ((acc + half) & ((1 << bits) - 1)) - half


def _product(a: Int64Array, b: Int64Array) -> Int64Array:
    """``a @ b`` over integers, exactly."""
    largest = int(np.abs(a).max(initial=0)) * int(np.abs(b).sum(axis=0).max(initial=0))
    if largest < _EXACT:
        return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)
    if largest >= 1 << 62:
        raise InternalError(f"a sum of products of up to {largest} does not fit into 64 bits")
    return a @ b


def _convolve(op: Conv2d, centred: Int64Array) -> Int64Array:
    """The convolution as one matrix product a group, over unfolded windows."""
    patches = _windows(centred, op.window, 0)  # (batch, C, H', W', kh, kw)
    batch, channels, rows, columns = patches.shape[:4]
    per_group = channels // op.groups
    outputs = len(op.weight) // op.groups
    out = np.empty((batch, len(op.weight), rows, columns), np.int64)
    for group in range(op.groups):
        part = patches[:, group * per_group : (group + 1) * per_group].transpose(0, 2, 3, 1, 4, 5)
        kernel = op.centred[group * outputs : (group + 1) * outputs].reshape(outputs, -1)
        product = _product(part.reshape(-1, kernel.shape[1]), kernel.T)
        out[:, group * outputs : (group + 1) * outputs] = product.reshape(batch, rows, columns, outputs).transpose(0, 3, 1, 2)
    return out


def _windows(x: AnyArray, window: Window, padding: int) -> AnyArray:
    """All windows of (batch, C, H, W): a view (batch, C, H', W', kernel height, kernel width); pads with ``padding``."""
    top, left, bottom, right = window.padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=padding)
    reach = tuple(d * (k - 1) + 1 for k, d in zip(window.kernel, window.dilations, strict=True))
    view = sliding_window_view(padded, reach, axis=(2, 3))
    return view[:, :, :: window.strides[0], :: window.strides[1], :: window.dilations[0], :: window.dilations[1]]


def _sum(rule: AddRule, a: Int64Array, b: Int64Array) -> Int64Array:
    """The rounded sum before it is clamped."""
    match rule:
        case FmaAdd(ra=ra, rb=rb, offset=offset):
            total = fma(a, np.float32(ra), fma(b, np.float32(rb), np.float32(offset)))
            return np.asarray(np.rint(total).astype(np.int64))
        case ShiftAdd(ma=ma, mb=mb, bias=bias, shift=shift, zero_point=zero_point):
            return ((bias + ma * a + mb * b) >> shift) + zero_point
        case Q31Add(za=za, zb=zb, qa=qa, qb=qb, qo=qo, zero_point=zero_point, single=single):

            def times(x: Int64Array, q: tuple[int, int], zero: int = 0) -> Int64Array:
                requant = (rq.Q31Single if single else rq.Q31Double)(np.array(q[:1]), np.array(q[1:]), zero)
                return rq.apply(requant, x.reshape(-1, 1), -(1 << 31), (1 << 31) - 1).reshape(x.shape)

            return times(times((a - za) << 20, qa) + times((b - zb) << 20, qb), qo, zero_point)
        case _:
            assert_never(rule)


def _mean(window: Window, rule: MeanRule, x: Int64Array) -> Int64Array:
    match rule:
        case SumThenRequantise():
            return rule.staircase.apply(window_sums(window, rule, x))
        case SequentialFloat32():
            return _sequential_mean(window, rule, x)
        case _:
            assert_never(rule)


def window_sums(window: Window, rule: SumThenRequantise, x: Int64Array) -> Int64Array:
    """The accumulators of an integer mean: int64 (batch, channels, height, width)."""
    return _windows(x - rule.input_zero_point, window, 0).sum(axis=(-2, -1))


def _sequential_mean(window: Window, rule: SequentialFloat32, x: Int64Array) -> Int64Array:
    """Float32 additions in the runtime's order; a padded position is left out (it adds 0.0 exactly)."""
    values = _windows(rule.values[x - rule.input_lo], window, 0)
    total = np.zeros(values.shape[:4], np.float32)
    for i in range(window.kernel[0]):
        for j in range(window.kernel[1]):
            total = total + values[..., i, j]
    if rule.count_padding:
        count = np.full((1, 1), window.kernel[0] * window.kernel[1], np.int64)
    else:
        count = _windows(np.ones((1, 1, *x.shape[2:]), np.int64), window, 0).sum(axis=(-2, -1))[0, 0]
    mean = total / count.astype(np.float32)
    scaled = mean / np.float32(rule.output_scale) + np.float32(rule.zero_point)
    return np.clip(np.rint(scaled), rule.lo, rule.hi).astype(np.int64)
