"""Solution files (``.sol``) of Gurobi, HiGHS and SCIP: one value for each variable of an integer program.

The variables ``x_0``, ``x_1``, ... of a program that ``bvverify export`` wrote are the integers of the input tensor, flat; others are
ignored. Solvers are content with values that are integers up to a tolerance, so each is taken as the nearest integer, and one
that is further off than any such tolerance is no solution.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from bvverify.errors import InputError

_VALUE = re.compile(r"[-+]?(\d{1,60}\.?\d{0,400}|\.\d{1,400})([eE][-+]?\d{1,3})?")
"""Far beyond what a solver prints; Python reads no number of more than a few thousand digits."""
_INPUT = re.compile(r"x_(\d{1,9})")
_TOLERANCE = Fraction(1, 1000)
"""Of integrality; the solvers' own are 1e-5 (Gurobi) and 1e-6."""


@dataclass(frozen=True, slots=True)
class Solution:
    """``word`` is "sat", "unsat" (the solver says infeasible) or "unknown"; ``inputs`` are the values of x_0, x_1, ... by their index.

    ``others`` are those of the other variables by name, as far as they are numbers. ``sparse``: the file leaves zeros out.
    """

    word: str
    inputs: dict[int, Fraction] = field(default_factory=dict)
    sparse: bool = False
    others: dict[str, Fraction] = field(default_factory=dict)


def parse(path: Path, text: str) -> Solution:
    """The solution in a file's text; ``InputError`` where it is of another kind."""
    lines = [line.strip() for line in text.splitlines()]
    whole = [line.lower() for line in lines if line]
    if not whole:
        raise InputError(f"{path}: is empty")
    if whole[0] in ("model status", "columns"):
        return _highs(path, lines)
    sparse = whole[0].startswith(("solution status:", "objective value:")) or "no solution available" in whole
    if sparse and any("infeasible" in line for line in whole if line.startswith("solution status:")):
        return Solution("unsat")
    if "no solution available" in whole:
        return Solution("unknown")
    # SCIP begins with "objective value:", Gurobi with comments.
    body = [
        line
        for line in lines
        if line and not line.startswith("#") and not line.lower().startswith(("solution status:", "objective value:"))
    ]
    return Solution("sat", _inputs(path, body), sparse, _others(body))


def _highs(path: Path, lines: list[str]) -> Solution:
    """HiGHS, style 0: the model's status, then sections; ``# Columns N`` opens the variables, the next ``#`` ends them."""
    if lines[0].lower() == "columns":
        raise InputError(f"{path}: is HiGHS's printed table; write the solution with write_solution_style 0")
    status = next((line for line in lines[1:] if line), "").lower()
    primal = lines[lines.index("# Primal solution values") + 1 :][:1] if "# Primal solution values" in lines else []
    begin = next((i for i, line in enumerate(lines) if line.startswith("# Columns")), None)
    # The values of a point that is not feasible may be listed, too.
    if begin is None or primal != ["Feasible"]:
        return Solution("unsat" if status == "infeasible" else "unknown")
    end = next((i for i in range(begin + 1, len(lines)) if not lines[i] or lines[i].startswith("#")), len(lines))
    body = lines[begin + 1 : end]
    return Solution("sat", _inputs(path, body), others=_others(body))


def _inputs(path: Path, lines: list[str]) -> dict[int, Fraction]:
    values: dict[int, Fraction] = {}
    for line in lines:
        words = line.split()
        name = _INPUT.fullmatch(words[0])
        if name is None and len(words) > 1:
            continue  # another variable; SCIP's may be "infinity" or "unknown"
        if name is None or len(words) < 2 or _VALUE.fullmatch(words[1]) is None:
            raise InputError(f"{path}: {line[:60]!r} is no line of a solution file; it is NAME VALUE")
        if int(name[1]) in values:
            raise InputError(f"{path}: {words[0]} has two values")
        values[int(name[1])] = Fraction(words[1])
    return values


def _others(lines: list[str]) -> dict[str, Fraction]:
    words = (line.split()[:2] for line in lines)
    return {w[0]: Fraction(w[1]) for w in words if len(w) == 2 and _INPUT.fullmatch(w[0]) is None and _VALUE.fullmatch(w[1])}


def integers(path: Path, solution: Solution, size: int) -> tuple[list[int], Fraction]:
    """The ``size`` integers of the input, and how far the furthest value was from one."""
    beyond = [i for i in solution.inputs if i >= size]
    if beyond:
        raise InputError(f"{path}: gives x_{min(beyond)}, but the input has {size} values, x_0 to x_{size - 1}")
    missing = [i for i in range(size) if i not in solution.inputs]
    if missing and not (solution.sparse and solution.inputs):
        raise InputError(f"{path}: gives no x_{missing[0]}; the variables x_0 to x_{size - 1} are the integers of the input")
    values = [solution.inputs.get(i, Fraction(0)) for i in range(size)]
    rounded = [round(v) for v in values]
    off = [abs(v - r) for v, r in zip(values, rounded, strict=True)]
    furthest = max(off)
    if furthest > _TOLERANCE:
        i = off.index(furthest)
        raise InputError(f"{path}: x_{i} is {float(values[i]):g}, no integer")
    return rounded, furthest
