"""The graph of a .tflite file as plain data: tensors, operators, constants. Nothing here knows what an operator computes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.errors import InputError, UnsupportedError
from bvverify.model.types import AnyArray, Float32Array, Int64Array

_DTYPES = {"FLOAT32": "<f4", "INT8": "<i1", "INT32": "<i4", "INT64": "<i8", "UINT8": "<u1", "INT16": "<i2"}


@dataclass(frozen=True, slots=True, eq=False)
class TfTensor:
    """A tensor as the file declares it.

    ``kind`` is the schema's name of its type; ``scale`` (float32) and ``zero_point`` are empty where it is not quantised and run along
    ``axis`` where there are several; ``data`` is what it holds where it is constant.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    kind: str
    scale: Float32Array
    zero_point: Int64Array
    axis: int
    data: AnyArray | None


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """An operator: its place in the file, the schema's name and version of it, what it reads (-1: left out) and makes, its options."""

    number: int
    kind: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]
    raw: Any
    """The schema's own object of its options."""

    def __str__(self) -> str:
        return f"operator {self.number} ({self.kind})"


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A file with one graph of one input and one output."""

    tensors: tuple[TfTensor, ...]
    nodes: tuple[Node, ...]
    input: int
    output: int


def schema(path: Path) -> Any:
    """The schema package, which comes with LiteRT."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise InputError(f"{path}: .tflite files are read with LiteRT's schema, which is absent: pip install 'bvverify[litert]'") from error
    return schema_py_generated


def parse(path: Path, content: bytes) -> Graph:
    """The graph of a file's bytes; ``InputError`` where they are no readable .tflite file."""
    s = schema(path)
    if content[4:8] != b"TFL3":
        raise InputError(f"{path}: is no .tflite file: its identifier is not TFL3")
    try:
        model = s.ModelT.InitFromPackedBuf(content, 0)
        if len(model.subgraphs) != 1:
            raise UnsupportedError(f"{path}: has {len(model.subgraphs)} graphs; bvverify takes one (no control flow)")
        graph = model.subgraphs[0]
        tensors = tuple(_tensor(s, model, i, t) for i, t in enumerate(graph.tensors))
        nodes = tuple(_node(s, model, i, o) for i, o in enumerate(graph.operators))
        ends = [[int(i) for i in end] for end in (graph.inputs, graph.outputs)]
    # What the generated reader raises on bytes that are no model.
    except (struct.error, ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise InputError(f"{path}: is no readable .tflite file: {' '.join(str(error).split())}") from error
    for what, end in zip(("inputs", "outputs"), ends, strict=True):
        if len(end) != 1:
            raise UnsupportedError(f"{path}: has {len(end)} {what}; bvverify takes one")
    used = [i for node in nodes for i in (*node.inputs, *node.outputs)] + ends[0] + ends[1]
    if any(not -1 <= i < len(tensors) for i in used):
        raise InputError(f"{path}: is no readable .tflite file: an operator names a tensor that does not exist")
    return Graph(tensors, nodes, ends[0][0], ends[1][0])


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}


def _tensor(s: Any, model: Any, index: int, t: Any) -> TfTensor:
    kind, q = _names(s.TensorType).get(t.type, f"type {t.type}"), t.quantization
    shape = tuple(int(d) for d in t.shape) if t.shape is not None else ()
    held = model.buffers[t.buffer].data
    data = None
    if held is not None and len(held) and kind in _DTYPES and t.sparsity is None:
        data = np.frombuffer(np.asarray(held, np.uint8).tobytes(), _DTYPES[kind]).reshape(shape)
    scale = np.asarray([] if q is None or q.scale is None else q.scale, np.float32)
    zero = np.asarray([] if q is None or q.zeroPoint is None else q.zeroPoint, np.int64)
    axis = 0 if q is None else int(q.quantizedDimension)
    return TfTensor(index, (t.name or b"").decode(errors="replace"), shape, kind, scale, zero, axis, data)


def _node(s: Any, model: Any, number: int, o: Any) -> Node:
    code = model.operatorCodes[o.opcodeIndex]
    # Codes above 126 are in the newer field alone.
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    kind = _names(s.BuiltinOperator).get(builtin, f"code {builtin}")
    if kind == "CUSTOM":
        kind = f"CUSTOM {(code.customCode or b'').decode(errors='replace')}"
    options = {} if o.builtinOptions is None else dict(vars(o.builtinOptions))
    inputs, outputs = (tuple(int(i) for i in ([] if end is None else end)) for end in (o.inputs, o.outputs))
    return Node(number, kind, int(code.version), inputs, outputs, options, o.builtinOptions)
