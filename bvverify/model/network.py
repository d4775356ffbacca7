"""A network: an input, operations in topological order, an output, and where it all came from.

A network has one input tensor and one output tensor; both are integers. Where the model's file begins or ends in float,
``Input.quantiser`` and ``Output.dequantiser`` say how the two meet: ``run`` uses them at its ends, boxes over reals are
mapped through the quantiser exactly (``bvverify.model.box``), and everything between sees integers only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np

from bvverify.model import requant as rq
from bvverify.model.ops import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv2d,
    Dense,
    Lookup,
    MaxPool,
    Op,
    Reshape,
    SequentialFloat32,
    SumThenRequantise,
    Transpose,
    inputs,
)
from bvverify.model.types import Cells, QType, Quantisation, Tensor


@dataclass(frozen=True, slots=True)
class Input:
    """The network's input tensor, and the quantiser in front of it when the model's file begins in float.

    ``tensor`` is what the first operation reads. ``file_shape`` is the shape in which the model's file declares its input (with the batch
    axis; a reshape may stand between the two). ``quantiser`` None means that the file takes the integers themselves.
    A quantiser is ``saturate(rne(fl(x / scale)) + zero_point)``, or rounds as its ``rounding`` says, or numbers ``Cells``.
    """

    tensor: Tensor
    file_shape: tuple[int, ...]
    quantiser: Quantisation | Cells | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """The network's output tensor (an index), and the dequantiser behind it when the model's file ends in float.

    A dequantiser is ONNX DequantizeLinear: ``fl((q - zero_point) * scale)``. ``file_shape`` is declared as for ``Input``.
    ``stripped`` names an operator of the file behind this tensor that was left off (a final SOFTMAX): verdicts are about what it reads.
    """

    tensor: int
    file_shape: tuple[int, ...]
    dequantiser: Quantisation | None = None
    stripped: str | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a network came from: the file, its format, the profile of semantics it was read under, the SHA-256 of its bytes."""

    path: str
    format: str
    semantics: str
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Operations in topological order: operation ``i`` makes tensor ``i + 1``; tensor 0 is the input.

    ``tensors`` describes all of them. Construction checks that every operation reads earlier tensors only and that
    all shapes and ranges fit (``ValueError`` names the operation).
    """

    input: Input
    ops: tuple[Op, ...]
    tensors: tuple[Tensor, ...]
    output: Output
    provenance: Provenance

    def __post_init__(self) -> None:
        if len(self.tensors) != len(self.ops) + 1:
            raise ValueError(f"{len(self.ops)} operations make {len(self.ops) + 1} tensors, not {len(self.tensors)}")
        if not 0 <= self.output.tensor < len(self.tensors):
            raise ValueError(f"the output is tensor {self.output.tensor}, of {len(self.tensors)}")
        for index, op in enumerate(self.ops):
            if not all(0 <= x <= index for x in inputs(op)):
                raise ValueError(f"{op.name}: reads a tensor that does not exist yet")
            shape, lo, hi = output_form(op, tuple(self.tensors[x] for x in inputs(op)))
            _check_reach(op, self.tensors[inputs(op)[0]].qtype)
            tensor = self.tensors[index + 1]
            if shape != tensor.shape:
                raise ValueError(f"{op.name}: makes the shape {shape}, not {tensor.shape}")
            if lo < tensor.qtype.lo or hi > tensor.qtype.hi:
                raise ValueError(f"{op.name}: makes values in [{lo}, {hi}], beyond {tensor.qtype}")

    @property
    def output_tensor(self) -> Tensor:
        """The description of the output tensor."""
        return self.tensors[self.output.tensor]

    @property
    def semantics(self) -> str:
        """The profile of semantics that every verdict about this network names."""
        return self.provenance.semantics

    def requantisations(self) -> tuple[str, ...]:
        """The names of the requantisations in use, sorted."""
        names = set()
        for op in self.ops:
            match op:
                case Dense() | Conv2d() if op.staircase.requant == rq.ShiftHalfUp(0):
                    pass  # the identity: of an excess (model.saturating_pairs), of no runtime
                case Dense() | Conv2d():
                    names.add(rq.name(op.staircase.requant))
                case AvgPool(rule=SumThenRequantise(staircase=staircase)):
                    names.add(rq.name(staircase.requant))
                case _:
                    pass
        return tuple(sorted(names))


def output_form(op: Op, xs: tuple[Tensor, ...]) -> tuple[tuple[int, ...], int, int]:
    """The shape and the range of values that an operation makes of tensors ``xs``; ``ValueError`` when they do not fit it."""
    x = xs[0]
    match op:
        case Dense():
            if x.shape != (op.weight.shape[1],):
                raise ValueError(f"{op.name}: a weight of shape {op.weight.shape} does not take an input of shape {x.shape}")
            return (op.weight.shape[0],), op.staircase.lo, op.staircase.hi
        case Conv2d():
            _check_image(op.name, x)
            if x.shape[0] != op.weight.shape[1] * op.groups:
                raise ValueError(
                    f"{op.name}: a weight of shape {op.weight.shape} in {op.groups} groups does not take {x.shape[0]} channels"
                )
            _check_fits(op.name, op.input_zero_point, x.qtype)
            return (op.weight.shape[0], *op.window.output(*x.shape[1:])), op.staircase.lo, op.staircase.hi
        case Add():
            if xs[0].shape != xs[1].shape:
                raise ValueError(f"{op.name}: adds the shapes {xs[0].shape} and {xs[1].shape}")
            return x.shape, op.lo, op.hi
        case AvgPool(rule=rule):
            _check_image(op.name, x)
            shape = (x.shape[0], *op.window.output(*x.shape[1:]))
            match rule:
                case SumThenRequantise(staircase=staircase):
                    if any(op.window.padding):
                        raise ValueError(f"{op.name}: an integer mean over padded windows has no single divisor")
                    return shape, staircase.lo, staircase.hi
                case SequentialFloat32():
                    if rule.input_lo != x.qtype.lo or len(rule.values) != x.qtype.hi - x.qtype.lo + 1:
                        raise ValueError(f"{op.name}: the dequantised values do not cover {x.qtype}")
                    return shape, rule.lo, rule.hi
                case _:
                    assert_never(rule)
        case MaxPool():
            _check_image(op.name, x)
            return (x.shape[0], *op.window.output(*x.shape[1:])), x.qtype.lo, x.qtype.hi
        case Clamp():
            if op.lo > op.hi:
                raise ValueError(f"{op.name}: an empty clamp [{op.lo}, {op.hi}]")
            return x.shape, op.lo, op.hi
        case Lookup():
            if op.input_lo != x.qtype.lo or len(op.table) != x.qtype.hi - x.qtype.lo + 1:
                raise ValueError(f"{op.name}: a table of {len(op.table)} entries does not cover {x.qtype}")
            return x.shape, int(op.table.min()), int(op.table.max())
        case Concat():
            first, axis = xs[0].shape, op.axis
            for other in xs:
                if len(other.shape) != len(first) or any(
                    a != b for i, (a, b) in enumerate(zip(first, other.shape, strict=True)) if i != axis
                ):
                    raise ValueError(f"{op.name}: joins the shapes {[t.shape for t in xs]} along axis {axis}")
            joined = (*first[:axis], sum(t.shape[axis] for t in xs), *first[axis + 1 :])
            return joined, min(t.qtype.lo for t in xs), max(t.qtype.hi for t in xs)
        case Reshape():
            tensor = Tensor("", op.shape, x.qtype)
            if tensor.size != x.size:
                raise ValueError(f"{op.name}: {x.shape} does not reshape to {op.shape}")
            return op.shape, x.qtype.lo, x.qtype.hi
        case Transpose():
            if sorted(op.axes) != list(range(len(x.shape))):
                raise ValueError(f"{op.name}: {op.axes} is no permutation of the axes of {x.shape}")
            return tuple(x.shape[a] for a in op.axes), x.qtype.lo, x.qtype.hi
        case _:
            assert_never(op)


def _check_reach(op: Op, x: QType) -> None:
    """Whether every accumulator of values of the type stays where the requantisation does not overflow."""
    match op:
        case Dense(staircase=staircase, input_zero_point=zero) | Conv2d(staircase=staircase, input_zero_point=zero):
            centred, bias = op.centred.reshape(len(op.centred), -1), op.bias
        case AvgPool(rule=SumThenRequantise(staircase=staircase, input_zero_point=zero)):
            centred, bias = np.ones((1, op.window.kernel[0] * op.window.kernel[1]), np.int64), np.zeros(1, np.int64)
        case _:
            return
    limit = rq.reach(staircase.requant)
    if limit is None:
        return
    # A padded position adds nothing.
    lo, hi = min(x.lo - zero, 0), max(x.hi - zero, 0)
    plus, minus = np.maximum(centred, 0).sum(axis=1), np.minimum(centred, 0).sum(axis=1)
    beyond = np.maximum(plus * hi + minus * lo + bias, -(plus * lo + minus * hi + bias)) > limit
    if beyond.any():
        channel = int(beyond.argmax())
        raise ValueError(
            f"{op.name}: an accumulator of channel {channel} could pass {limit[channel % len(limit)]}, where {rq.name(staircase.requant)}"
            " overflows; what the runtime gives then is not modelled"
        )


def _check_image(name: str, x: Tensor) -> None:
    if len(x.shape) != 3:
        raise ValueError(f"{name}: takes (channels, height, width), not the shape {x.shape}")


def _check_fits(name: str, zero_point: int, qtype: QType) -> None:
    if not qtype.lo <= zero_point <= qtype.hi:
        raise ValueError(f"{name}: the zero point {zero_point} is outside {qtype}")
