"""Tables of unary operators, read off LiteRT: all 256 values of int8 through the operator itself, in the kernel mode of the profile.

Its kernels approximate the functions in several ways (float tables, fixed point, XNNPACK's own), so that no formula of ours would be the
same to the last bit in each of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bvverify.load.tflite_graph import Node, schema
from bvverify.load.tflite_reader import Reader
from bvverify.model.types import INT8, Int64Array, Quantisation
from bvverify.run import oracle_litert


def table_of(r: Reader, node: Node, x: Quantisation, y: Quantisation) -> Int64Array:
    """What the operator makes of -128 to 127."""
    content = one_operator(schema(r.path), node, x, y)
    made = oracle_litert.interpreter(content, str(r.runtime), f"{r.path}: {node}")
    every = np.arange(INT8.lo, INT8.hi + 1, dtype=np.int8)
    return oracle_litert.invoke(made, every[None]).reshape(-1).astype(np.int64)


def one_operator(s: Any, node: Node, x: Quantisation, y: Quantisation) -> bytes:
    """A model of the operator alone, over a row of 256 values."""
    import flatbuffers

    code, operator, graph, model = s.OperatorCodeT(), s.OperatorT(), s.SubGraphT(), s.ModelT()
    code.builtinCode = getattr(s.BuiltinOperator, node.kind)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = node.version
    operator.inputs, operator.outputs, operator.builtinOptions = [0], [1], node.raw
    operator.builtinOptionsType = 0 if node.raw is None else getattr(s.BuiltinOptions, type(node.raw).__name__.removesuffix("T"))
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [], [0], [1], [operator]
    for name, meaning in (("x", x), ("y", y)):
        tensor, q = s.TensorT(), s.QuantizationParametersT()
        q.scale, q.zeroPoint = [meaning.scale], [meaning.zero_point]
        tensor.name, tensor.shape, tensor.type, tensor.buffer, tensor.quantization = name, [1, 256], s.TensorType.INT8, 0, q
        graph.tensors.append(tensor)
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [s.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
