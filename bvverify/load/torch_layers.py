"""The arithmetic of PyTorch's quantised operators under the engines fbgemm and qnnpack, as operations of the model.

All of it was measured against PyTorch 2.13 (``scripts/bench fidelity_torch``).

* Linear and convolution: the requantisations ``fbgemm`` and ``qnnpack`` (``bvverify.model.requant``). qnnpack holds the bias as an
  integer, ``rne(fl(b * fl(1 / f32(sw * sx))))`` with the product in float64.
* The accumulator is exact, but for fbgemm's sums in pairs (``bvverify.load.torch_pairs``). Its *depthwise* kernels (groups = input
  channels, a multiple of 8) have them on every CPU: a depthwise convolution is read only where no two products can leave int16.
* Elementwise operators: a table of 256 entries, read off the operator itself at the very shape and layout. One that gives
  one value for all positions is a function of one value; one that does not is refused.
* Average pooling. qnnpack: ``rne(fl(acc * m)) + z`` with ``m = fl(s / fl(s * n))`` over n elements. fbgemm: ``rne(sum / n)`` of the raw
  integers; in channels-last layout it adds the zero point behind the rounding on some CPUs and for some channels. The two are the same
  for an odd n, and for a power of two with an even zero point; everything else is refused in that layout.
* Addition: fbgemm rounds the last elements of a tensor in another way than the others. Read as fused multiply-adds where all 65,536 pairs
  of values, in either place, give what those give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bvverify.load import torch_pairs as pairs
from bvverify.load.torch_trace import Step
from bvverify.load.torch_values import Integers, Reader, meaning_of
from bvverify.model.float32 import fma
from bvverify.model.ops import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv2d,
    Dense,
    FmaAdd,
    Lookup,
    MaxPool,
    Reshape,
    SumThenRequantise,
    Window,
)
from bvverify.model.requant import Fbgemm, Float32HalfEven, Qnnpack
from bvverify.model.staircase import Staircase
from bvverify.model.types import AnyArray, Int64Array, frozen_array

_MOST_BIAS = 1 << 30
_PAIRS = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """What a packed weight holds: int64 (out, ...), zero points int64 and scales float64 (1,) or (out,), bias float32 (out,) or None."""

    weight: Int64Array
    zero_point: Int64Array
    scale: AnyArray
    bias: AnyArray | None
    per_channel: bool


def linear(r: Reader, step: Step, *, relu: bool) -> Integers:
    """``quantized::linear`` and ``quantized::linear_relu``."""
    x, operand = r.operand(step, "X")
    shape = r.shape(step, x)
    if len(shape) != 1:
        raise r.unsupported(step, f"takes one row for each input, not the shape {shape}; flatten(1) in front of it")
    w = _weights(r, step, torch.ops.quantized.linear_unpack(step.argument("W_prepack")))
    bias, staircase = _staircase(r, step, x, w, relu)
    op = Dense.of(
        step.name,
        operand.index,
        w.weight,
        bias,
        staircase,
        weight_zero_point=w.zero_point,
        input_zero_point=x.q_zero_point(),
    )
    return r.add(step, pairs.layer(r, step, op, operand), (len(w.weight),), staircase.lo)


def convolution(r: Reader, step: Step, *, relu: bool) -> Integers:
    """``quantized::conv2d`` and ``quantized::conv2d_relu``."""
    x, operand = r.operand(step, "qx")
    packed, ops = step.argument("packed_weight"), torch.ops.quantized
    if ops.conv2d_transpose(packed):
        raise r.unsupported(step, "is a transposed convolution, which bvverify does not read")
    w = _weights(r, step, ops.conv2d_unpack(packed))
    top, left = ops.conv2d_padding(packed)
    window = Window(_two(w.weight.shape[2:]), _two(ops.conv2d_stride(packed)), (top, left, top, left), _two(ops.conv2d_dilation(packed)))
    groups = int(ops.conv2d_groups(packed))
    if r.engine == "fbgemm" and groups > 1 and groups == x.shape[1] and groups % 8 == 0:
        pairs.check_any_two(r, step, w.weight, pairs.most_input(operand, window, x.q_zero_point()), "depthwise")
    bias, staircase = _staircase(r, step, x, w, relu)
    op = Conv2d.of(
        step.name,
        operand.index,
        w.weight,
        bias,
        staircase,
        window=window,
        groups=groups,
        weight_zero_point=w.zero_point,
        input_zero_point=x.q_zero_point(),
    )
    return r.add(step, pairs.layer(r, step, op, operand), r.shape(step, step.result), staircase.lo)


def elementwise(r: Reader, step: Step) -> Integers:
    """Any operator of one tensor that works element by element: nothing, a clamp or a table."""
    x, operand = r.operand(step)
    _, table = tables(r, step, (x,))[0]
    return _of_table(r, step, operand, table, step.name, r.shape(step, step.result), same=_same_meaning(x, step.result))


def concatenation(r: Reader, step: Step) -> Integers:
    """``quantized::cat`` and ``aten::cat``: each part through a table of its own, then joined."""
    parts = tuple(step.arguments[0])
    operands = [r.integers(step, p) for p in parts]
    result = step.result
    axis = int(step.argument("dim", 0)) % result.dim()
    if axis == 0:
        raise r.unsupported(step, "joins along the batch axis")
    read = []
    for i, (part, operand, (_, table)) in enumerate(zip(parts, operands, tables(r, step, parts, axis), strict=True)):
        name = f"{step.name} part {i + 1}"
        read.append(_of_table(r, step, operand, table, name, r.shape(step, part), same=_same_meaning(part, result)))
    op = Concat(step.name, tuple(p.index for p in read), axis - 1)
    return r.add(step, op, r.shape(step, result), min(p.lo for p in read), max(p.hi for p in read))


def tables(r: Reader, step: Step, parts: tuple[torch.Tensor, ...], axis: int | None = None) -> list[tuple[int, Int64Array]]:
    """For each part (its length along ``axis``) the 256 values that the operator makes of it, at its own shape and layout.

    Each run fills every part with one value. Refused where two positions of a part get different values.
    """
    made: list[list[int]] = [[] for _ in parts]
    lengths = [1 if axis is None else int(p.shape[axis]) for p in parts]
    for value in range(256):
        y = step.again({id(p): constant(p, value) for p in parts}).int_repr()
        for mine, piece in zip(made, [y] if axis is None else torch.split(y, lengths, axis), strict=True):
            first = int(piece.flatten()[0])
            if not bool((piece == first).all()):
                raise r.unsupported(step, f"makes different values of {value} at different positions of its tensor")
            mine.append(first)
    return [(n, np.array(m, np.int64)) for n, m in zip(lengths, made, strict=True)]


def constant(like: torch.Tensor, value: int) -> torch.Tensor:
    """A quantised tensor of one integer, with the shape, meaning and layout of another."""
    filled = torch.full(like.shape, value, dtype=torch.uint8)
    y = torch._make_per_tensor_quantized_tensor(filled, like.q_scale(), like.q_zero_point())
    return y.contiguous(memory_format=torch.channels_last) if channels_last(like) else y


def channels_last(x: torch.Tensor) -> bool:
    """Whether PyTorch takes a tensor for one in channels-last layout (one of a single channel or pixel is in both)."""
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)


def addition(r: Reader, step: Step, *, relu: bool) -> Integers:
    """``quantized::add`` and ``quantized::add_relu`` of two tensors of one shape."""
    a, b = step.arguments[:2]
    if not isinstance(b, torch.Tensor) or not isinstance(a, torch.Tensor):
        raise r.unsupported(step, "adds something that is not computed from the input; add it to the bias of the layer before")
    left, right = r.integers(step, a), r.integers(step, b)
    if a.shape != b.shape:
        raise r.unsupported(step, f"adds the shapes {tuple(a.shape[1:])} and {tuple(b.shape[1:])}; they have to be equal")
    lo = step.result.q_zero_point() if relu else 0
    rule = _add_rule(r, step, a, b, lo)
    return r.add(step, Add(step.name, left.index, right.index, rule, lo, 255), r.shape(step, step.result), lo)


def max_pool(r: Reader, step: Step) -> Integers:
    """``aten::quantized_max_pool2d``."""
    x, operand = r.operand(step)
    kernel = _two(step.argument("kernel_size"))
    top, left = _two(step.argument("padding"))
    window = Window(kernel, _two(step.argument("stride") or kernel), (top, left, top, left), _two(step.argument("dilation")))
    shape = r.shape(step, step.result)
    _check_floor(r, step, window, x)
    return r.add(step, MaxPool(step.name, operand.index, window), shape, operand.lo, operand.hi)


def average(r: Reader, step: Step) -> Integers:
    """``aten::avg_pool2d`` without padding."""
    x, operand = r.operand(step)
    kernel = _two(step.argument("kernel_size"))
    window = Window(kernel, _two(step.argument("stride") or kernel))
    if any(step.argument("padding")) or step.argument("divisor_override") is not None:
        raise r.unsupported(step, "averages with padding or a divisor of its own, which bvverify does not model; pad before it")
    _check_floor(r, step, window, x)
    return _mean(r, step, x, operand, window, r.shape(step, step.result))


def adaptive_average(r: Reader, step: Step) -> Integers:
    """``aten::_adaptive_avg_pool2d`` where all windows have one size."""
    x, operand = r.operand(step)
    height, width, rows, columns = (int(v) for v in (*x.shape[2:], *step.result.shape[2:]))
    if height % rows or width % columns:
        raise r.unsupported(step, f"averages {height}x{width} to {rows}x{columns} over windows of different sizes")
    kernel = (height // rows, width // columns)
    return _mean(r, step, x, operand, Window(kernel, kernel), r.shape(step, step.result))


def _weights(r: Reader, step: Step, unpacked: Any) -> Weights:
    w, bias = unpacked
    per_channel = w.qscheme() == torch.per_channel_affine
    readable = w.q_per_channel_axis() == 0 if per_channel else w.qscheme() == torch.per_tensor_affine
    if w.dtype != torch.qint8 or not readable:
        raise r.unsupported(step, f"has weights of type {w.dtype}, {w.qscheme()}; bvverify reads qint8, per tensor or per output channel")
    if per_channel:
        scale, zero = w.q_per_channel_scales().numpy().astype(np.float64), w.q_per_channel_zero_points().numpy()
    else:
        scale, zero = np.array([w.q_scale()], np.float64), np.array([w.q_zero_point()])
    values = None if bias is None else bias.detach().numpy().astype(np.float32)
    if values is not None and not np.isfinite(values).all():
        raise r.unsupported(step, "has a bias that is NaN or infinite")
    return Weights(w.int_repr().numpy().astype(np.int64), zero.astype(np.int64), scale, values, per_channel)


def _staircase(r: Reader, step: Step, x: torch.Tensor, w: Weights, relu: bool) -> tuple[Int64Array, Staircase]:
    """The integer bias, and requantisation with clamp, of a linear layer or a convolution."""
    result, channels = step.result, len(w.weight)
    sx, sy, sw = np.float32(x.q_scale()), np.float32(result.q_scale()), w.scale.astype(np.float32)
    bias, zero = np.zeros(channels, np.int64), result.q_zero_point()
    try:
        requant: Fbgemm | Qnnpack
        if r.engine == "fbgemm":
            scale = sx * sw
            size = len(scale) if w.bias is None else channels
            multiplier, scale = (np.broadcast_to(v, size) for v in (scale / sy, scale))
            requant = Fbgemm(multiplier, w.bias, scale, w.per_channel, zero)
        else:
            requant = Qnnpack((sw * sx) * (np.float32(1) / sy), zero)
            if w.bias is not None:
                inverse = np.float32(1) / (np.float64(x.q_scale()) * w.scale).astype(np.float32)
                rounded = np.rint(w.bias * inverse)
                if not (np.abs(rounded) < _MOST_BIAS).all():
                    raise ValueError("its bias does not fit into the accumulator")
                bias = rounded.astype(np.int64)
        return bias, Staircase(requant, zero if relu else 0, 255)
    except ValueError as error:
        raise r.unsupported(step, str(error)) from error


def _of_table(r: Reader, step: Step, x: Integers, table: Int64Array, name: str, shape: tuple[int, ...], *, same: bool) -> Integers:
    every = np.arange(256)
    possible = table[x.lo : x.hi + 1]
    lo, hi = int(possible.min()), int(possible.max())
    if np.array_equal(table, every) and same:
        return x
    least, most = int(table.min()), int(table.max())
    if np.array_equal(table, np.clip(every, least, most)):
        return r.add(step, Clamp(name, x.index, least, most), shape, lo, hi)
    return r.add(step, Lookup(name, x.index, 0, frozen_array(table, np.int64)), shape, lo, hi)


def _same_meaning(a: torch.Tensor, b: torch.Tensor) -> bool:
    return meaning_of(a) == meaning_of(b)


def _add_rule(r: Reader, step: Step, a: torch.Tensor, b: torch.Tensor, lo: int) -> FmaAdd:
    """The multiply-adds that give what the operator gives for all pairs of values, in a long tensor and in its last elements."""
    left, right = (np.repeat(np.arange(256), 256), np.tile(np.arange(256), 256))
    x, y = (torch._make_per_tensor_quantized_tensor(torch.from_numpy(v.astype(np.uint8)), t.q_scale(), t.q_zero_point())
            for v, t in ((left, a), (right, b)))  # fmt: skip
    whole = step.again({id(a): x, id(b): y}) if a is not b else step.again({id(a): x})
    # Shorter than any vector of the engine: AVX2 has 32 elements in fbgemm's kernel, SSE2 and NEON have 8 in qnnpack's.
    length = 31 if r.engine == "fbgemm" else 7
    pieces = zip(torch.split(x, length), torch.split(y, length), strict=True)
    short = [step.again({id(a): p, id(b): q} if a is not b else {id(a): p}) for p, q in pieces]
    wanted = whole.int_repr().numpy()
    last = torch.cat([t.int_repr() for t in short]).numpy()
    sa, sb, sc = (np.float32(t.q_scale()) for t in (a, b, step.result))
    ra, rb = sa / sc, sb / sc
    inner = fma(rb, np.float32(b.q_zero_point()), ra * np.float32(a.q_zero_point()))
    offset = np.float32(step.result.q_zero_point()) - np.float32(inner)
    together = slice(None) if a is not b else left == right
    got = np.clip(np.rint(fma(left, ra, fma(right, rb, offset))), lo, 255)
    differ = int(((got != wanted) | (got != last))[together].sum())
    if differ:
        raise r.unsupported(
            step,
            f"PyTorch rounds the sum in more than one way, or not as a fused multiply-add: {differ} of {_PAIRS} pairs of values differ;"
            " concatenate instead, or choose scales that are powers of two",
        )
    return FmaAdd(float(ra), float(rb), float(offset))


def _mean(r: Reader, step: Step, x: torch.Tensor, operand: Integers, window: Window, shape: tuple[int, ...]) -> Integers:
    n, zero = window.kernel[0] * window.kernel[1], x.q_zero_point()
    if n > 1 << 12:
        raise r.unsupported(step, f"averages {n} elements; bvverify models windows of up to 4096")
    if r.engine == "qnnpack":
        scale = np.float32(x.q_scale())
        rule = SumThenRequantise(zero, Staircase(Qnnpack(np.atleast_1d(scale / (scale * np.float32(n))), zero), 0, 255))
    else:
        if channels_last(x) and n % 2 == 0 and (n & (n - 1) or zero % 2):
            raise r.unsupported(
                step,
                f"in channels-last layout fbgemm rounds means of {n} elements about the zero point {zero} in more than one way;"
                " call .contiguous() on its input, or choose pytorch-qnnpack",
            )
        rule = SumThenRequantise(0, Staircase(Float32HalfEven(np.atleast_1d(np.float32(1) / np.float32(n)), 0), 0, 255))
    return r.add(step, AvgPool(step.name, operand.index, window, rule), shape, operand.lo, operand.hi)


def moved(r: Reader, step: Step, x: Integers, shape: tuple[int, ...], name: str) -> Integers:
    """The same elements, row-major, in another shape; nothing where the shape is the same."""
    before = r.tensors[x.index]
    if before.shape == shape:
        return x
    return r.add(step, Reshape(name, x.index, shape), shape, x.lo, x.hi, before.quantisation)


def _check_floor(r: Reader, step: Step, window: Window, x: torch.Tensor) -> None:
    expected = window.output(int(x.shape[2]), int(x.shape[3]))
    if expected != tuple(step.result.shape[2:]):
        raise r.unsupported(step, "ceil_mode adds windows that reach beyond the image, which bvverify does not model")


def _two(values: Any) -> tuple[int, int]:
    pair = [int(v) for v in (values if isinstance(values, list | tuple | torch.Size) else [values])]
    return (pair[0], pair[0]) if len(pair) == 1 else (pair[0], pair[1])
