"""An ONNX file to a network, read as ONNX Runtime's CPU provider executes it: QOperator graphs, and QDQ graphs as far as they are fused."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnx import GraphProto, NodeProto, TensorProto

from bvverify.errors import InputError, UnsupportedError
from bvverify.load import onnx_qdq, onnx_qoperator, onnx_shapes
from bvverify.load.onnx_reader import Reader, array_of
from bvverify.load.onnx_values import Constant, FloatInput, Integers, Reals, Value
from bvverify.load.profile import OnnxRuntime
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.types import INT8, UINT8, Quantisation, Tensor

HANDLERS: dict[str, Callable[[Reader, NodeProto], Value]] = {**onnx_qoperator.HANDLERS, **onnx_qdq.HANDLERS, **onnx_shapes.HANDLERS}
_DOMAINS = ("", "ai.onnx", "com.microsoft")
_INTEGER_INPUTS = {TensorProto.UINT8: UINT8, TensorProto.INT8: INT8}


def load_onnx(path: Path, content: bytes, profile: OnnxRuntime) -> Network:
    """The network of an ONNX file; ``UnsupportedError`` names the node that is no exact integer function."""
    graph = graph_of(path, content)
    r = Reader(path, profile)
    nodes = needed(graph)
    for tensor in graph.initializer:
        r.values[tensor.name] = Constant(initialiser(path, tensor))
    r.outputs = {o.name for o in graph.output}
    r.uses = Counter(name for node in nodes for name in node.input) + Counter(r.outputs)
    for node in nodes:
        for name in set(node.input):
            r.consumers.setdefault(name, []).append(node)
    file_shape = read_input(path, graph, r)
    for node in nodes:
        _read_node(path, node, r)
    output = _read_output(path, graph, r)
    tensors = tuple(t for t in r.tensors if t is not None)
    if len(tensors) != len(r.tensors):
        raise UnsupportedError(f"{path}: no QuantizeLinear makes integers of the graph's input; bvverify needs a quantised model")
    declared = Input(tensors[0], (1, *file_shape), r.quantiser)
    provenance = Provenance(str(path), "onnx", str(profile), hashlib.sha256(content).hexdigest())
    try:
        return Network(declared, tuple(r.ops), tensors, output, provenance)
    except ValueError as error:
        raise InputError(f"{path}: node {error}") from error


def graph_of(path: Path, content: bytes) -> GraphProto:
    """The graph of an ONNX file; ``InputError`` where there is none."""
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: is no readable ONNX file: {' '.join(str(error).split())}") from error
    if not model.graph.node or not model.graph.output:
        raise InputError(f"{path}: is no ONNX model: it holds no graph with nodes and outputs")
    return model.graph


def needed(graph: GraphProto) -> list[NodeProto]:
    """The nodes that the outputs depend on, in order; exporters leave others behind."""
    wanted = {o.name for o in graph.output}
    chosen = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            chosen.append(node)
            wanted |= set(node.input)
    return chosen[::-1]


def initialiser(path: Path, tensor: Any) -> Any:
    """A stored tensor as an array."""
    if tensor.data_location == TensorProto.EXTERNAL:
        raise UnsupportedError(f"{path}: initialiser {tensor.name} lies in another file; save the model in one file")
    try:
        return array_of(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: initialiser {tensor.name} cannot be read: {' '.join(str(error).split())}") from error


def read_input(path: Path, graph: GraphProto, r: Reader) -> tuple[int, ...]:
    """Enter the graph's input among the values; returns its shape without the batch axis."""
    inputs = [i for i in graph.input if i.name not in r.values]
    if len(inputs) != 1:
        raise UnsupportedError(f"{path}: has {len(inputs)} inputs ({', '.join(i.name for i in inputs)}); bvverify takes one")
    declared = inputs[0].type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else None for d in declared.shape.dim]
    if len(dims) < 2 or dims[0] not in (None, 1) or any(d is None or d < 1 for d in dims[1:]):
        shown = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in declared.shape.dim]
        raise UnsupportedError(f"{path}: input {inputs[0].name} has the shape {shown}; a batch axis of 1 (or free) and fixed ones are read")
    shape = tuple(int(d) for d in dims[1:] if d is not None)
    r.input_name, r.input_shape = inputs[0].name, shape
    if declared.elem_type == TensorProto.FLOAT:
        r.values[inputs[0].name] = FloatInput((), shape)
    elif declared.elem_type in _INTEGER_INPUTS:
        qtype = _INTEGER_INPUTS[declared.elem_type]
        r.tensors[0] = Tensor(inputs[0].name, shape, qtype)
        r.values[inputs[0].name] = Integers(0, shape, qtype, 0, qtype)
    else:
        name = TensorProto.DataType.Name(declared.elem_type)
        raise UnsupportedError(f"{path}: input {inputs[0].name} is {name}; bvverify takes FLOAT, UINT8 and INT8")
    return shape


def _read_node(path: Path, node: NodeProto, r: Reader) -> None:
    if node.op_type == "Constant":
        held = [a.t for a in node.attribute if a.name == "value"]
        if len(held) != 1:
            raise r.unsupported(node, "holds something else than one tensor")
        r.values[node.output[0]] = Constant(initialiser(path, held[0]))
        return
    handler = HANDLERS.get(node.op_type) if node.domain in _DOMAINS else None
    if handler is None:
        domain = f" of {node.domain}" if node.domain not in _DOMAINS else ""
        raise r.unsupported(
            node,
            f"bvverify has no exact integer reading of it{domain}; supported are {', '.join(sorted([*HANDLERS, 'Constant']))}",
        )
    try:
        r.values[node.output[0]] = handler(r, node)
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        # Shapes and values that contradict each other surface in NumPy or in the model's own checks.
        raise r.wrong(node, " ".join(str(error).split())) from error


def _read_output(path: Path, graph: GraphProto, r: Reader) -> Output:
    if len(graph.output) != 1:
        raise UnsupportedError(f"{path}: has {len(graph.output)} outputs ({', '.join(o.name for o in graph.output)}); bvverify takes one")
    name = graph.output[0].name
    if name not in r.values:
        raise InputError(f"{path}: no node makes the graph's output {name!r}")
    match r.values[name]:
        case Integers(index=index, shape=shape, shift=0):
            return Output(index, (1, *shape))
        case Reals(integers=integers, scale=scale, zero_point=zero_point, functions=()):
            return Output(integers.index, (1, *integers.shape), Quantisation(scale, zero_point))
        case _:
            raise UnsupportedError(f"{path}: output {name!r} is no quantised tensor; end the graph in integers or in a DequantizeLinear")
