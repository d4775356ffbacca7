"""Two readings of one model as one network: one input, all operations of both, the two outputs side by side.

What cannot differ on the box is there once: an operation of B that reads shared tensors, and that ``agreement`` shows to agree with its
twin in A for every input of the box, is A's. If the outputs themselves are shared, the readings are equal on the box.

The two last layers, where both are dense, become one dense layer of twice the rows: a question about differences of outputs is then
about differences of accumulators, in which what the two have in common cancels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bvverify.bounds import interval, linear
from bvverify.bounds.interval import Bounds
from bvverify.compare.agreement import may_part
from bvverify.compare.rebase import rebase
from bvverify.errors import UnsupportedError
from bvverify.model import requant as rq
from bvverify.model.network import Network, Output, Provenance
from bvverify.model.ops import Add, Concat, Dense, Op, Reshape, inputs
from bvverify.model.query import Box, Linear, Property
from bvverify.model.requant import ByChannel, Requant
from bvverify.model.staircase import Staircase
from bvverify.model.types import AnyArray, QType, Tensor, frozen_array

AGAINST = " against "
_MOST_CLASSES = 64
_MOST_LINEAR = 4096
"""Elements of all tensors up to which linear bounds are worth their seconds here."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """One operation of which some output elements can differ though all before it is equal: bool, of the output's shape."""

    op: int
    elements: AnyArray


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """``network`` has A's n outputs, then B's. None where all of B is shared: then the two are equal on the box.

    ``starts`` are the operations at which a difference can begin, in order; ``rule`` says which ranges were used.
    """

    a: Network
    b: Network
    network: Network | None
    starts: tuple[Start, ...]
    bounds: Bounds
    rule: str


def aligned(a: Network, b: Network) -> Network:
    """B on the integers of A (``rebase``); ``UnsupportedError`` where the two read other inputs or have other numbers of outputs."""
    b = rebase(b, a)
    one, other = a.input.tensor, b.input.tensor
    path = a.provenance.path
    if (one.shape, one.qtype, _meaning(a)) != (other.shape, other.qtype, _meaning(b)):
        raise UnsupportedError(
            f"{path}: input {one.name}: {a.semantics} reads {one.qtype} {one.shape}, {b.semantics} {other.qtype} {other.shape},"
            " or another quantiser; compare two semantics that read the same integers"
        )
    if a.output_tensor.size != b.output_tensor.size:
        raise UnsupportedError(f"{path}: output {a.output_tensor.name}: the two readings have different numbers of outputs")
    return b


def join(a: Network, b: Network, box: Box) -> Joint:
    """Join two readings of one file on a box; ``UnsupportedError`` where they do not read the same input.

    Both read the integers of the box. How each would round a real input to them is no part of the question (``round_apart``).

    ``bounds`` of the result are of A, on the box; its B is on the integers of A (``rebase``).
    """
    b = aligned(a, b)
    bounds = interval.propagate(a, box)
    joint = rejoin(a, b, bounds, "exact integer intervals of the box")
    # By size and not by time: whoever checks a certificate has to come to the same network.
    if joint.network is not None and len(a.ops) > 1 and sum(t.size for t in a.tensors) <= _MOST_LINEAR:
        bounds, _ = linear.tighten(a, box, bounds)
        joint = rejoin(a, b, bounds, "exact integer intervals and linear bounds of the box")
    return joint


def round_apart(a: Network, b: Network) -> bool:
    """Whether the two quantise a real input by different rules, so that one real input may reach different integers."""
    return a.input.quantiser != b.input.quantiser


def _meaning(network: Network) -> tuple[float, int] | None:
    quantiser = network.input.quantiser
    return None if quantiser is None else (quantiser.scale, quantiser.zero_point)


def output_shift(a: Network, b: Network) -> int:
    """An output of A minus the same real number as an output of B; ``UnsupportedError`` where the two are on different scales."""
    one, other = a.output.dequantiser, b.output.dequantiser
    same_reals = (one is None) == (other is None) and (one is None or other is None or one.scale == other.scale)
    shift = one.zero_point - other.zero_point if one is not None and other is not None else 0
    if not same_reals or (a.output_tensor.qtype != b.output_tensor.qtype and one is None):
        raise UnsupportedError(
            f"{a.provenance.path}: output {a.output_tensor.name}: {a.semantics} gives {a.output_tensor.qtype}, {b.semantics} "
            f"{b.output_tensor.qtype} of another scale; ask about the class (--class)"
        )
    return shift


def differing_outputs(joint: Joint) -> Property:
    """Violated where an output of A is not the same output of B: as integers, or as the same real numbers with shifted zero points."""
    a, b = joint.a, joint.b
    shift = output_shift(a, b)
    n, rows = a.output_tensor.size, []
    for i in range(n):
        # y_A - y_B >= shift + 1, or <= shift - 1
        rows.append((_row(2 * n, {i: -1, n + i: 1}, -shift - 1),))
        rows.append((_row(2 * n, {i: 1, n + i: -1}, shift - 1),))
    return Property(tuple(rows), f"no output differs between {a.semantics} and {b.semantics}")


def differing_classes(joint: Joint) -> Property:
    """Violated where the first index of the largest output is another one: A's is i and B's is j, for each i and j."""
    a, b = joint.a, joint.b
    n = a.output_tensor.size
    if n > _MOST_CLASSES:
        raise UnsupportedError(f"{a.provenance.path}: output {a.output_tensor.name}: has {n} classes; --class takes up to {_MOST_CLASSES}")
    # Class i wins over k where y_k - y_i <= 0, or -1 if k comes first.
    wins = [[({k: 1, i: -1}, 0 if i < k else -1) for k in range(n) if k != i] for i in range(n)]
    rows = []
    for i in range(n):
        for j in range(n):
            if i != j:
                of_a = [_row(2 * n, c, bound) for c, bound in wins[i]]
                of_b = [_row(2 * n, {k + n: v for k, v in c.items()}, bound) for c, bound in wins[j]]
                rows.append((*of_a, *of_b))
    return Property(tuple(rows), f"the class is the same under {a.semantics} and {b.semantics}")


def _row(size: int, coefficients: dict[int, int], bound: int) -> Linear:
    row = np.zeros(size, np.int64)
    for index, value in coefficients.items():
        row[index] = value
    return Linear(frozen_array(row, np.int64), bound)


def rejoin(a: Network, b: Network, bounds: Bounds, rule: str, proved: frozenset[int] = frozenset()) -> Joint:
    """Join on what is known: ``bounds`` of A, and operations ``proved`` to agree wherever all before them do."""
    ops, tensors = list(a.ops), list(a.tensors)
    place = {0: 0}  # of B's tensors
    starts = []
    for index, op in enumerate(b.ops):
        reads = tuple(place[t] for t in inputs(op))
        parts = may_part(a, b, index, bounds) if index < len(a.ops) and index not in proved else None
        if index in proved or (parts is not None and not parts.any()):
            if reads == inputs(a.ops[index]) == inputs(op):
                place[index + 1] = index + 1
                continue
        elif parts is not None:
            starts.append(Start(index, parts))
        ops.append(_moved(op, reads))
        tensors.append(b.tensors[index + 1])
        place[index + 1] = len(ops)
    if place[b.output.tensor] == a.output.tensor:
        return Joint(a, b, None, tuple(starts), bounds, rule)
    network = _side_by_side(a, b, ops, tensors, place)
    return Joint(a, b, network, tuple(starts), bounds, rule)


def _moved(op: Op, reads: tuple[int, ...]) -> Op:
    """The operation, reading other tensors."""
    match op:
        case Add():
            return replace(op, a=reads[0], b=reads[1])
        case Concat():
            return replace(op, xs=reads)
        case _:
            return replace(op, x=reads[0])


def _side_by_side(a: Network, b: Network, ops: list[Op], tensors: list[Tensor], place: dict[int, int]) -> Network:
    n = a.output_tensor.size
    ends = a.output.tensor, place[b.output.tensor]
    one, other = (ops[t - 1] if t else None for t in ends)
    qtype = _union(tensors[ends[0]].qtype, tensors[ends[1]].qtype)
    read = {t for op in ops for t in inputs(op)}
    if (
        isinstance(one, Dense)
        and isinstance(other, Dense)
        and ends[1] == len(ops)
        and not read & set(ends)
        and one.input_zero_point == other.input_zero_point
        and one.accumulator_bits == other.accumulator_bits
        and (one.staircase.lo, one.staircase.hi) == (other.staircase.lo, other.staircase.hi)
    ):
        del ops[ends[1] - 1], tensors[ends[1]]
        del ops[ends[0] - 1], tensors[ends[0]]
        # What stood behind A's output has moved by one.
        earlier = {t: t - (t > ends[0]) for op in (*ops, one, other) for t in inputs(op)}
        one, other = replace(one, x=earlier[one.x]), replace(other, x=earlier[other.x])
        ops[:] = [_moved(op, tuple(earlier[t] for t in inputs(op))) for op in ops]
        _stack(one, other, ops, tensors, qtype)
    else:
        flat = []
        for t in ends:
            if tensors[t].shape != (n,):
                ops.append(Reshape("flat output", t, (n,)))
                tensors.append(replace(tensors[t], shape=(n,)))
                t = len(ops)
            flat.append(t)
        ops.append(Concat("both outputs", tuple(flat), 0))
        tensors.append(Tensor("both outputs", (2 * n,), qtype))
    made = a.provenance
    joined = Provenance(made.path, "joint", f"{a.semantics}{AGAINST}{b.semantics}", made.sha256)
    return Network(a.input, tuple(ops), tuple(tensors), Output(len(ops), (1, 2 * n)), joined)


def _stack(one: Dense, other: Dense, ops: list[Op], tensors: list[Tensor], qtype: QType) -> None:
    """Both dense layers as one: on what they read together, or on the concatenation of what each reads."""
    x, blocks = one.x, [one.centred, other.centred]
    if one.x != other.x:
        left, right = tensors[one.x], tensors[other.x]
        ops.append(Concat("both hidden", (one.x, other.x), 0))
        tensors.append(Tensor("both hidden", (left.size + right.size,), _union(left.qtype, right.qtype)))
        x = len(ops)
        blocks = [np.pad(one.centred, ((0, 0), (0, right.size))), np.pad(other.centred, ((0, 0), (left.size, 0)))]
    parts = (*_by_channel(one.staircase.requant, len(one.bias)), *_by_channel(other.staircase.requant, len(other.bias)))
    staircase = Staircase(ByChannel(parts), one.staircase.lo, one.staircase.hi)
    bias = np.concatenate([one.bias, other.bias])
    ops.append(
        Dense.of(
            "both outputs", x, np.concatenate(blocks), bias, staircase,
            input_zero_point=one.input_zero_point, accumulator_bits=one.accumulator_bits,
        )
    )  # fmt: skip
    tensors.append(Tensor("both outputs", (len(bias),), qtype))


def _by_channel(requant: Requant, count: int) -> tuple[Any, ...]:
    """Parts for ``ByChannel`` that give each of ``count`` channels a multiplier of its own."""
    if isinstance(requant, ByChannel):
        return requant.parts
    return (requant,) if rq.channels(requant) == count else (requant,) * count


def _union(a: QType, b: QType) -> QType:
    """The narrowest type that holds the values of both."""
    if a == b:
        return a
    lo, hi = min(a.lo, b.lo), max(a.hi, b.hi)
    return next(t for t in (QType(bits, lo < 0) for bits in range(2, 17)) if t.lo <= lo and hi <= t.hi)
