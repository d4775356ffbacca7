"""A question as an SMT-LIB 2 script on top of the normative definitions (``encodings/``): self-contained, for a reader and for any solver.

This is not the optimised encoding that the search uses (``bvverify.encode.network``): it takes nothing from thresholds, and no width from
bounds. Every number has the width of the hardware, every requantisation is its definition, and every element of every tensor has a name:

==================  =========================================================================================
``in<i>``           input i, flat, in the width of its type; an input of one value has no variable
``t<n>.<i>.<j>``    element (i, j) of tensor n, tensor 0 being the input
``a<n>.<i>.<j>``    the accumulator behind it
``q<n>.<c>``        the requantisation of channel c in the layer that makes tensor n
``table<n>``        the table of the layer that makes tensor n
``violated.<k>``    the k-th way in which the property can be violated
==================  =========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np

from bvverify.bounds.interval import Bounds
from bvverify.encode import definitions
from bvverify.encode.calls import call, integer, real32
from bvverify.encode.definitions import ACC_BITS
from bvverify.errors import UnsupportedError
from bvverify.model.ops import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv2d,
    Dense,
    FmaAdd,
    Lookup,
    MaxPool,
    Op,
    Q31Add,
    Reshape,
    SequentialFloat32,
    ShiftAdd,
    SumThenRequantise,
    Transpose,
    Window,
    inputs,
)
from bvverify.model.query import Linear, Query
from bvverify.model.requant import Q31Double, Q31HalfUp, Q31Single
from bvverify.model.staircase import Staircase
from bvverify.model.types import AnyArray

Names = AnyArray
"""An object array of the tensor's shape: the symbol of each element."""


def to_smt2(query: Query, bounds: Bounds) -> str:
    """The script: satisfiable exactly when an input of the box violates the property.

    ``bounds`` are sound for the box; they only say whether accumulators that are exact integers fit into 32 bits (else they get 64).
    """
    writer = _Writer(_acc_bits(query, bounds))
    names = [writer.inputs(query)]
    for index, op in enumerate(query.network.ops):
        names.append(writer.operation(op, index + 1, [names[i] for i in inputs(op)], query))
    writer.violation(query, names[0].ravel().tolist(), names[query.network.output.tensor].ravel().tolist())
    used = definitions.closure(writer.used)
    prelude = definitions.prelude(used)
    if writer.bits != ACC_BITS:
        prelude = definitions.at_width(prelude, writer.bits)
    about = query.network.provenance
    head = [
        "; satisfiable exactly when an input of the box violates the property; unsat means verified",
        f"; property: {' '.join(query.property.text.split())}",
        f"; model: sha256 {about.sha256}, semantics {about.semantics}",
        "; in<i> is input i, flat; t<n>.<i>... element i... of tensor n; a<n>... its accumulator; q<n>.<c> the requantisation of channel c",
        f"(set-logic {'QF_BVFP' if 'floats.smt2' in used else 'QF_BV'})",
        "",
    ]
    return "\n".join([*head, prelude, *writer.lines, "(check-sat)"]) + "\n"


def _acc_bits(query: Query, bounds: Bounds) -> int:
    """32, or 64 where an exact accumulator needs more."""
    wide = None
    for index, op in enumerate(query.network.ops):
        lo, hi = bounds.acc_lo[index], bounds.acc_hi[index]
        if isinstance(op, Dense | Conv2d) and (op.accumulator_bits or 64) > ACC_BITS and lo is not None and hi is not None:
            wide = op if lo.min() < -(1 << 31) or hi.max() >= 1 << 31 else wide
    if wide is None:
        return ACC_BITS
    for op in query.network.ops:
        if isinstance(op, Dense | Conv2d) and isinstance(op.staircase.requant, Q31Double | Q31HalfUp | Q31Single):
            raise UnsupportedError(
                f"{query.network.provenance.path}: {wide.name}: an exact accumulator beyond 32 bits beside the fixed-point"
                f" requantisation of {op.name} has no definition to export; verify decides it, or narrow the box"
            )
    return 2 * ACC_BITS


@dataclass(slots=True)
class _Writer:
    """Lines in the making, and the definitions that they use."""

    bits: int
    lines: list[str] = field(default_factory=list)
    used: dict[str, None] = field(default_factory=lambda: {"integers.smt2": None})

    def inputs(self, query: Query) -> Names:
        """Variables of the type's width, extended to numbers; the box."""
        tensor, names = query.network.input.tensor, np.empty(query.box.lo.shape, object)
        self.lines.append(f"; ---- tensor 0: the input, {tensor.qtype}, shape {list(tensor.shape)}, and its box")
        extend = f"(_ {'sign' if tensor.qtype.signed else 'zero'}_extend {self.bits - tensor.qtype.bits})"
        for flat, index in enumerate(np.ndindex(names.shape)):
            name, lo, hi = _symbol("t", 0, index), int(query.box.lo[index]), int(query.box.hi[index])
            names[index] = name
            if lo == hi:
                self.define(name, self.number(lo))
                continue
            self.lines.append(f"(declare-const in{flat} (_ BitVec {tensor.qtype.bits}))")
            self.define(name, f"({extend} in{flat})")
            self.lines.append(f"(assert (and (bvsle {self.number(lo)} {name}) (bvsle {name} {self.number(hi)})))")
        return names

    def operation(self, op: Op, tensor: int, xs: list[Names], query: Query) -> Names:
        """The definitions of one operation's elements; those that only move elements name nothing new."""
        x, shape = xs[0], query.network.tensors[tensor].shape
        self.lines.append(f"; ---- tensor {tensor}: {_readable(op.name)} ({type(op).__name__}), shape {list(shape)}")
        match op:
            case Dense():
                self.used[definitions.layer("dense")] = None
                rows = [(i, (i,), list(zip(x.tolist(), op.weight[i].tolist(), strict=True))) for i in range(len(op.weight))]
                return self.neurons(op, tensor, shape, rows)
            case Conv2d():
                self.used[definitions.layer("dense")] = None
                return self.neurons(op, tensor, shape, _convolved(op, x))
            case Add():
                return self.sums(op, tensor, shape, xs[0], xs[1])
            case AvgPool():
                return self.means(op, tensor, shape, x)
            case MaxPool():
                self.used[definitions.layer("max-pool")] = None
                largest = {i: _nested("larger", values) for i, values in _windows(op.window, x)}
                return self.elements(tensor, shape, largest.__getitem__)
            case Clamp():
                self.used[definitions.layer("clamp")] = None
                return self.elements(tensor, shape, lambda i: f"(clamp-layer {x[i]} {self.number(op.lo)} {self.number(op.hi)})")
            case Lookup():
                table = self.table(f"table{tensor}", "Acc", op.input_lo, [self.number(v) for v in op.table.tolist()])
                return self.elements(tensor, shape, lambda i: f"({table} {x[i]})")
            case Concat():
                return np.concatenate(xs, axis=op.axis)
            case Reshape():
                return x.reshape(op.shape)
            case Transpose():
                return x.transpose(op.axes)
            case _:
                assert_never(op)

    def neurons(
        self, op: Dense | Conv2d, tensor: int, shape: tuple[int, ...], rows: Sequence[tuple[int, tuple[int, ...], list[tuple[str, int]]]]
    ) -> Names:
        """Dense layers and convolutions: rows of (channel, element, its inputs with their weights as stored)."""
        sums = {}
        for channel, index, pairs in rows:
            weight_zero = int(op.weight_zero_point[channel if len(op.weight_zero_point) > 1 else 0])
            zeros = self.number(op.input_zero_point), self.number(weight_zero)
            # A weight at its zero point adds nothing.
            products = [f"(product {x} {zeros[0]} {self.number(w)} {zeros[1]})" for x, w in pairs if w != weight_zero]
            total = _sum("bvadd", [self.number(int(op.bias[channel])), *products])
            if op.accumulator_bits is not None and op.accumulator_bits < self.bits:
                narrow = op.accumulator_bits
                total = f"((_ sign_extend {self.bits - narrow}) ((_ extract {narrow - 1} 0) {total}))"
            sums[index] = total
        return self.requantised(op.staircase, tensor, shape, sums.__getitem__)

    def requantised(
        self, staircase: Staircase, tensor: int, shape: tuple[int, ...], accumulator: Callable[[tuple[int, ...]], str]
    ) -> Names:
        """A requantisation for each channel, and for each element an accumulator and what becomes of it."""
        channels = len(staircase.thresholds)
        for channel in range(channels):
            path, term = call(staircase.requant, channel, "acc", self.number(staircase.lo), self.number(staircase.hi), self.bits)
            self.used[path] = None
            self.lines.append(f"(define-fun q{tensor}.{channel} ((acc Acc)) Acc {term})")

        def term_of(index: tuple[int, ...]) -> str:
            name = _symbol("a", tensor, index)
            self.define(name, accumulator(index))
            return f"(q{tensor}.{index[0] if channels > 1 else 0} {name})"

        return self.elements(tensor, shape, term_of)

    def sums(self, op: Add, tensor: int, shape: tuple[int, ...], a: Names, b: Names) -> Names:
        """Additions, by their rule."""
        match op.rule:
            case FmaAdd(ra=ra, rb=rb, offset=offset):
                self.used[definitions.layer("add")] = None
                tail = f"{real32(ra)} {real32(rb)} {real32(offset)} {self.number(op.lo)} {self.number(op.hi)}"
                return self.elements(tensor, shape, lambda i: f"(add-fma {a[i]} {b[i]} {tail})")
            case ShiftAdd(ma=ma, mb=mb, bias=bias, shift=shift, zero_point=zero):
                self.used[definitions.layer("add-xnnpack")] = None
                tail = " ".join(map(self.number, (ma, mb, bias, shift, zero, op.lo, op.hi)))
                return self.elements(tensor, shape, lambda i: f"(add-shift {a[i]} {b[i]} {tail})")
            case Q31Add(za=za, zb=zb, qa=qa, qb=qb, qo=qo, zero_point=zero, single=single):
                self.used[definitions.layer("add-tflite")] = None
                function = "add-q31-single" if single else "add-q31-double"
                tail = " ".join(map(self.number, (za, zb, *qa, *qb, *qo, zero, op.lo, op.hi)))
                return self.elements(tensor, shape, lambda i: f"({function} {a[i]} {b[i]} {tail})")
            case _:
                assert_never(op.rule)

    def means(self, op: AvgPool, tensor: int, shape: tuple[int, ...], x: Names) -> Names:
        """Average pooling, by its rule."""
        match op.rule:
            case SumThenRequantise(input_zero_point=zero, staircase=staircase):
                sums = {i: _sum("bvadd", [f"(bvsub {v} {self.number(zero)})" for v in values]) for i, values in _windows(op.window, x)}
                return self.requantised(staircase, tensor, shape, sums.__getitem__)
            case SequentialFloat32():
                return self.float_means(op, op.rule, tensor, shape, x)
            case _:
                assert_never(op.rule)

    def float_means(self, op: AvgPool, rule: SequentialFloat32, tensor: int, shape: tuple[int, ...], x: Names) -> Names:
        """The dequantised inputs as a table (they are what the runtime's own multiplication gives), then its additions in its order."""
        self.used[definitions.layer("avg-pool")] = None
        table = self.table(f"table{tensor}", "Float32", rule.input_lo, [real32(v) for v in rule.values.tolist()])
        terms = {}
        for index, values in _windows(op.window, x):
            count = op.window.kernel[0] * op.window.kernel[1] if rule.count_padding else len(values)
            total = _nested("fp.add RNE", [f"({table} {v})" for v in values]) if values else real32(0.0)
            tail = f"{real32(count)} {real32(rule.output_scale)} {real32(rule.zero_point)} {self.number(rule.lo)} {self.number(rule.hi)}"
            terms[index] = f"(mean-finish {total} {tail})"
        return self.elements(tensor, shape, terms.__getitem__)

    def table(self, name: str, sort: str, first: int, entries: list[str]) -> str:
        """A function of one number by its values from ``first`` on, in the form of ``encodings/layers/table``; its name."""

        def tree(start: int, stop: int) -> str:
            if len(set(entries[start:stop])) == 1:
                return entries[start]
            middle = (start + stop) // 2
            return f"(ite (bvslt x {self.number(first + middle)}) {tree(start, middle)} {tree(middle, stop)})"

        self.lines.append(f"(define-fun {name} ((x Acc)) {sort} {tree(0, len(entries))})")
        return name

    def elements(self, tensor: int, shape: tuple[int, ...], term: Callable[[tuple[int, ...]], str]) -> Names:
        """One definition an element."""
        names = np.empty(shape, object)
        for index in np.ndindex(shape):
            name = _symbol("t", tensor, index)
            self.define(name, term(index))
            names[index] = name
        return names

    def violation(self, query: Query, x: list[str], y: list[str]) -> None:
        """Each conjunction by name, and that one of them holds."""
        self.lines.append("; ---- the violation: one of these holds; sums are taken in a product's width")
        cases = query.property.violation
        for k, conjunction in enumerate(cases):
            rows = [self.row(row, x, y) for row in conjunction]
            self.lines.append(f"(define-fun violated.{k} () Bool {_junction('and', rows, 'true')})")
        self.lines.append(f"(assert {_junction('or', [f'violated.{k}' for k in range(len(cases))], 'false')})")

    def row(self, row: Linear, x: list[str], y: list[str]) -> str:
        """``outputs . y + inputs . x <= bound``."""
        pairs = list(zip(row.outputs.tolist(), y, strict=True))
        if row.inputs is not None:
            pairs += zip(row.inputs.tolist(), x, strict=True)
        terms = [f"(bvmul {self.wide(c)} (widen {v}))" for c, v in pairs if c]
        return f"(bvsle {_sum('bvadd', terms) if terms else 'zero'} {self.wide(row.bound)})"

    def define(self, name: str, term: str) -> None:
        """A number with a name."""
        self.lines.append(f"(define-fun {name} () Acc {term})")

    def number(self, value: int) -> str:
        """An accumulator's literal."""
        return integer(int(value), self.bits)

    def wide(self, value: int) -> str:
        """A product's literal."""
        return integer(int(value), 2 * self.bits)


def _convolved(op: Conv2d, x: Names) -> list[tuple[int, tuple[int, ...], list[tuple[str, int]]]]:
    """Every output element with the inputs and weights of its window; a padded position holds the input's zero point and adds nothing."""
    inputs_each, outputs_each = op.weight.shape[1], len(op.weight) // op.groups
    rows = []
    for channel in range(len(op.weight)):
        first = channel // outputs_each * inputs_each
        weights = op.weight[channel].reshape(inputs_each, -1).tolist()
        at: dict[tuple[int, ...], list[tuple[str, int]]] = {}
        for (c, i, j), offsets in _positions(op.window, x[first : first + inputs_each]):
            at.setdefault((channel, i, j), []).extend((x[first + c, r, s], weights[c][k]) for k, r, s in offsets)
        rows += [(channel, index, pairs) for index, pairs in at.items()]
    return rows


def _windows(window: Window, x: Names) -> Iterator[tuple[tuple[int, ...], list[str]]]:
    """Every position (c, i, j) with what its window holds inside the image, in row-major order."""
    for (c, i, j), offsets in _positions(window, x):
        yield (c, i, j), [x[c, r, s] for _, r, s in offsets]


def _positions(window: Window, x: Names) -> Iterator[tuple[tuple[int, int, int], list[tuple[int, int, int]]]]:
    """Every position (c, i, j) with the (kernel index, row, column) of its window that lie inside the image."""
    channels, height, width = x.shape
    (top, left), columns = window.padding[:2], window.kernel[1]
    for c, i, j in np.ndindex(channels, *window.output(height, width)):
        offsets = []
        for u, v in np.ndindex(*window.kernel):
            r, s = i * window.strides[0] - top + u * window.dilations[0], j * window.strides[1] - left + v * window.dilations[1]
            if 0 <= r < height and 0 <= s < width:
                offsets.append((u * columns + v, r, s))
        yield (c, i, j), offsets


def _symbol(kind: str, tensor: int, index: tuple[int, ...]) -> str:
    return ".".join([f"{kind}{tensor}", *map(str, index)])


def _sum(function: str, terms: list[str]) -> str:
    return terms[0] if len(terms) == 1 else f"({function} {' '.join(terms)})"


def _nested(function: str, terms: Sequence[str]) -> str:
    """From the left: the order in which a runtime adds."""
    total = terms[0]
    for term in terms[1:]:
        total = f"({function} {total} {term})"
    return total


def _junction(function: str, terms: list[str], empty: str) -> str:
    return _sum(function, terms) if terms else empty


def _readable(name: str) -> str:
    """A node's name on one line of comment."""
    return " ".join(name.split()) or "without a name"
