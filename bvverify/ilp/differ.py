"""Why an ILP and the device part: one input inside the ILP's own rows, in exact rationals.

Two things can go wrong with an ILP's answer. It *excludes* an input that violates the property on the device, or it *invents* one that
does not. Either way the input is run through the network, the ILP's columns are filled from it, and the first row (layer by
layer) that does not hold is named, with the neuron, the real number that it is about, and what is to blame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

import numpy as np

from bvverify.errors import InternalError
from bvverify.ilp.line import MARGIN, Line, half_up
from bvverify.ilp.model import Exact, Neuron, Role, Row, exact
from bvverify.ilp.program import Program
from bvverify.ilp.reading import Reading
from bvverify.model.types import Int64Array
from bvverify.run import interpreter


class Blame(StrEnum):
    """What parts the two."""

    TIE = "tie"
    ARITHMETIC = "multiplier"
    TOLERANCE = "tolerance"
    BIG_M = "big-M"
    SOLVER = "solver"


@dataclass(frozen=True, slots=True)
class Difference:
    """Where an input breaks the ILP: the ``row`` (or the column whose bounds it leaves), by how much, and why.

    ``layer`` is the tensor's index, ``op`` the operation that makes it, ``index`` the flat element; -1 and "" where no neuron is to blame.
    """

    blame: Blame
    op: str
    layer: int
    index: int
    row: str
    excess: Fraction
    text: str

    def __str__(self) -> str:
        return self.text


_NOISE = Fraction(1, 10**9)
"""What making float64 of a coefficient may move a row by, and more: far below any solver's tolerance."""


@dataclass(frozen=True, slots=True)
class _Violation:
    row: str
    excess: Fraction
    role: Role | None
    neuron: Neuron | None
    source: Row | None


def excluded(program: Program, x: Int64Array) -> Difference:
    """Why the program has no solution with the input ``x``, a witness (the input tensor's shape).

    ``InternalError`` where the exact reading excludes it: that would be a bug in bvverify.
    """
    values = _filled(program, x)
    found = next(_violations(program, values), None)
    if found is None:
        text = "the witness meets every row of the ILP exactly; a solver that excludes it does so by its own presolve, cuts or tolerances"
        return Difference(Blame.SOLVER, "", -1, -1, "", Fraction(0), text)
    if program.reading is Reading.EXACT or found.neuron is None:
        raise InternalError(f"a witness violates row {found.row} of the {program.reading} reading, which should hold: please report this")
    neuron = found.neuron
    out = int(values[_column(program, neuron)])
    line = program.lines.get((neuron.layer, neuron.index))
    if line is None:
        raise InternalError(f"a witness violates row {found.row}, in which nothing is rounded: please report this")
    p = line.at(values)
    blame, reason = _of_rounding(line, p, out)
    broken = f"row {found.row}" if found.source is not None else f"the range of {found.row}"
    text = f"{_place(neuron)}: {reason}; the ILP's {broken} excludes that by {_decimal(found.excess)}. To blame: {_NAMES[blame]}"
    return Difference(blame, neuron.op, neuron.layer, neuron.index, found.row, found.excess, text)


def invented(program: Program, solution: tuple[float, ...]) -> Difference:
    """Why a solution of the program is no witness: its integers made integers, and what is left of the rows then."""
    model = program.model
    values: list[Exact] = []
    for column, value in zip(model.columns, solution, strict=True):
        values.append(round(value) if column.integer or column.follows is None else column.follows(values))
    found = next(_violations(program, values), None)
    if found is None:
        return _other_function(program, values)
    neuron, row = found.neuron, found.source
    where = "" if neuron is None else f"{_place(neuron)}: "
    blame, reason = Blame.TOLERANCE, "the solution holds the row up to the solver's tolerance only"
    if row is not None:
        shifts = [(abs(exact(c) * (Fraction(solution[k]) - values[k])), k) for k, c in row.terms if model.columns[k].integer]
        shift, k = max(shifts, default=(Fraction(0), 0))
        if 2 * shift > found.excess:
            blame = Blame.BIG_M
            times = f"{abs(dict(row.terms)[k]):,}"
            found_at = f"{model.columns[k].name} is {solution[k]:.3g} in the solution, which counts as {values[k]}"
            reason = f"{found_at}; times {times} that moves the row by {_decimal(shift)}"
    text = f"{where}{reason}; with integers, row {found.row} is violated by {_decimal(found.excess)}. To blame: {_NAMES[blame]}"
    place = ("", -1, -1) if neuron is None else (neuron.op, neuron.layer, neuron.index)
    return Difference(blame, *place, found.row, found.excess, text)


_NAMES = {
    Blame.TIE: "a tie",
    Blame.ARITHMETIC: "a multiplication that the device does not do exactly",
    Blame.TOLERANCE: "a tolerance",
    Blame.BIG_M: "a big-M constant times the tolerance for integers",
    Blame.SOLVER: "the solver",
}


def _other_function(program: Program, values: list[Exact]) -> Difference:
    """A solution that holds in integers: the reading is another function than the device; where they part first."""
    shape = program.query.network.input.tensor.shape
    x = np.array([int(values[v.column]) for v in program.tensors[0].ravel()], np.int64).reshape(shape)
    trace = interpreter.trace(program.query.network, x[None])
    for k, column in enumerate(program.model.columns):
        neuron = column.neuron
        if neuron is None or column.follows is not None:
            continue
        out = int(trace[neuron.layer].ravel()[neuron.index])
        line = program.lines.get((neuron.layer, neuron.index))
        if out != values[k] and line is not None:
            blame, reason = _of_rounding(line, line.at(values), out)
            text = f"{_place(neuron)}: {reason}, the ILP {int(values[k])}. To blame: {_NAMES[blame]}"
            return Difference(blame, neuron.op, neuron.layer, neuron.index, column.name, Fraction(0), text)
    raise InternalError(f"a solution of the {program.reading} reading holds in integers and does not replay: please report this")


def _of_rounding(line: Line, p: Fraction, out: int) -> tuple[Blame, str]:
    """What makes the device's ``out`` of the real number ``p`` another value than the ILP's rounding does."""
    nearest = min(max(half_up(p), line.lo), line.hi)
    tie = p + Fraction(1, 2)
    off = tie - round(tie)
    device = f"the device ({line.arithmetic}) makes {out} of it"
    if off == 0 and out != nearest:
        return Blame.TIE, f"the real number is {_decimal(p)} exactly, a tie; {device}, half up {nearest}"
    number = f"the real number is {_decimal(p)}, {_decimal(abs(off))} {'below' if off < 0 else 'above'} a tie"
    if out != nearest:
        return Blame.ARITHMETIC, f"{number}; {device}, exact rounding {nearest}"
    if abs(off) > MARGIN:
        raise InternalError(f"an ILP excludes {out} where {number}: please report this")
    return Blame.TOLERANCE, f"{number}, nearer than the margin {MARGIN:g}; {device}"


def _filled(program: Program, x: Int64Array) -> list[Exact]:
    """Every column as the device's run on ``x`` has it."""
    trace = [t.ravel() for t in interpreter.trace(program.query.network, x[None])]
    values: list[Exact] = []
    for column in program.model.columns:
        if column.follows is not None:
            values.append(column.follows(values))
        elif column.neuron is not None:
            values.append(int(trace[column.neuron.layer][column.neuron.index]))
    return values


def _violations(program: Program, values: list[Exact]) -> Iterator[_Violation]:
    """What does not hold, layer by layer: rows first, then bounds of columns; the rows of the question last."""
    layers = len(program.tensors)
    rows: list[list[Row]] = [[] for _ in range(layers + 1)]
    columns: list[list[int]] = [[] for _ in range(layers + 1)]
    for row in program.model.rows:
        rows[layers if row.neuron is None else row.neuron.layer].append(row)
    for k, column in enumerate(program.model.columns):
        columns[layers if column.neuron is None else column.neuron.layer].append(k)
    for layer in range(layers + 1):
        for row in rows[layer]:
            excess = row.excess(values)
            if excess > _NOISE:
                yield _Violation(row.name, Fraction(excess), row.role, row.neuron, row)
        for k in columns[layer]:
            column = program.model.columns[k]
            excess = max(column.lo - values[k], values[k] - column.hi)
            if excess > _NOISE:
                yield _Violation(column.name, Fraction(excess), None, column.neuron, None)


def _column(program: Program, neuron: Neuron) -> int:
    value = program.tensors[neuron.layer].ravel()[neuron.index]
    return int(value.column)


def _place(neuron: Neuron) -> str:
    return f"node {neuron.op}, neuron {neuron.index}"


def _decimal(value: Exact) -> str:
    """A short decimal; exact where it is short."""
    return f"{float(value):.12g}"
