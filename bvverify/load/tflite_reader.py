"""The state of reading one .tflite graph: values by tensor, the network under construction, and errors that name the operator.

TFLite's images are (H, W, C), the network's (C, H, W). A value keeps the index of each form that exists; the other one is made, by one
transposition, when an operator asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bvverify.errors import InputError, UnsupportedError
from bvverify.load.tflite_arithmetic import Runtime
from bvverify.load.tflite_graph import Graph, Node, TfTensor
from bvverify.model.network import output_form
from bvverify.model.ops import Clamp, Op, Reshape, Transpose, inputs
from bvverify.model.types import INT8, AnyArray, Quantisation, Tensor


@dataclass(slots=True)
class Value:
    """An activation without its batch axis.

    ``shape`` is in the file's order; ``plain`` is the network's tensor of that shape, ``image`` the one of (C, H, W), None until needed.
    """

    shape: tuple[int, ...]
    quantisation: Quantisation
    plain: int | None = None
    image: int | None = None


class Reader:
    """Everything that is known while the operators are walked in order."""

    def __init__(self, path: Path, graph: Graph, runtime: Runtime) -> None:
        self.path, self.graph, self.runtime = path, graph, runtime
        self.values: dict[int, Value] = {}
        self.constants: dict[int, AnyArray] = {t.index: t.data for t in graph.tensors if t.data is not None}
        self.ops: list[Op] = []
        self.tensors: list[Tensor] = []

    # errors

    def unsupported(self, node: Node, why: str) -> UnsupportedError:
        """An error that names the file, the operator and the profile."""
        return UnsupportedError(f"{self.path}: {node}: {why} (read as {self.runtime})")

    def wrong(self, node: Node, why: str) -> InputError:
        """An error about an operator that no reader could make sense of."""
        return InputError(f"{self.path}: {node}: {why}")

    # tensors

    def tensor(self, node: Node, position: int) -> TfTensor:
        """The declaration of an input."""
        if position >= len(node.inputs) or node.inputs[position] < 0:
            raise self.wrong(node, f"input {position} is missing")
        return self.graph.tensors[node.inputs[position]]

    def has(self, node: Node, position: int) -> bool:
        """Whether an optional input is there."""
        return position < len(node.inputs) and node.inputs[position] >= 0

    def value(self, node: Node, position: int) -> Value:
        """An input that is computed from the graph's input."""
        tensor = self.tensor(node, position)
        if tensor.index in self.values:
            return self.values[tensor.index]
        if tensor.index in self.constants:
            raise self.unsupported(node, f"input {position} ({tensor.name}) is constant; bvverify takes an activation there")
        raise self.wrong(node, f"reads {tensor.name!r}, which nothing before it makes")

    def constant(self, node: Node, position: int, kind: str) -> AnyArray:
        """A constant input of a type that the schema calls ``kind``, as int64."""
        tensor = self.tensor(node, position)
        if tensor.index not in self.constants or tensor.kind != kind:
            raise self.unsupported(node, f"input {position} ({tensor.name}) is not a dense constant of type {kind}")
        return self.constants[tensor.index].astype(np.int64)

    def meaning(self, tensor: TfTensor, who: str) -> tuple[tuple[int, ...], Quantisation]:
        """Shape (without the batch) and quantisation of an int8 activation; ``UnsupportedError`` where it is none."""
        if tensor.kind != "INT8" or len(tensor.scale) != 1 or len(tensor.zero_point) != 1:
            raise UnsupportedError(f"{self.path}: {who}: tensor {tensor.name!r} is {tensor.kind}; bvverify takes int8 with one scale")
        scale, zero = float(tensor.scale[0]), int(tensor.zero_point[0])
        if not (np.isfinite(scale) and scale > 0 and INT8.lo <= zero <= INT8.hi):
            raise InputError(f"{self.path}: {who}: tensor {tensor.name!r} has the scale {scale} and the zero point {zero}")
        if len(tensor.shape) < 2 or tensor.shape[0] != 1 or min(tensor.shape) < 1:
            raise UnsupportedError(f"{self.path}: {who}: tensor {tensor.name!r} has the shape {tensor.shape}; its batch axis has to be 1")
        return tensor.shape[1:], Quantisation(scale, zero)

    def target(self, node: Node) -> tuple[TfTensor, tuple[int, ...], Quantisation]:
        """What the operator makes: its declaration, shape and quantisation."""
        if len(node.outputs) != 1:
            raise self.wrong(node, f"makes {len(node.outputs)} tensors")
        tensor = self.graph.tensors[node.outputs[0]]
        return (tensor, *self.meaning(tensor, str(node)))

    # the network

    def add(self, op: Op, quantisation: Quantisation) -> int:
        """Append an operation; the index of its tensor. ``ValueError`` where its inputs do not fit."""
        shape, _, _ = output_form(op, tuple(self.tensors[x] for x in inputs(op)))
        self.ops.append(op)
        self.tensors.append(Tensor(op.name, shape, INT8, quantisation))
        return len(self.ops)

    def clamped(self, name: str, index: int, lo: int, hi: int, quantisation: Quantisation) -> int:
        """A clamp where it changes anything."""
        return index if (lo, hi) == (INT8.lo, INT8.hi) else self.add(Clamp(f"{name} (activation)", index, lo, hi), quantisation)

    def plain(self, value: Value) -> int:
        """The value in the file's order of axes."""
        if value.plain is None:
            value.plain = self._moved(value.image, (1, 2, 0), value)
        return value.plain

    def image(self, node: Node, value: Value) -> int:
        """The value as (C, H, W)."""
        if value.image is None:
            if len(value.shape) != 3:
                raise self.unsupported(node, f"reads the shape (1, {', '.join(map(str, value.shape))}), not (1, height, width, channels)")
            value.image = self._moved(value.plain, (2, 0, 1), value)
        return value.image

    def reshaped(self, name: str, index: int, shape: tuple[int, ...], quantisation: Quantisation) -> int:
        """A reshape where it changes anything."""
        return index if self.tensors[index].shape == shape else self.add(Reshape(name, index, shape), quantisation)

    def _moved(self, index: int | None, axes: tuple[int, ...], value: Value) -> int:
        if index is None:
            raise ValueError("a value in neither order of axes")
        tensor = self.tensors[index]
        shape = tuple(tensor.shape[a] for a in axes)
        name = f"{tensor.name} ({'channels first' if axes == (2, 0, 1) else 'channels last'})"
        # With one channel or one pixel the elements stay in order.
        height, width, channels = value.shape
        if channels == 1 or height * width == 1:
            return self.reshaped(name, index, shape, value.quantisation)
        return self.add(Transpose(name, index, axes), value.quantisation)
