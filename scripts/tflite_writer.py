"""Writes .tflite models through LiteRT's schema, without TensorFlow: what the bundled example and the tests are made with."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as s


class Writer:
    """A model under construction; tensors are named by index."""

    def __init__(self) -> None:
        self.model, self.graph, self.codes = s.ModelT(), s.SubGraphT(), []
        self.model.version, self.model.buffers = 3, [s.BufferT()]
        self.graph.tensors, self.graph.operators = [], []

    def tensor(
        self, shape: Any, scale: Any = None, zero: int = 0, data: np.ndarray | None = None, axis: int = 0, kind: str = "INT8"
    ) -> int:
        """A tensor, constant where ``data`` is given; ``scale`` is a number, or one for each channel along ``axis``."""
        t = s.TensorT()
        t.name, t.shape, t.type, t.buffer = f"t{len(self.graph.tensors)}", [int(d) for d in shape], getattr(s.TensorType, kind), 0
        if scale is not None:
            q = s.QuantizationParametersT()
            q.scale = [float(v) for v in np.atleast_1d(scale)]
            q.zeroPoint, q.quantizedDimension = [int(zero)] * len(q.scale), axis
            t.quantization = q
        if data is not None:
            held = s.BufferT()
            held.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            t.buffer = len(self.model.buffers)
            self.model.buffers.append(held)
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def operator(self, kind: str, inputs: Any, output: int, options: str | None = None, version: int = 1, **fields: Any) -> int:
        """An operator; ``options`` is the schema's name of its options, ``fields`` what they hold."""
        code, o = s.OperatorCodeT(), s.OperatorT()
        code.builtinCode = getattr(s.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
        o.opcodeIndex, o.inputs, o.outputs = len(self.codes), [int(i) for i in inputs], [output]
        if options is not None:
            o.builtinOptionsType, o.builtinOptions = getattr(s.BuiltinOptions, options), getattr(s, options + "T")()
            for name, value in fields.items():
                setattr(o.builtinOptions, name, value)
        self.codes.append(code)
        self.graph.operators.append(o)
        return output

    def content(self, entry: int, output: int) -> bytes:
        """The file, from the input and the output tensor."""
        self.graph.inputs, self.graph.outputs = [entry], [output]
        self.model.operatorCodes, self.model.subgraphs = self.codes, [self.graph]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())
