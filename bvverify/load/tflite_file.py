"""A .tflite file to a network, read as LiteRT computes it in one of its kernel modes, or as CMSIS-NN does."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from bvverify.errors import InputError, UnsupportedError
from bvverify.load.tflite_arithmetic import Runtime
from bvverify.load.tflite_graph import Graph, Node, parse
from bvverify.load.tflite_layers import HANDLERS
from bvverify.load.tflite_reader import Reader, Value
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.types import INT8, AnyArray, Tensor

_SHAPES = ("SHAPE", "STRIDED_SLICE", "PACK")


def load_tflite(path: Path, content: bytes, runtime: Runtime) -> Network:
    """The network of a .tflite file; ``UnsupportedError`` names the operator that is no exact integer function."""
    graph = parse(path, content)
    r = Reader(path, graph, runtime)
    entry = graph.tensors[graph.input]
    shape, meaning = r.meaning(entry, "its input")
    r.tensors.append(Tensor(entry.name, shape, INT8, meaning))
    r.values[entry.index] = Value(shape, meaning, plain=0)
    output, stripped = graph.output, None
    for node in _needed(graph):
        if node.kind == "SOFTMAX" and output in node.outputs:
            # Monotone before it rounds; what it rounds away would hide differences between logits.
            output, stripped = r.tensor(node, 0).index, node.kind
        elif node.kind in _SHAPES:
            r.constants[node.outputs[0]] = _shape_arithmetic(r, node)
        else:
            _read(r, node)
    if output not in r.values:
        raise InputError(f"{path}: no operator makes its output {graph.tensors[output].name!r}")
    value = r.values[output]
    declared = Output(r.plain(value), (1, *value.shape), None, stripped)
    provenance = Provenance(str(path), "tflite", str(runtime), hashlib.sha256(content).hexdigest())
    try:
        return Network(Input(r.tensors[0], entry.shape), tuple(r.ops), tuple(r.tensors), declared, provenance)
    except ValueError as error:
        raise UnsupportedError(f"{path}: {error}") from error


def _needed(graph: Graph) -> list[Node]:
    """The operators that the output depends on, in order."""
    wanted, chosen = {graph.output}, []
    for node in reversed(graph.nodes):
        if wanted & set(node.outputs):
            chosen.append(node)
            wanted |= set(node.inputs)
    return chosen[::-1]


def _read(r: Reader, node: Node) -> None:
    handler = HANDLERS.get(node.kind)
    if handler is None:
        raise r.unsupported(node, f"bvverify has no exact integer reading of it; supported are {', '.join(sorted([*HANDLERS, *_SHAPES]))}")
    try:
        value = handler(r, node)
    except (ValueError, IndexError, TypeError, KeyError, OverflowError) as error:
        # Shapes and values that contradict each other surface in NumPy or in the model's own checks.
        raise r.wrong(node, " ".join(str(error).split())) from error
    index = value.image if value.plain is None else value.plain
    made = r.tensors[0 if index is None else index].shape
    if made != (value.shape if value.plain is not None else (value.shape[-1], *value.shape[:-1])):
        raise r.wrong(node, f"makes the shape {made}, where the file declares (1, {', '.join(map(str, value.shape))})")
    r.values[node.outputs[0]] = value


def _shape_arithmetic(r: Reader, node: Node) -> AnyArray:
    """What converters write in front of a RESHAPE: the shape of a tensor, elements of it, and constants packed again."""
    match node.kind:
        case "SHAPE":
            tensor = r.tensor(node, 0)
            return np.array((1, *r.value(node, 0).shape) if tensor.index in r.values else tensor.shape, np.int64)
        case "PACK":
            parts = [r.constant(node, i, "INT32").reshape(()) for i in range(len(node.inputs))]
            return np.array(parts, np.int64)
        case _:
            x, begin, end, step = (r.constant(node, i, "INT32").reshape(-1) for i in range(4))
            masks = [node.options.get(m, 0) for m in ("beginMask", "endMask", "ellipsisMask", "newAxisMask")]
            if any(masks) or not len(begin) == len(end) == len(step) == 1:
                raise r.unsupported(node, "masks and more than one axis are not supported")
            part = x[int(begin[0]) : int(end[0]) : int(step[0])]
            return part[0] if node.options.get("shrinkAxisMask") else part
