"""Two readings of one model, or two models, as one network: one input, all operations of both, the two outputs side by side.

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
from bvverify.compare.align import align, same_meaning, two_files
from bvverify.model import requant as rq
from bvverify.model.certificate import AGAINST
from bvverify.model.network import Network, Output, Provenance
from bvverify.model.ops import Concat, Dense, Op, Reshape, inputs, moved
from bvverify.model.query import Box
from bvverify.model.requant import ByChannel, Requant
from bvverify.model.staircase import Staircase
from bvverify.model.types import AnyArray, QType, Tensor, union

_MOST_LINEAR = 4096
"""Elements of all tensors up to which linear bounds are worth their seconds here."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """One operation of which some output elements can differ though all before it is equal: bool, of the output's shape."""

    op: int
    elements: AnyArray


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """``network`` has A's n outputs, then B's. None where all of B is shared, the meaning of outputs too: then they are equal on the box.

    ``agree``: all operations of B are shared, so that the two have the same output integers on the box, whatever those stand for.
    ``starts`` are the operations at which a difference can begin, in order; ``rule`` says which ranges were used.
    """

    a: Network
    b: Network
    network: Network | None
    agree: bool
    starts: tuple[Start, ...]
    bounds: Bounds
    rule: str


def join(a: Network, b: Network, box: Box) -> Joint:
    """Join two readings of one file, or two files, on a box of their common input (``align``, whose errors it raises).

    Both read the integers of the box. How each would round a real input to them is no part of the question (``round_apart``).

    ``bounds`` of the result are of A, on the box; its A and B read the common input.
    """
    a, b = align(a, b)
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
        ops.append(moved(op, reads))
        tensors.append(b.tensors[index + 1])
        place[index + 1] = len(ops)
    agree = place[b.output.tensor] == a.output.tensor
    network = None if agree and same_meaning(a, b) else side_by_side(a, b, ops, tensors, place)
    return Joint(a, b, network, agree, tuple(starts), bounds, rule)


def side_by_side(a: Network, b: Network, ops: list[Op], tensors: list[Tensor], place: dict[int, int]) -> Network:
    """The outputs of both behind ``ops`` and ``tensors``, which hold A first, and B's tensor t at ``place[t]``."""
    n = a.output_tensor.size
    ends = a.output.tensor, place[b.output.tensor]
    one, other = (ops[t - 1] if t else None for t in ends)
    qtype = union(tensors[ends[0]].qtype, tensors[ends[1]].qtype)
    read = {t for op in ops for t in inputs(op)}
    if (
        isinstance(one, Dense)
        and isinstance(other, Dense)
        and one is not other
        and ends[1] == len(ops)
        and not read & set(ends)
        and one.input_zero_point == other.input_zero_point
        and one.accumulator_bits == other.accumulator_bits
        and (one.staircase.lo, one.staircase.hi) == (other.staircase.lo, other.staircase.hi)
    ):
        del ops[ends[1] - 1], tensors[ends[1]]
        del ops[ends[0] - 1], tensors[ends[0]]
        # What stood behind A's output, which A's own layer does not read, has moved by one.
        earlier = {t: t - (t > ends[0]) for op in (*ops, other) for t in inputs(op)}
        other = replace(other, x=earlier[other.x])
        ops[:] = [moved(op, tuple(earlier[t] for t in inputs(op))) for op in ops]
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
    joined = provenance(a, b)
    return Network(a.input, tuple(ops), tuple(tensors), Output(len(ops), (1, 2 * n)), joined)


def provenance(a: Network, b: Network) -> Provenance:
    """Where a joint network came from: both semantics, and both files where there are two."""
    one, other = a.provenance, b.provenance
    path, sha256 = (f"{x}{AGAINST}{y}" if two_files(a, b) else x for x, y in ((one.path, other.path), (one.sha256, other.sha256)))
    return Provenance(path, "joint", f"{a.semantics}{AGAINST}{b.semantics}", sha256)


def _stack(one: Dense, other: Dense, ops: list[Op], tensors: list[Tensor], qtype: QType) -> None:
    """Both dense layers as one: on what they read together, or on the concatenation of what each reads."""
    x, blocks = one.x, [one.centred, other.centred]
    if one.x != other.x:
        left, right = tensors[one.x], tensors[other.x]
        ops.append(Concat("both hidden", (one.x, other.x), 0))
        tensors.append(Tensor("both hidden", (left.size + right.size,), union(left.qtype, right.qtype)))
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
