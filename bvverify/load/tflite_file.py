"""A .tflite file to a network, read as LiteRT computes it in one of its kernel modes, or as CMSIS-NN does."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from bvverify.errors import InputError, UnsupportedError
from bvverify.load import tflite_arithmetic as arithmetic
from bvverify.load.profile import TfLite
from bvverify.load.tflite_arithmetic import Runtime
from bvverify.load.tflite_graph import Graph, Node, TfTensor, parse
from bvverify.load.tflite_layers import HANDLERS
from bvverify.load.tflite_reader import Reader, Value
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.types import INT8, AnyArray, Tensor

_VECTOR = 16
"""Floats that the optimised QUANTIZE takes at a time: it multiplies and rounds them half to even, what is left over half away."""
_SHAPES = ("SHAPE", "STRIDED_SLICE", "PACK")


def load_tflite(path: Path, content: bytes, runtime: Runtime) -> Network:
    """The network of a .tflite file; ``UnsupportedError`` names the operator that is no exact integer function."""
    graph = parse(path, content)
    r = Reader(path, graph, runtime)
    nodes, entry = _needed(graph), graph.tensors[graph.input]
    first, quantiser = entry, None
    if entry.kind == "FLOAT32":
        first, nodes = _quantised_input(r, nodes)
        quantiser = arithmetic.quantiser(runtime, r.meaning(first, "its quantised input")[1])
    shape, meaning = r.meaning(first, "its input")
    r.tensors.append(Tensor(first.name, shape, INT8, meaning))
    r.values[first.index] = Value(shape, meaning, plain=0)
    nodes, output, stripped, dequantised = _ends(r, nodes)
    for node in nodes:
        if node.kind in _SHAPES:
            r.constants[node.outputs[0]] = _shape_arithmetic(r, node)
        else:
            _read(r, node)
    if output not in r.values:
        raise InputError(f"{path}: no operator makes its output {graph.tensors[output].name!r}")
    value = r.values[output]
    if dequantised and not arithmetic.dequantises_exactly(runtime, value.quantisation):
        raise UnsupportedError(
            f"{path}: its final DEQUANTIZE: kernels add the scaled zero point apart, in two roundings (read as {runtime});"
            " end the file in int8, or take tflite-xnnpack or tflite-reference"
        )
    declared = Output(r.plain(value), (1, *value.shape), value.quantisation if dequantised else None, stripped)
    provenance = Provenance(str(path), "tflite", str(runtime), hashlib.sha256(content).hexdigest())
    try:
        return Network(Input(r.tensors[0], entry.shape, quantiser), tuple(r.ops), tuple(r.tensors), declared, provenance)
    except ValueError as error:
        raise UnsupportedError(f"{path}: {error}") from error


def _quantised_input(r: Reader, nodes: list[Node]) -> tuple[TfTensor, list[Node]]:
    """What the QUANTIZE behind a float input makes, and the other operators; the float input feeds nothing else but SHAPE."""
    entry = r.graph.input
    readers = [n for n in nodes if entry in n.inputs and n.kind != "SHAPE"]
    if len(readers) != 1 or readers[0].kind != "QUANTIZE":
        found = ", ".join(map(str, readers)) or "nothing"
        raise UnsupportedError(f"{r.path}: its float input is read by {found}; bvverify takes one QUANTIZE there")
    made = r.graph.tensors[readers[0].outputs[0]]
    if made.shape != r.graph.tensors[entry].shape:
        raise r.wrong(readers[0], "changes the shape of its input")
    if r.runtime == TfLite("optimised") and int(np.prod(made.shape)) % _VECTOR:
        raise r.unsupported(readers[0], f"the last elements, beyond a multiple of {_VECTOR}, are rounded otherwise than the rest")
    return made, [n for n in nodes if n is not readers[0]]


def _ends(r: Reader, nodes: list[Node]) -> tuple[list[Node], int, str | None, bool]:
    """The operators without a final DEQUANTIZE and SOFTMAX, the output before them, the name of what was left off, whether reals follow.

    SOFTMAX is monotone before it rounds; what it rounds away would hide differences between logits.
    """
    output, dequantised = r.graph.output, False
    if nodes and nodes[-1].kind == "DEQUANTIZE" and output in nodes[-1].outputs:
        output, dequantised, nodes = r.tensor(nodes[-1], 0).index, True, nodes[:-1]
    if nodes and nodes[-1].kind == "SOFTMAX" and output in nodes[-1].outputs:
        return nodes[:-1], r.tensor(nodes[-1], 0).index, "SOFTMAX", False
    return nodes, output, None, dequantised


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
