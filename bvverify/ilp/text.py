"""A program as text: the LP format of CPLEX, and free-format MPS. HiGHS, SCIP, CBC, GLPK and Gurobi read both.

Numbers are written so that they read back as the same float64. There is no objective.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bvverify.ilp.model import Model, Number, Row
from bvverify.ilp.reading import Reading
from bvverify.model.query import Query

_WIDTH = 200
"""Readers of LP files limit a line, CPLEX to 560 characters."""


def to_lp(model: Model, comments: Sequence[str] = ()) -> str:
    """The program in LP format; ``comments`` go to its head, one a line."""
    names = [c.name for c in model.columns]
    lines = [*(f"\\ {text}" for text in comments), "Minimize", f" nothing: 0 {names[0]}", "Subject To"]
    for row in model.rows:
        terms = (f"{_signed(c)} {names[column]}" for column, c in row.terms)
        lines += _filled(f" {row.name}:", [*terms, row.sense, _number(row.bound)] if row.terms else _never(row, names[0]))
    lines.append("Bounds")
    lines += (f" {c.lo} <= {c.name} <= {c.hi}" for c in model.columns)
    integers = [c.name for c in model.columns if c.integer]
    if integers:
        lines += ["General", *_filled("", integers)]
    return "\n".join([*lines, "End", ""])


def to_mps(model: Model, comments: Sequence[str] = ()) -> str:
    """The program in free-format MPS."""
    senses = {"<=": "L", ">=": "G", "=": "E"}
    by_column: list[list[tuple[str, Number]]] = [[] for _ in model.columns]
    for row in model.rows:
        for k, c in row.terms:
            by_column[k].append((row.name, c))
    lines = [*(f"* {text}" for text in comments), "NAME bvverify", "ROWS", " N nothing"]
    lines += (f" {senses[row.sense]} {row.name}" for row in model.rows)
    lines.append("COLUMNS")
    inside = False
    for column, entries in zip(model.columns, by_column, strict=True):
        if column.integer != inside:
            inside = column.integer
            lines.append(f" MARKER{len(lines)} 'MARKER' '{'INTORG' if inside else 'INTEND'}'")
        # A column without entries still has to be declared.
        lines += (f" {column.name} {name} {_number(c)}" for name, c in entries or [("nothing", 0)])
    if inside:
        lines.append(f" MARKER{len(lines)} 'MARKER' 'INTEND'")
    lines.append("RHS")
    lines += (f" RHS {row.name} {_number(row.bound)}" for row in model.rows if row.bound)
    lines.append("BOUNDS")
    for column in model.columns:
        lines += [f" LO BOUND {column.name} {column.lo}", f" UP BOUND {column.name} {column.hi}"]
    return "\n".join([*lines, "ENDATA", ""])


def about(query: Query, reading: Reading) -> list[str]:
    """What a file says of itself at its head: the question, in lines without line breaks."""
    network = query.network
    lines = [
        f"bvverify, ILP reading {reading}: feasible where an input of the box violates the property, as far as the reading goes",
        f"model {network.provenance.path}, sha256 {network.provenance.sha256}, semantics {network.semantics}",
        f"property: {query.property.text}",
        "columns: x_<flat index> input integers, y_<tensor>_<flat index> the integers of later tensors (operation i makes tensor i + 1)",
    ]
    return [" ".join(line.split()) for line in lines]


def _never(row: Row, some_column: str) -> list[str]:
    """A row without terms, which is kept only where it cannot hold: LP format wants a term in it."""
    return [f"0 {some_column}", row.sense, _number(row.bound)]


def _number(value: Number) -> str:
    return repr(value)


def _signed(value: Number) -> str:
    return f"{'-' if value < 0 else '+'} {_number(abs(value))}"


def _filled(head: str, words: Iterable[str]) -> Iterator[str]:
    """``head`` and the words, over as many lines as it takes."""
    line = head
    for word in words:
        if len(line) + len(word) >= _WIDTH:
            yield line
            line = " "
        line += f" {word}"
    yield line
