"""A mixed integer linear program that remembers what it is about: columns, rows, and the neuron behind each of them.

All readings build one, every writer and solver takes one. A program has no objective: a solution is a counterexample, and the absence
of one is the claim that there is none. Besides its bounds, each column knows how a replay fills it: from a tensor of the network, or
from the columns before it. So an input can be run *inside* the program, exactly, and the first row that it violates be named
(``bvverify.ilp.differ``).

Coefficients are ints, or floats where a reading multiplies by a real number: a float is what the solver gets, and a replay takes it as the
rational that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Literal, assert_never

Number = int | float
Exact = int | Fraction
Values = Sequence[Exact]
"""The values of the columns so far, in their order."""
Follows = Callable[[Values], Exact]


@dataclass(frozen=True, slots=True)
class Neuron:
    """One element of a tensor: ``layer`` is the tensor's index (operation ``i`` makes tensor ``i + 1``), ``index`` the flat one."""

    layer: int
    index: int
    op: str

    @property
    def label(self) -> str:
        """As names of columns and rows carry it."""
        return f"{self.layer}_{self.index}"


class Role(StrEnum):
    """What a row says."""

    SUM = "the accumulator"
    ROUNDING = "rounding"
    BIG_M = "a value's own range, switched by big M"
    CLIP = "saturation"
    CHOICE = "the choice of a value"
    VIOLATION = "the violation"


@dataclass(frozen=True, slots=True)
class Value:
    """A column that holds an integer of the network, and the range in which the reading keeps it."""

    column: int
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class Column:
    """A variable with inclusive bounds. A replay computes ``follows``; where that is None, the column is the element ``neuron`` itself."""

    name: str
    lo: int
    hi: int
    integer: bool
    neuron: Neuron | None
    follows: Follows | None


@dataclass(frozen=True, slots=True)
class Row:
    """``sum of coefficient * column  sense  bound``; ``terms`` are (column, coefficient)."""

    name: str
    terms: tuple[tuple[int, Number], ...]
    sense: Literal["<=", ">=", "="]
    bound: Number
    role: Role
    neuron: Neuron | None

    def excess(self, values: Values) -> Exact:
        """By how much ``values`` violate the row, exactly; not positive where they meet it."""
        total: Exact = sum((exact(c) * values[column] for column, c in self.terms), start=Fraction(0)) - exact(self.bound)
        match self.sense:
            case "<=":
                return total
            case ">=":
                return -total
            case "=":
                return max(total, -total)
            case _:
                assert_never(self.sense)


@dataclass(slots=True)
class Model:
    """The program while it is built, and after. Columns are numbered in the order in which they are made."""

    columns: list[Column] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def column(self, neuron: Neuron, prefix: str, lo: int, hi: int, follows: Follows, *, integer: bool = True, suffix: str = "") -> Value:
        """A variable ``<prefix>_<layer>_<index><suffix>`` that a replay computes from the columns before it."""
        return self._append(Column(f"{prefix}_{neuron.label}{suffix}", lo, hi, integer, neuron, follows))

    def switch(self, name: str, follows: Follows) -> Value:
        """A binary that belongs to the question, not to a neuron."""
        return self._append(Column(name, 0, 1, True, None, follows))

    def element(self, neuron: Neuron, lo: int, hi: int, *, integer: bool = True) -> Value:
        """The variable of a network's element: ``x_<index>`` of the input, ``y_<layer>_<index>`` of other tensors."""
        name = f"x_{neuron.index}" if neuron.layer == 0 else f"y_{neuron.label}"
        return self._append(Column(name, lo, hi, integer, neuron, None))

    def _append(self, column: Column) -> Value:
        self.columns.append(column)
        return Value(len(self.columns) - 1, column.lo, column.hi)

    def row(
        self,
        name: str,
        terms: Sequence[tuple[Value, Number]],
        sense: Literal["<=", ">=", "="],
        bound: Number,
        role: Role,
        neuron: Neuron | None = None,
    ) -> None:
        """One constraint. Terms of one column are added up, those of coefficient 0 left out, and so is a row without terms that holds."""
        merged: dict[int, Number] = {}
        for value, c in terms:
            merged[value.column] = merged.get(value.column, 0) + c
        kept = tuple((column, c) for column, c in merged.items() if c)
        row = Row(name, kept, sense, bound, role, neuron)
        if kept or row.excess(()) > 0:
            self.rows.append(row)


def exact(number: Number) -> Exact:
    """An int as it is, a float as the rational that it is."""
    return number if isinstance(number, int) else Fraction(number)
