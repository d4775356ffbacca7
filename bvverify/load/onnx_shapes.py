"""Operators that move or choose values and compute nothing: on integers, on dequantised values and on the float input alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from onnx import NodeProto

from bvverify.load import onnx_layers as layers
from bvverify.load.onnx_qoperator import WINDOW
from bvverify.load.onnx_reader import Reader, node_name
from bvverify.load.onnx_values import Constant, FloatInput, Integers, Move, Reals, Value


def max_pool(r: Reader, node: NodeProto) -> Value:
    """MaxPool."""
    a = r.attributes(node, **WINDOW, ceil_mode=0, storage_order=0)
    if a["ceil_mode"] or a["storage_order"] or a["kernel_shape"] is None or len([o for o in node.output if o]) != 1:
        raise r.unsupported(node, "ceil_mode, storage_order and a second output are not supported, and kernel_shape is needed")
    x = r.value(node, 0)
    kernel = tuple(a["kernel_shape"])
    match x:
        case Integers():
            return layers.max_pool(r, node, x, r.window(node, a, kernel, x.shape))
        case Reals():
            pooled = layers.max_pool(r, node, x.integers, r.window(node, a, kernel, x.integers.shape))
            return replace(x, integers=replace(pooled, runtime=x.integers.runtime))
        case _:
            raise r.unsupported(node, "pools floats that no quantised tensor stands behind")


def flatten(r: Reader, node: NodeProto) -> Value:
    """Flatten along the axis after the batch."""
    axis, x = int(r.attributes(node, axis=1)["axis"]), r.value(node, 0)
    shape = _shape(r, node, x)
    if axis not in (1, -len(shape)):
        raise r.unsupported(node, f"axis {axis} is not supported; bvverify flattens each input whole, along axis 1")
    return _move(r, node, x, Move(node_name(node), (int(np.prod(shape)),)))


def reshape(r: Reader, node: NodeProto) -> Value:
    """Reshape to a constant shape that keeps the batch in front."""
    a = r.attributes(node, allowzero=0)
    x = r.value(node, 0)
    wanted = [int(v) for v in r.constant(node, 1, "shape").reshape(-1)]
    if isinstance(x, Constant):
        return Constant(x.array.reshape([x.array.shape[i] if v == 0 else v for i, v in enumerate(wanted)]))
    old = (1, *_shape(r, node, x))
    if not a["allowzero"]:
        wanted = [old[i] if v == 0 and i < len(old) else v for i, v in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = int(np.prod([v for v in wanted if v != -1]))
        wanted = [int(np.prod(old)) // rest if v == -1 and rest else v for v in wanted]
    if len(wanted) < 2 or wanted[0] != 1 or min(wanted) < 1 or np.prod(wanted) != np.prod(old):
        raise r.unsupported(node, f"reshapes {old} to {wanted}; bvverify keeps the batch (one input) in front")
    return _move(r, node, x, Move(node_name(node), tuple(wanted[1:])))


def transpose(r: Reader, node: NodeProto) -> Value:
    """Transpose that leaves the batch in front."""
    x = r.value(node, 0)
    given = r.attributes(node, perm=None)["perm"]
    if isinstance(x, Constant):
        return Constant(x.array.transpose(given))
    shape = _shape(r, node, x)
    perm = [int(v) for v in given] if given is not None else list(range(len(shape) + 1))[::-1]
    if sorted(perm) != list(range(len(shape) + 1)) or perm[0] != 0:
        raise r.unsupported(node, f"permutes the axes to {perm}; bvverify keeps the batch in front")
    axes = tuple(p - 1 for p in perm[1:])
    return _move(r, node, x, Move(node_name(node), tuple(shape[i] for i in axes), axes))


def squeeze(r: Reader, node: NodeProto) -> Value:
    """Squeeze and Unsqueeze behind the batch axis."""
    a = r.attributes(node, axes=None)
    x = r.value(node, 0)
    given = r.constant(node, 1, "axes").reshape(-1) if r.has(node, 1) else a["axes"]
    shape = (1, *_shape(r, node, x))
    adds = node.op_type == "Unsqueeze"
    rank = len(shape) + (len(given) if adds and given is not None else 0)
    axes = {int(v) % rank for v in given} if given is not None else {i for i, v in enumerate(shape) if v == 1 and i > 0}
    if 0 in axes or (not adds and any(shape[i] != 1 for i in axes)):
        raise r.unsupported(node, f"axes {sorted(axes)} of {shape}; bvverify keeps the batch in front and removes axes of length 1 only")
    rest = iter(shape)
    new = [1 if i in axes else next(rest) for i in range(rank)] if adds else [v for i, v in enumerate(shape) if i not in axes]
    return _move(r, node, x, Move(node_name(node), tuple(new[1:])))


def identity(r: Reader, node: NodeProto) -> Value:
    """Identity, and Dropout as inference runs it."""
    return r.value(node, 0)


def _shape(r: Reader, node: NodeProto, x: Value) -> tuple[int, ...]:
    match x:
        case FloatInput() | Integers():
            return x.shape
        case Reals():
            return x.integers.shape
        case _:
            raise r.unsupported(node, "moves a float result before it is quantised; put QuantizeLinear and DequantizeLinear before it")


def _move(r: Reader, node: NodeProto, x: Value, move: Move) -> Value:
    match x:
        case FloatInput():
            return FloatInput((*x.moves, move), move.shape)
        case Integers():
            return replace(layers.moved(r, node, x, move), runtime=x.runtime)
        case Reals():
            return replace(x, integers=replace(layers.moved(r, node, x.integers, move), runtime=x.integers.runtime))
        case _:
            raise r.unsupported(node, "moves something that is no activation")


HANDLERS: dict[str, Callable[[Reader, NodeProto], Value]] = {
    "MaxPool": max_pool,
    "Flatten": flatten,
    "Reshape": reshape,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": squeeze,
    "Identity": identity,
    "Dropout": identity,
}
