"""The state of reading one ONNX graph: values by name, attributes, the network under construction, and errors that name the node."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from bvverify.errors import InputError, UnsupportedError
from bvverify.load.onnx_values import Constant, Integers, Value
from bvverify.load.profile import OnnxRuntime
from bvverify.model.ops import Op, Window
from bvverify.model.requant import Float32HalfEven
from bvverify.model.types import INT8, UINT8, AnyArray, Float32Array, Int64Array, QType, Quantisation, Tensor


class Reader:
    """Everything that is known while the nodes are walked in order."""

    def __init__(self, path: Path, profile: OnnxRuntime) -> None:
        self.path, self.profile = path, profile
        self.values: dict[str, Value] = {}
        self.uses: Counter[str] = Counter()
        self.outputs: set[str] = set()
        self.consumers: dict[str, list[NodeProto]] = {}
        self.ops: list[Op] = []
        self.tensors: list[Tensor | None] = [None]
        self.quantiser: Quantisation | None = None
        self.input_name = ""
        self.input_shape: tuple[int, ...] = ()

    # errors

    def unsupported(self, node: NodeProto, why: str) -> UnsupportedError:
        """An error that names the file and the node."""
        return UnsupportedError(f"{self.path}: node {node_name(node)} ({node.op_type}): {why}")

    def wrong(self, node: NodeProto, why: str) -> InputError:
        """An error about a node that no reader could make sense of."""
        return InputError(f"{self.path}: node {node_name(node)} ({node.op_type}): {why}")

    # inputs of nodes

    def has(self, node: NodeProto, index: int) -> bool:
        """Whether the node has an input of that index."""
        return index < len(node.input) and bool(node.input[index])

    def value(self, node: NodeProto, index: int) -> Value:
        """An input of a node."""
        if not self.has(node, index):
            raise self.wrong(node, f"input {index} is missing")
        name = node.input[index]
        if name not in self.values:
            raise self.wrong(node, f"reads {name!r}, which nothing before it makes")
        return self.values[name]

    def constant(self, node: NodeProto, index: int, what: str) -> AnyArray:
        """An input of a node that has to be constant."""
        value = self.value(node, index)
        if not isinstance(value, Constant):
            raise self.unsupported(node, f"its {what} is computed from the input; bvverify takes a constant")
        return value.array

    def integers(self, node: NodeProto, index: int) -> Integers:
        """An input of a node that has to be an integer tensor of the network."""
        value = self.value(node, index)
        if not isinstance(value, Integers):
            raise self.unsupported(node, "reads something else than quantised integers")
        return value

    def scale(self, node: NodeProto, index: int, what: str = "scale") -> Float32Array:
        """A float32 scale, flat; positive and finite."""
        array = self.constant(node, index, what)
        if array.dtype != np.float32:
            raise self.unsupported(node, f"its {what} is {array.dtype}; bvverify takes float32")
        if not (np.isfinite(array).all() and (array > 0).all()):
            raise self.wrong(node, f"its {what} is not positive and finite")
        return array.reshape(-1)

    def scalar_scale(self, node: NodeProto, index: int, what: str = "scale") -> float:
        """A per-tensor scale."""
        array = self.scale(node, index, what)
        if array.size != 1:
            raise self.unsupported(node, f"its {what} has {array.size} values; bvverify takes one for a whole activation")
        return float(array[0])

    def zero_points(self, node: NodeProto, index: int) -> tuple[Int64Array, QType]:
        """Zero points, flat, and the 8-bit type they have (uint8 and 0 where they are left out)."""
        if not self.has(node, index):
            return np.zeros(1, np.int64), UINT8
        array = self.constant(node, index, "zero point")
        qtype = {np.dtype(np.uint8): UINT8, np.dtype(np.int8): INT8}.get(array.dtype)
        if qtype is None:
            raise self.unsupported(node, f"its zero point is {array.dtype}; bvverify takes uint8 and int8")
        return array.reshape(-1).astype(np.int64), qtype

    def scalar_zero_point(self, node: NodeProto, index: int) -> tuple[int, QType]:
        """A per-tensor zero point and its type."""
        array, qtype = self.zero_points(node, index)
        if array.size != 1:
            raise self.unsupported(node, f"its zero point has {array.size} values; bvverify takes one for a whole activation")
        return int(array[0]), qtype

    def weight_of(self, node: NodeProto, index: int) -> tuple[Int64Array, QType]:
        """Constant 8-bit weights."""
        array = self.constant(node, index, "weight")
        qtype = {np.dtype(np.uint8): UINT8, np.dtype(np.int8): INT8}.get(array.dtype)
        if qtype is None:
            raise self.unsupported(node, f"its weight is {array.dtype}; bvverify takes uint8 and int8")
        return array.astype(np.int64), qtype

    def bias_of(self, node: NodeProto, index: int, channels: int) -> Int64Array:
        """A constant int32 bias, or zeros where there is none."""
        if not self.has(node, index):
            return np.zeros(channels, np.int64)
        array = self.constant(node, index, "bias")
        if array.dtype != np.int32 or array.size not in (1, channels):
            raise self.unsupported(node, f"its bias is {array.dtype} {array.shape}; bvverify takes int32, one for each output channel")
        return np.broadcast_to(array.reshape(-1).astype(np.int64), (channels,))

    # attributes

    def attributes(self, node: NodeProto, **defaults: Any) -> dict[str, Any]:
        """The node's attributes over their defaults; one that is not among the defaults is refused."""
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        unknown = set(given) - set(defaults)
        if unknown:
            raise self.unsupported(node, f"attribute {sorted(unknown)[0]!r} is not supported; known: {', '.join(defaults) or 'none'}")
        return defaults | given

    def window(self, node: NodeProto, a: dict[str, Any], kernel: tuple[int, int], image: tuple[int, ...]) -> Window:
        """The geometry of a convolution or pooling node."""
        strides, dilations = (tuple(int(v) for v in a[k] or (1, 1)) for k in ("strides", "dilations"))
        if len(strides) != 2 or len(dilations) != 2 or len(kernel) != 2 or len(image) != 3:
            raise self.unsupported(node, "bvverify takes two-dimensional windows over (batch, channels, height, width)")
        auto = a["auto_pad"].decode() if isinstance(a["auto_pad"], bytes) else a["auto_pad"]
        pads = tuple(int(v) for v in a["pads"] or (0, 0, 0, 0))
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            begin, end = [], []
            for size, k, s, d in zip(image[1:], kernel, strides, dilations, strict=True):
                total = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
                small, large = total // 2, total - total // 2
                begin.append(small if auto == "SAME_UPPER" else large)
                end.append(large if auto == "SAME_UPPER" else small)
            pads = (*begin, *end)
        elif auto not in ("NOTSET", "VALID"):
            raise self.unsupported(node, f"auto_pad {auto!r} is unknown")
        if min(pads) < 0 or min(strides) < 1 or min(dilations) < 1 or min(kernel) < 1 or len(pads) != 4:
            raise self.wrong(node, f"a window with pads {pads}, strides {strides}, dilations {dilations}, kernel {kernel}")
        window = Window(
            (kernel[0], kernel[1]), (strides[0], strides[1]), (pads[0], pads[1], pads[2], pads[3]), (dilations[0], dilations[1])
        )
        try:
            window.output(image[1], image[2])
        except ValueError as error:
            raise self.wrong(node, str(error)) from error
        return window

    # the network

    def add(self, node: NodeProto, op: Op, shape: tuple[int, ...], qtype: QType, shift: int = 0, q: Quantisation | None = None) -> Integers:
        """Append an operation and the tensor that it makes."""
        self.ops.append(op)
        self.tensors.append(Tensor(op.name, shape, qtype, q))
        return Integers(len(self.ops), shape, qtype, shift, qtype)

    def multiplier(self, node: NodeProto, sx: float, sw: Float32Array, sy: float, zero_point: int) -> Float32HalfEven:
        """``fl(fl(sx * sw) / sy)``, as ONNX Runtime forms it."""
        with np.errstate(over="ignore", under="ignore", divide="ignore"):
            multiplier = np.float32(sx) * sw / np.float32(sy)
        if not (np.isfinite(multiplier).all() and (multiplier > 0).all()):
            raise self.unsupported(node, "its scales give a multiplier that float32 cannot hold")
        return Float32HalfEven(multiplier.astype(np.float32), zero_point)


def node_name(node: NodeProto) -> str:
    """The node's name, or its first output where it has none."""
    return node.name or (f"making {node.output[0]!r}" if node.output else "without a name")


def array_of(tensor: Any) -> AnyArray:
    """An initialiser as an array."""
    return np.asarray(numpy_helper.to_array(tensor))
