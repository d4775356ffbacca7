"""Certificates: what a search leaves behind so that somebody else can check *verified*, as plain data.

A **unit** is one step function of an integer accumulator: each output element of a dense, convolution, residual add, integer mean, clamp or
table operation, and each comparison of a max pooling (``units``). A **multiplier** is one integer for a unit; any multipliers give a valid
bound (weak duality), so that a certificate cannot be wrong in them, only too weak.

A proof has two parts. *Tightenings*, in order, claim a bound of single accumulators that holds on the whole box, each with its multipliers
over the operations before. Then one binary *tree* for each conjunction of the violation: an inner node splits one accumulator (or one
input) at an integer, ``a <= v`` first, ``a >= v + 1`` second; a leaf says why nothing in it meets the conjunction. Ranges are never stored:
whoever checks derives them from the box, the claims and the splits.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import assert_never

import numpy as np

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
    Reshape,
    SequentialFloat32,
    SumThenRequantise,
    Transpose,
)
from bvverify.model.query import Conjunction, Linear, Query
from bvverify.model.types import Int64Array

_MOST_EXPONENT = 256
MOST_PROOF_BYTES = 256 << 20
"""Of all proofs of a certificate's leaves together, as text."""
AGAINST = " against "
"""Between the paths, digests and semantics of the two networks that a joint one was made of (``bvverify.compare``)."""
REALS = "real numbers"
"""The semantics of a float original, over the reals, for which integers of a proved error stand (``bvverify.compare.approximate``)."""
INPUT = -1
"""Stands for the network's input where a split names an operation; its units are the input's elements."""


class Kind(IntEnum):
    """The kinds of nodes of a tree, as they are stored."""

    SPLIT = 0
    INTERVAL = 1
    """A leaf: intervals alone show that one row of the conjunction cannot be met, or that no input is left."""
    BOUND = 2
    """A leaf: its multipliers and row weights bound the weighted rows above zero."""
    SOLVER = 3
    """A leaf that a solver closed: not the kernel's to check, but ``bvverify.proofs`` can where it has a proof."""


@dataclass(frozen=True, slots=True, eq=False)
class Multipliers:
    """Multipliers for a number of rows: ``values[op] * 2^-exponents[op]``, int64 (rows, units of the operation).

    An operation that is not there has multipliers zero.
    """

    rows: int
    values: dict[int, Int64Array]
    exponents: dict[int, int]

    def check(self, network: Network, rows: int) -> None:
        """Raise ``ValueError`` unless there are ``rows`` rows for units that the network has, at exponents within 256."""
        if self.rows != rows or set(self.values) != set(self.exponents):
            raise ValueError("the multipliers do not fit")
        for op, values in self.values.items():
            size = units(network, op) if 0 <= op < len(network.ops) else 0
            if not size or values.shape != (rows, size) or values.dtype != np.int64:
                raise ValueError(f"multipliers of shape {values.shape} for the {size} units of operation {op}")
            if abs(self.exponents[op]) > _MOST_EXPONENT:
                raise ValueError(f"an exponent of {self.exponents[op]}")

    def of(self, op: int, shape: tuple[int, ...]) -> tuple[Int64Array, int]:
        """Those of one operation and their exponent; zeros of ``shape`` where there are none."""
        return (self.values[op], self.exponents[op]) if op in self.values else (np.zeros(shape, np.int64), 0)

    def at(self, rows: Int64Array) -> Multipliers:
        """Some of the rows."""
        return Multipliers(len(rows), {op: v[rows] for op, v in self.values.items()}, self.exponents)


@dataclass(frozen=True, slots=True, eq=False)
class Tightening:
    """Claims about accumulators of one operation: row ``i`` says ``acc[unit[i]] >= claim[i]``, or ``<=`` where ``upper[i]``.

    Its multipliers belong to the operations before ``op`` and weigh the accumulator, negated where ``upper[i]``.
    """

    op: int
    unit: Int64Array
    upper: np.ndarray
    claim: Int64Array
    multipliers: Multipliers

    def check(self, network: Network) -> None:
        """Raise ``ValueError`` unless it is about accumulators that the network has, with multipliers of earlier operations."""
        if not 0 <= self.op < len(network.ops) or not isinstance(network.ops[self.op], Dense | Conv2d):
            raise ValueError(f"operation {self.op} has no accumulator that could be tightened")
        rows, size = len(self.unit), units(network, self.op)
        if not rows == len(self.upper) == len(self.claim) or (rows and not 0 <= self.unit.min() <= self.unit.max() < size):
            raise ValueError(f"claims about units that operation {self.op} does not have")
        self.multipliers.check(network, rows)
        if any(op >= self.op for op in self.multipliers.values):
            raise ValueError("multipliers beyond the operation that is bounded")


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """The trees of all conjunctions, one after the other, each in preorder.

    ``kind`` (nodes,) are ``Kind``; ``split_op``, ``split_unit``, ``split_value`` have an entry for each split, ``weight``
    (leaves, most rows of a conjunction) and ``multipliers`` a row for each ``BOUND`` leaf, in order.
    """

    kind: Int64Array
    split_op: Int64Array
    split_unit: Int64Array
    split_value: Int64Array
    weight: Int64Array
    multipliers: Multipliers

    def check(self, network: Network) -> None:
        """Raise ``ValueError`` unless the arrays fit each other and the splits are of units that the network has."""
        self.multipliers.check(network, len(self.weight))
        if not len(self.split_op) == len(self.split_unit) == len(self.split_value) == int((self.kind == Kind.SPLIT).sum()):
            raise ValueError("the splits do not fit the nodes")
        if len(self.weight) != int((self.kind == Kind.BOUND).sum()):
            raise ValueError("the multipliers do not fit the leaves")
        for op in {int(i) for i in self.split_op}:
            size = units(network, op) if INPUT <= op < len(network.ops) else 0
            unit = self.split_unit[self.split_op == op]
            if not 0 <= unit.min() <= unit.max() < size:
                raise ValueError(f"a split of a unit that operation {op} does not have")


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """What is claimed: no input of the box, run through the model under the named semantics, meets the violation."""

    model_sha256: str
    semantics: str
    lo: Int64Array
    hi: Int64Array
    violation: tuple[Conjunction, ...]
    text: str = ""
    model_path: str = ""

    @staticmethod
    def of(query: Query) -> Statement:
        """The statement that a query is verified."""
        made = query.network.provenance
        return Statement(made.sha256, made.semantics, query.box.lo, query.box.hi, query.property.violation, query.property.text, made.path)

    def differs(self, other: Statement) -> str:
        """What two statements differ in, in words; empty where they are the same. Text and path count for nothing."""
        if self.model_sha256 != other.model_sha256:
            return f"another model: sha256 {self.model_sha256[:16]}, not {other.model_sha256[:16]}"
        if self.semantics != other.semantics:
            return f"other semantics: {self.semantics}, not {other.semantics}"
        if not (np.array_equal(self.lo, other.lo) and np.array_equal(self.hi, other.hi)):
            return "another box of inputs"
        if [[_key(row) for row in c] for c in self.violation] != [[_key(row) for row in c] for c in other.violation]:
            return "another property"
        return ""


@dataclass(frozen=True, slots=True)
class LeafProof:
    """A DRAT proof (text) for the ``SOLVER`` leaf at position ``node`` of the forest, of the clauses with this SHA-256."""

    node: int
    clauses_sha256: str
    drat: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """A statement and its proof; ``leaf_proofs`` are of leaves that a solver closed, in the forest's order, and may lack some."""

    statement: Statement
    tightenings: tuple[Tightening, ...]
    forest: Forest
    leaf_proofs: tuple[LeafProof, ...] = ()


def _key(row: Linear) -> tuple[list[int], list[int], int]:
    over = [] if row.inputs is None or not row.inputs.any() else row.inputs.tolist()
    return row.outputs.tolist(), over, int(row.bound)


def units(network: Network, index: int) -> int:
    """The number of units of operation ``index`` (``INPUT``: of the input); 0 where it only moves values, or is no step function.

    A max pooling over K positions, row by row, is K - 1 times ``m = m + max(0, x_k - m)``: unit ``(k - 1, *output)`` is the step
    function ``max(0, .)`` of ``x_k - m``.
    """
    if index == INPUT:
        return network.input.tensor.size
    op, size = network.ops[index], network.tensors[index + 1].size
    match op:
        case Dense() | Conv2d() | Add() | Clamp() | Lookup() | AvgPool(rule=SumThenRequantise()):
            return size
        case MaxPool(window=window):
            return (window.kernel[0] * window.kernel[1] - 1) * size
        case AvgPool(rule=SequentialFloat32()) | Concat() | Reshape() | Transpose():
            return 0
        case AvgPool():
            raise ValueError(f"{op.name}: an unknown rule")
        case _:
            assert_never(op)
