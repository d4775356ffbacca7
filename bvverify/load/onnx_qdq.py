"""QDQ graphs: float operators between DequantizeLinear and QuantizeLinear, as ONNX Runtime fuses them into integer ones.

Only what it fuses is an exact integer function; everything else it runs in float32, and this reader refuses it with the node. The rules,
measured with ONNX Runtime 1.32 on x86-64 (``SessionOptions.optimized_model_filepath`` shows the graph that runs):

* an operator is fused when its activations come from DequantizeLinear, its result goes to one QuantizeLinear and nowhere else, and
  input and output have the same 8-bit type;
* signed activations are not fused unless ``session.qdqisint8allowed`` is on. By default a signed QuantizeLinear whose one reader is a
  DequantizeLinear with one reader is first moved to uint8 (128 is added to integers and zero points); where the tensor has a second
  reader it stays signed, and the operators on it stay in float;
* a Relu or Clip in front of a QuantizeLinear disappears where saturation does the same; where it does not, Conv and Gemm stay in float;
* the scale of a dequantised int32 bias is not looked at;
* MaxPool, Reshape and their like move or choose values, and a function of one value between DequantizeLinear and QuantizeLinear is a table,
  fused or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from onnx import NodeProto

from bvverify.load import onnx_layers as layers
from bvverify.load.onnx_layers import Operand, Weights
from bvverify.load.onnx_qoperator import WINDOW
from bvverify.load.onnx_reader import Reader, node_name
from bvverify.load.onnx_values import Constant, ConstantReals, FloatInput, Integers, Pending, Pointwise, Reals, Target, Value
from bvverify.model import box
from bvverify.model.types import INT8, UINT8, Float32Array, Int64Array, Quantisation, Tensor

_INTEGER_SUMS = ("Conv", "Gemm", "MatMul", "GlobalAveragePool")
"""Operators whose integers do not depend on where their type begins: as int8 they compute the shifted uint8 results."""


def quantize_linear(r: Reader, node: NodeProto) -> Value:
    """Where float becomes integers: the end of a fused operator, of the float input, or of a pointwise function."""
    r.attributes(node, axis=1, saturate=1, output_dtype=0, block_size=0, precision=0)
    x = r.value(node, 0)
    if isinstance(x, Constant):
        return Constant(_quantised_constant(r, node, x))
    scale, (zero_point, qtype) = r.scalar_scale(node, 1), r.scalar_zero_point(node, 2)
    shift = 128 if qtype == INT8 and not r.profile.int8_allowed and _moves_to_unsigned(r, node) else 0
    runtime = UINT8 if shift else qtype
    if shift and isinstance(x, Pending) and x.op_type in _INTEGER_SUMS and _ends_the_graph(r, node):
        shift = 0  # so that the network's last integers are those of the file
    y = Target(scale, zero_point + shift, layers.stored_type(qtype, shift))
    match x:
        case FloatInput():
            made = _input(r, node, x, y)
        case Reals():
            made = layers.requantised(r, node, Operand(x.integers, x.scale, x.zero_point), x.functions, y)
        case Pending():
            made = _finish(r, node, x, y)
        case _:
            raise r.unsupported(node, "quantises something that is no float activation")
    made = replace(made, shift=shift, runtime=runtime)
    if isinstance(x, Pending) and x.runtime is not None and x.runtime != runtime:
        raise r.unsupported(
            node, f"ONNX Runtime leaves the {x.op_type} before it in float, because its input is {x.runtime} and its output {runtime}"
        )
    return made


def _finish(r: Reader, node: NodeProto, x: Pending, y: Target) -> Integers:
    low, high = ((v - y.zero_point) * np.float32(y.scale) for v in (y.qtype.lo, y.qtype.hi))
    for function in x.functions:
        redundant = low >= 0 if function.kind == "relu" else function.low <= low and function.high >= high
        if not redundant:
            raise r.unsupported(
                node,
                f"ONNX Runtime leaves {x.op_type} and {function.kind} ({function.name}) in float, because the type's range reaches beyond "
                f"the activation's; a zero point at the type's minimum lets saturation be the activation",
            )
    return x.finish(y)


def _input(r: Reader, node: NodeProto, x: FloatInput, y: Target) -> Integers:
    quantiser = Quantisation(y.scale, y.zero_point)
    first = r.tensors[0]
    if first is None:
        first = Tensor(r.input_name, r.input_shape, y.qtype, quantiser)
        r.tensors[0], r.quantiser = first, quantiser
    elif r.quantiser != quantiser or first.qtype != y.qtype:
        raise r.unsupported(node, "quantises the input a second time, with another scale or zero point; bvverify takes one integer input")
    made = Integers(0, first.shape, first.qtype)
    for move in x.moves:
        made = layers.moved(r, node, made, move)
    return made


def _moves_to_unsigned(r: Reader, node: NodeProto) -> bool:
    """Whether the runtime's optimiser moves this signed pair to uint8: one reader, a DequantizeLinear, that has one reader itself."""
    name = node.output[0]
    readers = r.consumers.get(name, [])
    if name in r.outputs or len(readers) != 1 or readers[0].op_type != "DequantizeLinear":
        return False
    return r.uses[readers[0].output[0]] <= 1


def _ends_the_graph(r: Reader, node: NodeProto) -> bool:
    return all(reader.output[0] in r.outputs for reader in r.consumers.get(node.output[0], []))


def _quantised_constant(r: Reader, node: NodeProto, x: Constant) -> Int64Array:
    scale, (zero_point, qtype) = r.scale(node, 1), r.zero_points(node, 2)
    if scale.size != 1 or zero_point.size != 1:
        raise r.unsupported(node, "quantises a constant channel by channel; store the constant as integers")
    values = box.quantise(x.array, Quantisation(float(scale[0]), int(zero_point[0])), qtype)
    return values.astype(np.int8 if qtype.signed else np.uint8)


def dequantize_linear(r: Reader, node: NodeProto) -> Value:
    """Where integers get their meaning: activations, weights, a bias."""
    a = r.attributes(node, axis=1, block_size=0, output_dtype=0)
    if a["block_size"]:
        raise r.unsupported(node, "blocked quantisation is not supported")
    x = r.value(node, 0)
    match x:
        case Constant():
            scale = r.scale(node, 1)
            zero = r.constant(node, 2, "zero point").reshape(-1).astype(np.int64) if r.has(node, 2) else np.zeros(1, np.int64)
            return ConstantReals(x.array, scale, zero, int(a["axis"]) % max(x.array.ndim, 1))
        case Integers():
            zero_point, qtype = r.scalar_zero_point(node, 2)
            if (INT8 if x.shift else x.qtype) != qtype:
                raise r.wrong(node, f"reads {x.qtype} with a zero point of type {qtype}")
            return Reals(x, r.scalar_scale(node, 1), zero_point + x.shift)
        case _:
            raise r.unsupported(node, "dequantises something that is no integer tensor")


def conv(r: Reader, node: NodeProto) -> Value:
    """Conv, fused to QLinearConv."""
    a = r.attributes(node, **WINDOW, group=1)
    x, w = _activation(r, node, 0), _weights(r, node, 1)
    if w.array.ndim != 4:
        raise r.unsupported(node, f"a weight of shape {w.array.shape}; bvverify takes two-dimensional convolutions")
    kernel = (w.array.shape[2], w.array.shape[3])
    if a["kernel_shape"] is not None and tuple(a["kernel_shape"]) != kernel:
        raise r.wrong(node, f"kernel_shape {tuple(a['kernel_shape'])} does not fit the weight {w.array.shape}")
    weights = _as_weights(r, node, w, w.array.astype(np.int64), 0)
    window = r.window(node, a, kernel, x.integers.shape)
    shape = (len(w.array), *window.output(*x.integers.shape[1:]))
    return _pending(r, node, x, shape, lambda y: layers.convolution(r, node, x, weights, window, int(a["group"]), y))


def gemm(r: Reader, node: NodeProto) -> Value:
    """Gemm, fused to QGemm."""
    a = r.attributes(node, alpha=1.0, beta=1.0, transA=0, transB=0)
    if a["alpha"] != 1.0 or a["beta"] != 1.0 or a["transA"]:
        raise r.unsupported(node, "alpha or beta other than 1, or transA, is not supported")
    x, w = _activation(r, node, 0), _weights(r, node, 1)
    if w.array.ndim != 2:
        raise r.unsupported(node, f"a weight of shape {w.array.shape}; bvverify takes matrices")
    weight = w.array.astype(np.int64) if a["transB"] else w.array.astype(np.int64).T
    weights = _as_weights(r, node, w, weight, 0 if a["transB"] else 1)
    return _pending(r, node, x, (len(weight),), lambda y: layers.dense(r, node, x, weights, y))


def matmul(r: Reader, node: NodeProto) -> Value:
    """MatMul, fused to QLinearMatMul."""
    r.attributes(node)
    x, w = _activation(r, node, 0), _weights(r, node, 1)
    if w.array.ndim != 2:
        raise r.unsupported(node, f"a weight of shape {w.array.shape}; bvverify takes matrices")
    weights = _as_weights(r, node, w, w.array.astype(np.int64).T, 1)
    return _pending(r, node, x, (w.array.shape[1],), lambda y: layers.dense(r, node, x, weights, y))


def add(r: Reader, node: NodeProto) -> Value:
    """Add, fused to QLinearAdd."""
    r.attributes(node)
    a, b = _activation(r, node, 0), _activation(r, node, 1)
    if a.integers.runtime != b.integers.runtime:
        raise r.unsupported(node, f"ONNX Runtime leaves it in float, because it adds {a.integers.runtime} and {b.integers.runtime}")
    return _pending(r, node, a, a.integers.shape, lambda y: layers.addition(r, node, a, b, y))


def average_pool(r: Reader, node: NodeProto) -> Value:
    """AveragePool, fused to QLinearAveragePool."""
    a = r.attributes(node, **WINDOW, ceil_mode=0, count_include_pad=0)
    if a["ceil_mode"] or a["kernel_shape"] is None:
        raise r.unsupported(node, "ceil_mode is not supported, and kernel_shape is needed")
    x = _activation(r, node, 0)
    window = r.window(node, a, tuple(a["kernel_shape"]), x.integers.shape)
    shape = (x.integers.shape[0], *window.output(*x.integers.shape[1:]))
    return _pending(r, node, x, shape, lambda y: layers.average(r, node, x, window, bool(a["count_include_pad"]), y))


def global_average_pool(r: Reader, node: NodeProto) -> Value:
    """GlobalAveragePool, fused to QLinearGlobalAveragePool."""
    r.attributes(node)
    x = _activation(r, node, 0)
    return _pending(r, node, x, (x.integers.shape[0], 1, 1), lambda y: layers.global_average(r, node, x, y))


def unary(r: Reader, node: NodeProto) -> Value:
    """Sigmoid and LeakyRelu, fused to their QLinear twins: a table."""
    a = r.attributes(node, alpha=0.01) if node.op_type == "LeakyRelu" else r.attributes(node)
    x = _activation(r, node, 0)

    def finish(y: Target) -> Integers:
        return layers.lookup(r, node, x.integers, layers.runtime_table(r, node, f"QLinear{node.op_type}", x, y, a), y)

    return _pending(r, node, x, x.integers.shape, finish)


def concat(r: Reader, node: NodeProto) -> Value:
    """Concat of dequantised parts: a table for each, whether it is fused or not; of integers of one type: as they are."""
    axis = int(r.attributes(node, axis=None)["axis"] or 0)
    values = [r.value(node, i) for i in range(len(node.input))]
    if not values or not all(isinstance(v, Reals) and not v.functions for v in values):
        raise r.unsupported(node, "joins something else than dequantised activations")
    parts = [Operand(v.integers, v.scale, v.zero_point) for v in values if isinstance(v, Reals)]
    axis = axis + len(parts[0].integers.shape) + 1 if axis < 0 else axis
    return Pending(node_name(node), node.op_type, (), lambda y: layers.concatenation(r, node, parts, axis - 1, y))


def relu(r: Reader, node: NodeProto) -> Value:
    """Relu on a float value."""
    r.attributes(node)
    return _pointwise(r, node, r.value(node, 0), Pointwise(node_name(node), "relu"))


def clip(r: Reader, node: NodeProto) -> Value:
    """Clip: on integers (as quantisation-aware exporters narrow a type), on constants, on a float value."""
    a = r.attributes(node, min=None, max=None)
    x = r.value(node, 0)
    ends = [r.constant(node, i, what) if r.has(node, i) else None for i, what in ((1, "minimum"), (2, "maximum"))]
    low, high = (float(end) if end is not None else a[key] for end, key in zip(ends, ("min", "max"), strict=True))
    low, high = (-np.inf if low is None else low), (np.inf if high is None else high)
    match x:
        case Constant():
            return Constant(np.clip(x.array, low, high).astype(x.array.dtype))
        case Integers():
            lo = x.qtype.lo if np.isinf(low) else int(low) + x.shift
            hi = x.qtype.hi if np.isinf(high) else int(high) + x.shift
            return layers.clamp(r, node, x, lo, hi)
        case _:
            return _pointwise(r, node, x, Pointwise(node_name(node), "clip", low, high))


def _pointwise(r: Reader, node: NodeProto, x: Value, function: Pointwise) -> Value:
    match x:
        case Reals():
            return replace(x, functions=(*x.functions, function))
        case Pending():
            _alone(r, node, node.input[0])
            return replace(x, functions=(*x.functions, function))
        case _:
            raise r.unsupported(node, "works on floats that no quantised tensor stands behind")


def _pending(r: Reader, node: NodeProto, x: Operand, shape: tuple[int, ...], finish: Callable[[Target], Integers]) -> Pending:
    if x.integers.runtime.signed and not r.profile.int8_allowed:
        raise r.unsupported(
            node,
            "ONNX Runtime leaves it in float by default, because its signed input has another reader or stays signed; "
            "quantise activations to uint8, or run with session.qdqisint8allowed=1 and say --semantics onnxruntime:qdqisint8allowed=1",
        )
    _alone(r, node, node.output[0])
    return Pending(node_name(node), node.op_type, shape, finish, runtime=x.integers.runtime)


def _alone(r: Reader, node: NodeProto, name: str) -> None:
    if name in r.outputs:
        raise r.unsupported(node, "the graph ends in its float result; put QuantizeLinear and DequantizeLinear behind it")
    if r.uses[name] != 1:
        raise r.unsupported(node, f"its float result {name!r} has {r.uses[name]} readers; it is fused with one QuantizeLinear only")


def _activation(r: Reader, node: NodeProto, index: int) -> Operand:
    x = r.value(node, index)
    if not isinstance(x, Reals):
        raise r.unsupported(node, "reads floats that come from no DequantizeLinear, so ONNX Runtime computes it in float")
    if x.functions:
        raise r.unsupported(node, f"reads the float result of {x.functions[-1].name}; put QuantizeLinear and DequantizeLinear between them")
    return Operand(x.integers, x.scale, x.zero_point)


def _weights(r: Reader, node: NodeProto, index: int) -> ConstantReals:
    w = r.value(node, index)
    if not isinstance(w, ConstantReals):
        raise r.unsupported(node, "its weight is no dequantised constant, so ONNX Runtime computes it in float")
    if w.array.dtype not in (np.int8, np.uint8):
        raise r.unsupported(node, f"its weight is {w.array.dtype}; bvverify takes uint8 and int8")
    return w


def _as_weights(r: Reader, node: NodeProto, w: ConstantReals, weight: Int64Array, axis: int) -> Weights:
    if max(w.scale.size, w.zero_point.size) > 1 and w.axis != axis:
        raise r.unsupported(node, f"its weight's scales run along axis {w.axis}; they have to run along the output channels (axis {axis})")
    activation = r.value(node, 0)
    if isinstance(activation, Reals) and activation.integers.runtime.signed and w.array.dtype != np.int8:
        raise r.unsupported(node, "ONNX Runtime leaves it in float, because its activation is signed and its weight is not")
    bias = np.zeros(len(weight), np.int64)
    if r.has(node, 2):
        b = r.value(node, 2)
        if not isinstance(b, ConstantReals) or b.array.dtype != np.int32 or b.zero_point.any():
            raise r.unsupported(node, "its bias is no dequantised int32 constant, so ONNX Runtime computes it in float")
        if b.array.size not in (1, len(weight)):
            raise r.wrong(node, f"its bias has {b.array.size} values for {len(weight)} output channels")
        bias = np.broadcast_to(b.array.reshape(-1).astype(np.int64), (len(weight),))
    scale: Float32Array = w.scale
    return Weights(weight, w.zero_point, scale, bias, INT8 if w.array.dtype == np.int8 else UINT8)


HANDLERS: dict[str, Callable[[Reader, NodeProto], Value]] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "Add": add,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "Sigmoid": unary,
    "LeakyRelu": unary,
    "Concat": concat,
    "Relu": relu,
    "Clip": clip,
}
