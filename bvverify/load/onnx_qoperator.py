"""QOperator nodes: each names all its scales and zero points itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import NodeProto

from bvverify.load import onnx_layers as layers
from bvverify.load.onnx_layers import Operand, Weights
from bvverify.load.onnx_reader import Reader
from bvverify.load.onnx_values import Integers, Target

WINDOW = {"auto_pad": b"NOTSET", "strides": None, "dilations": None, "pads": None, "kernel_shape": None}


def operand(r: Reader, node: NodeProto, x: int, scale: int, zero: int) -> Operand:
    """An activation with the scale and zero point that the node names for it."""
    integers = r.integers(node, x)
    zero_point, qtype = r.scalar_zero_point(node, zero)
    if qtype != layers.stored_type(qtype, integers.shift) and integers.shift == 0:
        raise r.wrong(node, "mixes types")
    if integers.shift == 0 and qtype != integers.qtype:
        raise r.wrong(node, f"reads {integers.qtype} with a zero point of type {qtype}")
    return Operand(integers, r.scalar_scale(node, scale), zero_point + integers.shift)


def target(r: Reader, node: NodeProto, scale: int, zero: int) -> Target:
    """What the node's result means."""
    zero_point, qtype = r.scalar_zero_point(node, zero)
    return Target(r.scalar_scale(node, scale), zero_point, qtype)


def qlinear_conv(r: Reader, node: NodeProto) -> Integers:
    """QLinearConv(x, xs, xz, w, ws, wz, ys, yz, bias)."""
    a = r.attributes(node, **WINDOW, group=1)
    x, (weight, qtype) = operand(r, node, 0, 1, 2), r.weight_of(node, 3)
    if weight.ndim != 4:
        raise r.unsupported(node, f"a weight of shape {weight.shape}; bvverify takes two-dimensional convolutions")
    w = Weights(weight, r.zero_points(node, 5)[0], r.scale(node, 4), r.bias_of(node, 8, len(weight)), qtype)
    kernel = (weight.shape[2], weight.shape[3])
    if a["kernel_shape"] is not None and tuple(a["kernel_shape"]) != kernel:
        raise r.wrong(node, f"kernel_shape {tuple(a['kernel_shape'])} does not fit the weight {weight.shape}")
    window = r.window(node, a, kernel, x.integers.shape)
    return layers.convolution(r, node, x, w, window, int(a["group"]), target(r, node, 6, 7))


def qlinear_matmul(r: Reader, node: NodeProto) -> Integers:
    """QLinearMatMul(a, as, az, b, bs, bz, ys, yz)."""
    r.attributes(node)
    x, (weight, qtype) = operand(r, node, 0, 1, 2), r.weight_of(node, 3)
    if weight.ndim != 2:
        raise r.unsupported(node, f"a weight of shape {weight.shape}; bvverify takes matrices")
    w = Weights(weight.T, r.zero_points(node, 5)[0], r.scale(node, 4), np.zeros(weight.shape[1], np.int64), qtype)
    return layers.dense(r, node, x, w, target(r, node, 6, 7))


def qgemm(r: Reader, node: NodeProto) -> Integers:
    """QGemm(A, as, az, B, bs, bz, C, ys, yz) of com.microsoft."""
    a = r.attributes(node, transA=0, transB=0, alpha=1.0)
    if a["transA"] or a["alpha"] != 1.0:
        raise r.unsupported(node, "transA or alpha other than 1 is not supported")
    if not r.has(node, 7):
        raise r.unsupported(node, "it ends in float (no output scale); give it an output scale and zero point")
    x, (weight, qtype) = operand(r, node, 0, 1, 2), r.weight_of(node, 3)
    if weight.ndim != 2:
        raise r.unsupported(node, f"a weight of shape {weight.shape}; bvverify takes matrices")
    weight = weight if a["transB"] else weight.T
    w = Weights(weight, r.zero_points(node, 5)[0], r.scale(node, 4), r.bias_of(node, 6, len(weight)), qtype)
    return layers.dense(r, node, x, w, target(r, node, 7, 8))


def qlinear_add(r: Reader, node: NodeProto) -> Integers:
    """QLinearAdd(A, as, az, B, bs, bz, ys, yz) of com.microsoft."""
    r.attributes(node)
    return layers.addition(r, node, operand(r, node, 0, 1, 2), operand(r, node, 3, 4, 5), target(r, node, 6, 7))


def qlinear_global_average(r: Reader, node: NodeProto) -> Integers:
    """QLinearGlobalAveragePool(X, xs, xz, ys, yz) of com.microsoft."""
    if r.attributes(node, channels_last=0)["channels_last"]:
        raise r.unsupported(node, "channels_last is not supported; bvverify takes channels first")
    return layers.global_average(r, node, operand(r, node, 0, 1, 2), target(r, node, 3, 4))


def qlinear_average(r: Reader, node: NodeProto) -> Integers:
    """QLinearAveragePool(X, xs, xz, ys, yz) of com.microsoft."""
    a = r.attributes(node, **WINDOW, ceil_mode=0, count_include_pad=0, channels_last=0)
    if a["ceil_mode"] or a["channels_last"] or a["kernel_shape"] is None:
        raise r.unsupported(node, "ceil_mode and channels_last are not supported, and kernel_shape is needed")
    x = operand(r, node, 0, 1, 2)
    window = r.window(node, a, tuple(a["kernel_shape"]), x.integers.shape)
    return layers.average(r, node, x, window, bool(a["count_include_pad"]), target(r, node, 3, 4))


def qlinear_unary(r: Reader, node: NodeProto) -> Integers:
    """QLinearSigmoid and QLinearLeakyRelu(X, xs, xz, ys, yz) of com.microsoft: a table."""
    a = r.attributes(node, alpha=0.01) if node.op_type == "QLinearLeakyRelu" else r.attributes(node)
    x, y = operand(r, node, 0, 1, 2), target(r, node, 3, 4)
    return layers.lookup(r, node, x.integers, layers.runtime_table(r, node, node.op_type, x, y, a), y)


def qlinear_concat(r: Reader, node: NodeProto) -> Integers:
    """QLinearConcat(ys, yz, (x, xs, xz) ...) of com.microsoft."""
    axis = int(r.attributes(node, axis=None)["axis"] or 0)
    if len(node.input) < 5 or (len(node.input) - 2) % 3:
        raise r.wrong(node, f"has {len(node.input)} inputs; two and three for each part are needed")
    xs = [operand(r, node, i, i + 1, i + 2) for i in range(2, len(node.input), 3)]
    axis = axis + len(xs[0].integers.shape) + 1 if axis < 0 else axis
    return layers.concatenation(r, node, xs, axis - 1, target(r, node, 0, 1))


HANDLERS: dict[str, Callable[[Reader, NodeProto], Integers]] = {
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QGemm": qgemm,
    "QLinearAdd": qlinear_add,
    "QLinearGlobalAveragePool": qlinear_global_average,
    "QLinearAveragePool": qlinear_average,
    "QLinearSigmoid": qlinear_unary,
    "QLinearLeakyRelu": qlinear_unary,
    "QLinearConcat": qlinear_concat,
}
