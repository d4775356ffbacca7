"""ONNX graphs of floats, as networks over the reals (``bvverify.model.real``): the originals that int8 networks were made of.

Nodes in a row: Conv, Gemm, MatMul (and Add of a constant behind it), Relu, MaxPool, Flatten, Reshape, Identity, Dropout. Whatever else is
there is refused by name.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import NodeProto

from bvverify.errors import UnsupportedError
from bvverify.load.onnx_file import graph_of, initialiser, needed, read_input
from bvverify.load.onnx_qoperator import WINDOW
from bvverify.load.onnx_reader import Reader
from bvverify.load.onnx_values import Constant, FloatInput
from bvverify.load.profile import OnnxRuntime
from bvverify.model.real import Affine, Convolution, Largest, RealNetwork, RealOp, Relu, Shaped
from bvverify.model.types import AnyArray, Float32Array, frozen_array

_KNOWN = ("Add", "Conv", "Dropout", "Flatten", "Gemm", "Identity", "MatMul", "MaxPool", "Relu", "Reshape")
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm", "QLinearAdd")


def is_float(path: Path, content: bytes) -> bool:
    """Whether an ONNX file takes floats and quantises nothing."""
    graph = graph_of(path, content)
    return not any(node.op_type in _QUANTISED for node in graph.node) and any(
        i.type.tensor_type.elem_type == 1 for i in graph.input if i.name not in {t.name for t in graph.initializer}
    )


def load_float(path: Path, content: bytes) -> RealNetwork:
    """The network of a float file; ``UnsupportedError`` names the node that has no place in it."""
    graph, r = graph_of(path, content), Reader(path, OnnxRuntime())
    for tensor in graph.initializer:
        r.values[tensor.name] = Constant(initialiser(path, tensor))
    shape = read_input(path, graph, r)
    if not isinstance(r.values[r.input_name], FloatInput):
        raise UnsupportedError(f"{path}: takes integers; a network of floats is read here")
    at, file_shape = r.input_name, (1, *shape)
    ops: list[RealOp] = []
    shapes = [shape]
    for node in needed(graph):
        if node.op_type == "Constant":
            r.values[node.output[0]] = Constant(initialiser(path, next(a.t for a in node.attribute if a.name == "value")))
            continue
        reads = [name for name in node.input if name and not isinstance(r.values.get(name), Constant)]
        if node.op_type not in _KNOWN or node.domain not in ("", "ai.onnx"):
            raise r.unsupported(node, f"has no place in a network over the reals; known are {', '.join(_KNOWN)}")
        if reads != [at]:
            raise r.unsupported(node, "reads something else than the node before it; networks over the reals are layers in a row")
        try:
            op = _layer(r, node, shapes[-1], ops)
        except (ValueError, IndexError, TypeError, OverflowError) as error:
            raise r.wrong(node, " ".join(str(error).split())) from error
        at = node.output[0]
        if op is not None:
            ops.append(op)
            shapes.append(output_shape(op, shapes[-1]))
    if [o.name for o in graph.output] != [at]:
        raise UnsupportedError(f"{path}: has other outputs than what its last node makes")
    return RealNetwork(str(path), hashlib.sha256(content).hexdigest(), file_shape, tuple(ops), tuple(shapes))


def output_shape(op: RealOp, shape: tuple[int, ...]) -> tuple[int, ...]:
    """What a layer makes of a shape; ``ValueError`` where it does not fit."""
    match op:
        case Affine():
            if shape != (op.weight.shape[1],):
                raise ValueError(f"a weight of {op.weight.shape} does not take {shape}")
            return (len(op.weight),)
        case Convolution():
            if len(shape) != 3 or shape[0] != op.weight.shape[1] * op.groups or len(op.weight) % op.groups:
                raise ValueError(f"a weight of {op.weight.shape} in {op.groups} groups does not take {shape}")
            return (len(op.weight), *op.window.output(*shape[1:]))
        case Largest():
            return (shape[0], *op.window.output(*shape[1:]))
        case Shaped():
            if np.prod(op.shape) != np.prod(shape):
                raise ValueError(f"{shape} does not reshape to {op.shape}")
            return op.shape
        case Relu():
            return shape


def _layer(r: Reader, node: NodeProto, shape: tuple[int, ...], ops: list[RealOp]) -> RealOp | None:
    name = node.name or node.output[0]
    match node.op_type:
        case "Conv":
            a = r.attributes(node, **WINDOW, group=1)
            weight = _floats(r, node, 1, "weight")
            kernel = (int(weight.shape[2]), int(weight.shape[3]))
            bias = _floats(r, node, 2, "bias") if r.has(node, 2) else np.zeros(len(weight), np.float32)
            return Convolution(name, weight, _fits(r, node, bias, len(weight)), r.window(node, a, kernel, shape), int(a["group"]))
        case "Gemm":
            a = r.attributes(node, alpha=1.0, beta=1.0, transA=0, transB=0)
            if (a["alpha"], a["beta"], a["transA"]) != (1.0, 1.0, 0):
                raise r.unsupported(node, "alpha, beta and transA are taken at 1, 1 and 0 only")
            weight = _floats(r, node, 1, "weight")
            weight = weight if a["transB"] else weight.T
            bias = _floats(r, node, 2, "bias") if r.has(node, 2) else np.zeros(len(weight), np.float32)
            return Affine(name, frozen_array(weight, np.float32), _fits(r, node, bias, len(weight)))
        case "MatMul":
            r.attributes(node)
            weight = _floats(r, node, 1, "weight").T
            return Affine(name, frozen_array(weight, np.float32), np.zeros(len(weight), np.float32))
        case "Add":
            last = ops[-1] if ops else None
            if not isinstance(last, Affine) or last.bias.any():
                raise r.unsupported(node, "adds a constant to something else than a MatMul")
            constant = next(v for name in node.input if isinstance(v := r.values.get(name), Constant))
            ops[-1] = replace(last, bias=_fits(r, node, _checked(r, node, constant.array, "bias"), len(last.weight)))
            return None
        case "Relu":
            r.attributes(node)
            return Relu(name)
        case "MaxPool":
            a = r.attributes(node, **WINDOW, ceil_mode=0, storage_order=0)
            if a["ceil_mode"] or a["storage_order"] or a["kernel_shape"] is None or len(shape) != 3:
                raise r.unsupported(node, "ceil_mode and storage_order are not supported, and kernel_shape over an image is needed")
            return Largest(name, r.window(node, a, tuple(a["kernel_shape"]), shape))
        case "Flatten":
            if int(r.attributes(node, axis=1)["axis"]) not in (1, -len(shape)):
                raise r.unsupported(node, "flattens each input whole, along axis 1")
            return Shaped(name, (int(np.prod(shape)),))
        case "Reshape":
            r.attributes(node, allowzero=0)
            wanted = [int(v) for v in r.constant(node, 1, "shape").reshape(-1)][1:]
            wanted = [shape[i] if v == 0 and i < len(shape) else v for i, v in enumerate(wanted)]
            rest = int(np.prod([v for v in wanted if v != -1]))
            return Shaped(name, tuple(int(np.prod(shape)) // rest if v == -1 and rest else v for v in wanted))
        case _:
            return None


def _floats(r: Reader, node: NodeProto, index: int, what: str) -> Float32Array:
    return _checked(r, node, r.constant(node, index, what), what)


def _checked(r: Reader, node: NodeProto, array: AnyArray, what: str) -> Float32Array:
    if array.dtype != np.float32 or not np.isfinite(array).all():
        raise r.unsupported(node, f"its {what} is not of finite float32")
    return np.asarray(frozen_array(array, np.float32))


def _fits(r: Reader, node: NodeProto, bias: Float32Array, channels: int) -> Float32Array:
    if bias.size not in (1, channels):
        raise r.unsupported(node, f"its bias has {bias.size} values for {channels} channels")
    return np.asarray(frozen_array(np.broadcast_to(bias.reshape(-1), (channels,)), np.float32))
