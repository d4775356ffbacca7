"""The arithmetic of ONNX Runtime's quantised operators, as operations of the model; QOperator and fused QDQ graphs both end here.

Formulas (ONNX Runtime 1.32, measured against it): a product layer multiplies the accumulator by ``fl(fl(sx * sw) / sy)``; QLinearAdd
is two fused multiply-adds whose offset holds the zero points; QLinearGlobalAveragePool sums integers and multiplies by
``fl(sx / fl(sy * count))``; QLinearAveragePool adds float32 values one by one; QLinearConcat and unary operators are tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from onnx import NodeProto

from bvverify.load.onnx_reader import Reader, node_name
from bvverify.load.onnx_values import Integers, Move, Pointwise, Target
from bvverify.model import box, saturating_pairs
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
    SequentialFloat32,
    SumThenRequantise,
    Transpose,
    Window,
)
from bvverify.model.requant import Float32HalfEven
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, UINT8, Float32Array, Int64Array, QType, Quantisation, frozen_array

_Layer = TypeVar("_Layer", Dense, Conv2d)


@dataclass(frozen=True, slots=True)
class Operand:
    """An activation with its meaning: ``zero_point`` is that of the stored integers."""

    integers: Integers
    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Constant weights (out, ...) of ``qtype``, zero points and scales (1,) or (out,), bias int64 (out,)."""

    weight: Int64Array
    zero_point: Int64Array
    scale: Float32Array
    bias: Int64Array
    qtype: QType


def dense(r: Reader, node: NodeProto, x: Operand, w: Weights, y: Target) -> Integers:
    """QGemm and QLinearMatMul; ``w.weight`` is (out, in)."""
    if len(x.integers.shape) != 1 or x.integers.shape[0] != w.weight.shape[1]:
        raise r.unsupported(node, f"a weight of shape {w.weight.shape} does not take one row of shape {x.integers.shape} for each input")
    _check_channels(r, node, w)
    staircase = Staircase(r.multiplier(node, x.scale, w.scale, y.scale, y.zero_point), y.qtype.lo, y.qtype.hi)
    op = Dense.of(
        node_name(node),
        x.integers.index,
        w.weight,
        w.bias,
        staircase,
        weight_zero_point=w.zero_point,
        input_zero_point=x.zero_point,
    )
    if _in_pairs(r, node, x, w):
        op = _saturating(r, node, op, x.integers.shape)
    return r.add(node, op, (len(w.weight),), y.qtype, q=_meaning(y))


def convolution(r: Reader, node: NodeProto, x: Operand, w: Weights, window: Window, groups: int, y: Target) -> Integers:
    """QLinearConv."""
    shape = x.integers.shape
    if groups < 1 or len(w.weight) % groups or shape[0] != w.weight.shape[1] * groups:
        raise r.wrong(node, f"a weight of shape {w.weight.shape} in {groups} groups does not take {shape[0]} channels")
    _check_channels(r, node, w)
    staircase = Staircase(r.multiplier(node, x.scale, w.scale, y.scale, y.zero_point), y.qtype.lo, y.qtype.hi)
    op = Conv2d.of(
        node_name(node),
        x.integers.index,
        w.weight,
        w.bias,
        staircase,
        window=window,
        groups=groups,
        weight_zero_point=w.zero_point,
        input_zero_point=x.zero_point,
    )
    if _in_pairs(r, node, x, w):
        op = _saturating(r, node, op, shape)
    return r.add(node, op, (len(w.weight), *window.output(shape[1], shape[2])), y.qtype, q=_meaning(y))


def addition(r: Reader, node: NodeProto, a: Operand, b: Operand, y: Target) -> Integers:
    """QLinearAdd of two activations of one shape."""
    if a.integers.shape != b.integers.shape:
        raise r.unsupported(node, f"adds the shapes {a.integers.shape} and {b.integers.shape}; without broadcasting, they have to be equal")
    sc = np.float32(y.scale)
    ra, rb = np.float32(a.scale) / sc, np.float32(b.scale) / sc
    inner = fma(rb, np.float32(b.zero_point), ra * np.float32(a.zero_point))
    offset = np.float32(y.zero_point) - np.float32(inner)
    op = Add(node_name(node), a.integers.index, b.integers.index, FmaAdd(float(ra), float(rb), float(offset)), y.qtype.lo, y.qtype.hi)
    return r.add(node, op, a.integers.shape, y.qtype, q=_meaning(y))


def average(r: Reader, node: NodeProto, x: Operand, window: Window, count_padding: bool, y: Target) -> Integers:
    """QLinearAveragePool: float32 additions in row-major order."""
    qtype = x.integers.qtype
    values = box.dequantise(np.arange(qtype.lo, qtype.hi + 1), Quantisation(x.scale, x.zero_point))
    rule = SequentialFloat32(
        qtype.lo, frozen_array(values, np.float32), y.scale, y.zero_point, count_padding, y.qtype.lo, y.qtype.hi
    )  # fmt: skip
    shape = (x.integers.shape[0], *window.output(*x.integers.shape[1:]))
    return r.add(node, AvgPool(node_name(node), x.integers.index, window, rule), shape, y.qtype, q=_meaning(y))


def global_average(r: Reader, node: NodeProto, x: Operand, y: Target) -> Integers:
    """QLinearGlobalAveragePool: an integer sum and one multiplier."""
    if len(x.integers.shape) != 3:
        raise r.unsupported(node, "bvverify averages over (batch, channels, height, width)")
    channels, height, width = x.integers.shape
    multiplier = np.float32(x.scale) / (np.float32(y.scale) * np.float32(height * width))
    staircase = Staircase(Float32HalfEven(np.atleast_1d(np.float32(multiplier)), y.zero_point), y.qtype.lo, y.qtype.hi)
    op = AvgPool(node_name(node), x.integers.index, Window((height, width)), SumThenRequantise(x.zero_point, staircase))
    return r.add(node, op, (channels, 1, 1), y.qtype, q=_meaning(y))


def max_pool(r: Reader, node: NodeProto, x: Integers, window: Window) -> Integers:
    """MaxPool on the integers: dequantisation is increasing, so that it does not matter where the maximum is taken."""
    shape = (x.shape[0], *window.output(*x.shape[1:]))
    return r.add(node, MaxPool(node_name(node), x.index, window), shape, x.qtype, x.shift, _of(r, x))


def clamp(r: Reader, node: NodeProto, x: Integers, lo: int, hi: int) -> Integers:
    """Clip on the integers, with the bounds of the stored integers."""
    if lo > hi:
        raise r.wrong(node, f"clips to the empty range [{lo}, {hi}]")
    if lo <= x.qtype.lo and hi >= x.qtype.hi:
        return x
    op = Clamp(node_name(node), x.index, max(lo, x.qtype.lo), min(hi, x.qtype.hi))
    return r.add(node, op, x.shape, x.qtype, x.shift, _of(r, x))


def moved(r: Reader, node: NodeProto, x: Integers, move: Move) -> Integers:
    """A reshape or a transposition."""
    op = Reshape(move.name, x.index, move.shape) if move.axes is None else Transpose(move.name, x.index, move.axes)
    return r.add(node, op, move.shape, x.qtype, x.shift, _of(r, x))


def concatenation(r: Reader, node: NodeProto, xs: Sequence[Operand], axis: int, y: Target) -> Integers:
    """QLinearConcat: each part requantised by its own table, then joined."""
    shapes = [x.integers.shape for x in xs]
    rank = len(shapes[0])
    same = all(len(s) == rank and s[:axis] + s[axis + 1 :] == shapes[0][:axis] + shapes[0][axis + 1 :] for s in shapes)
    if not 0 <= axis < rank or not same:
        raise r.wrong(node, f"joins the shapes {', '.join(map(str, shapes))} along axis {axis + 1}")
    parts = [requantised(r, node, x, (), y) for x in xs]
    joined = (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])
    return r.add(node, Concat(node_name(node), tuple(p.index for p in parts), axis), joined, y.qtype, q=_meaning(y))


def requantised(r: Reader, node: NodeProto, x: Operand, functions: Sequence[Pointwise], y: Target) -> Integers:
    """Dequantise, apply pointwise float32 functions, quantise: a table; nothing at all where it is the identity."""
    qtype = x.integers.qtype
    q = np.arange(qtype.lo, qtype.hi + 1)
    values = box.dequantise(q, Quantisation(x.scale, x.zero_point))
    for function in functions:
        values = apply(function, values)
    table = box.quantise(values, Quantisation(y.scale, y.zero_point), y.qtype)
    return lookup(r, node, x.integers, table, y)


def lookup(r: Reader, node: NodeProto, x: Integers, table: Int64Array, y: Target) -> Integers:
    """A table over the stored integers; ``x`` itself where the table changes nothing."""
    if x.qtype == y.qtype and np.array_equal(table, np.arange(x.qtype.lo, x.qtype.hi + 1)):
        return x
    op = Lookup(node_name(node), x.index, x.qtype.lo, frozen_array(table, np.int64))
    return r.add(node, op, x.shape, y.qtype, q=_meaning(y))


def apply(function: Pointwise, values: Float32Array) -> Float32Array:
    """A pointwise function in float32."""
    match function.kind:
        case "relu":
            return np.maximum(values, np.float32(0))
        case "clip":
            return np.clip(values, np.float32(function.low), np.float32(function.high))
        case _:
            raise ValueError(function.kind)


def runtime_table(r: Reader, node: NodeProto, op_type: str, x: Operand, y: Target, attributes: dict[str, Any]) -> Int64Array:
    """The table of a unary QLinear operator, read off ONNX Runtime: all values of the type through the operator itself.

    Its kernels approximate the float functions in their own way (MLAS), so that no formula of ours would be the same to the last bit.
    """
    try:
        import onnxruntime
    except ImportError:
        raise r.unsupported(node, "its table is read off ONNX Runtime, which is absent: pip install 'bvverify[onnxruntime]'") from None
    from onnx import TensorProto, helper, numpy_helper

    dtypes = {True: np.int8, False: np.uint8}
    kinds = {True: TensorProto.INT8, False: TensorProto.UINT8}
    x_type, y_type = x.integers.qtype, y.qtype
    initialisers = [
        numpy_helper.from_array(np.array(x.scale, np.float32), "xs"),
        numpy_helper.from_array(np.array(x.zero_point, dtypes[x_type.signed]), "xz"),
        numpy_helper.from_array(np.array(y.scale, np.float32), "ys"),
        numpy_helper.from_array(np.array(y.zero_point, dtypes[y_type.signed]), "yz"),
    ]
    one = helper.make_node(op_type, ["x", "xs", "xz", "ys", "yz"], ["y"], domain="com.microsoft", **attributes)
    ends = [helper.make_tensor_value_info(n, kinds[t.signed], [256]) for n, t in (("x", x_type), ("y", y_type))]
    graph = helper.make_graph([one], "table", ends[:1], ends[1:], initialisers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    every = np.arange(x_type.lo, x_type.hi + 1).astype(dtypes[x_type.signed])
    return np.asarray(session.run(None, {"x": every})[0]).astype(np.int64)


def _in_pairs(r: Reader, node: NodeProto, x: Operand, w: Weights) -> bool:
    """Whether the profile's CPU sums the layer's products in saturating pairs: of uint8 by int8, as the runtime holds them."""
    if not r.profile.saturating_pairs or x.integers.runtime != UINT8 or w.qtype != INT8:
        return False
    if x.integers.qtype != UINT8 or w.zero_point.any():
        what = "weights with a zero point other than 0" if w.zero_point.any() else "an int8 input that runs as uint8"
        raise r.unsupported(node, f"accumulator {saturating_pairs.NAME} is not modelled for {what}; ask about accumulator exact")
    return True


def _saturating(r: Reader, node: NodeProto, op: _Layer, shape: tuple[int, ...]) -> _Layer:
    """The layer that saturates in pairs, behind the operations that make the excess of its pairs; it reads a tensor of ``shape``."""
    try:
        parts = saturating_pairs.expand(op, shape, len(r.ops) + 1)
    except ValueError as error:
        raise r.unsupported(node, f"under accumulator {saturating_pairs.NAME}, {error}; ask about accumulator exact") from None
    if parts is None:
        return op
    excess, joined, layer = parts
    units = len(excess.weight)
    r.add(node, excess, (units, *shape[1:]), saturating_pairs.EXCESS)
    r.add(node, joined, (shape[0] + units, *shape[1:]), saturating_pairs.EXCESS)
    assert isinstance(layer, type(op))
    return layer


def _meaning(y: Target) -> Quantisation:
    return Quantisation(y.scale, y.zero_point)


def _of(r: Reader, x: Integers) -> Quantisation | None:
    tensor = r.tensors[x.index]
    return None if tensor is None else tensor.quantisation


def _check_channels(r: Reader, node: NodeProto, w: Weights) -> None:
    channels = len(w.weight)
    for what, array in (("scale", w.scale), ("zero point", w.zero_point), ("bias", w.bias)):
        if array.size not in (1, channels):
            raise r.wrong(node, f"its weight has {channels} output channels and {array.size} values of its {what}")


def stored_type(qtype: QType, shift: int) -> QType:
    """The type of the stored integers: uint8 where int8 was shifted there."""
    return QType(qtype.bits, signed=False) if shift else qtype
