"""The same network on shifted integers: where one reading holds a tensor as uint8 and another as int8, 128 apart.

ONNX Runtime reads a signed pair of QuantizeLinear and DequantizeLinear as uint8 by default and as int8 with
``session.qdqisint8allowed``: all integers and zero points move together, the real numbers stay. ``rebase`` moves B's tensors to where A has
them, so that the two can be held against each other number by number. Sums and staircases move exactly; float additions and means round
with their zero points, so that moving those would be another function, and they are refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, assert_never

import numpy as np

from bvverify.errors import UnsupportedError
from bvverify.model.network import Network
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
from bvverify.model.requant import ByChannel, ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import Cells, Quantisation, frozen_array


def rebase(b: Network, a: Network) -> Network:
    """B with each tensor on A's integers where the two differ by a shift; B itself where none does.

    ``UnsupportedError`` names the operation that cannot be moved.
    """
    if len(a.ops) != len(b.ops):
        return b
    shifts = [s.qtype.lo - t.qtype.lo if s.qtype.bits == t.qtype.bits else 0 for s, t in zip(a.tensors, b.tensors, strict=True)]
    if not any(shifts):
        return b
    ops = tuple(_moved(b, op, [shifts[t] for t in inputs(op)], shifts[i + 1]) for i, op in enumerate(b.ops))
    tensors = tuple(
        replace(t, qtype=s.qtype if shift else t.qtype, quantisation=_zero(t.quantisation, shift))
        for s, t, shift in zip(a.tensors, b.tensors, shifts, strict=True)
    )
    declared, out = b.input, b.output
    quantiser = declared.quantiser
    assert not isinstance(quantiser, Cells), "a file begins in no cells"
    if shifts[0] and quantiser is None:
        return b  # the file itself takes other integers
    shift = shifts[out.tensor]
    if shift and out.dequantiser is None:
        # The file itself gives the integers of B: a table takes them back.
        moved, own = tensors[out.tensor].qtype, b.tensors[out.tensor]
        table = frozen_array(np.arange(moved.lo, moved.hi + 1) - shift, np.int64)
        ops, tensors = (*ops, Lookup("own integers", out.tensor, moved.lo, table)), (*tensors, own)
        out = replace(out, tensor=len(ops))
    return replace(
        b,
        ops=ops,
        tensors=tensors,
        input=replace(declared, tensor=tensors[0], quantiser=_zero(quantiser, shifts[0])),
        output=replace(out, dequantiser=_zero(out.dequantiser, shift)),
    )


def _zero(quantisation: Quantisation | None, shift: int) -> Quantisation | None:
    return None if quantisation is None else replace(quantisation, zero_point=quantisation.zero_point + shift)


def _moved(network: Network, op: Op, before: list[int], after: int) -> Op:
    """The operation on inputs moved by ``before``, with its result moved by ``after``."""
    if not any(before) and not after:
        return op
    match op:
        case Dense() | Conv2d():
            zero = op.input_zero_point + before[0]
            return replace(op, input_zero_point=zero, staircase=_staircase(network, op, op.staircase, after))
        case AvgPool(rule=SumThenRequantise(input_zero_point=zero, staircase=staircase)):
            return replace(op, rule=SumThenRequantise(zero + before[0], _staircase(network, op, staircase, after)))
        case Lookup():
            return replace(op, input_lo=op.input_lo + before[0], table=frozen_array(op.table + after, np.int64))
        case Clamp() if before[0] == after:
            return replace(op, lo=op.lo + after, hi=op.hi + after)
        case MaxPool() | Concat() | Reshape() | Transpose() if set(before) == {after}:
            return op
        case AvgPool(rule=SequentialFloat32()) | Add() | AvgPool() | Clamp() | MaxPool() | Concat() | Reshape() | Transpose():
            raise _refused(network, op)
        case _:
            assert_never(op)


def _staircase(network: Network, op: Op, staircase: Staircase, shift: int) -> Staircase:
    requant: Any = staircase.requant
    if isinstance(requant, ShiftHalfUp | ByChannel):
        raise _refused(network, op)
    return Staircase(replace(requant, zero_point=requant.zero_point + shift), staircase.lo + shift, staircase.hi + shift)


def _refused(network: Network, op: Op) -> UnsupportedError:
    return UnsupportedError(
        f"{network.provenance.path}: node {op.name}: rounds with its zero point inside, which is another number under {network.semantics};"
        " compare two semantics that read the same integers"
    )
