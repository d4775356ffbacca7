"""The optimised encoding as an SMT-LIB 2 script, in Z3's own rendering: what the solver was asked, to the letter.

The script for a reader, on top of the normative definitions, is ``bvverify.encode.normative``.
"""

from __future__ import annotations

from typing import Any

import z3

from bvverify.encode.network import Encoding
from bvverify.model.ops import AvgPool, SequentialFloat32
from bvverify.model.query import Query


def script(query: Query, encoding: Encoding) -> str:
    """The script of an encoding."""
    made: Any = solver(query, encoding)
    about = query.network.provenance
    lines = [
        "; satisfiable exactly when an input of the box violates the property; unsat means verified",
        f"; property: {_one_line(query.property.text)}",
        f"; model: sha256 {about.sha256}, semantics {about.semantics}",
        "; in<i> is input i, flat, two's complement; an input of one value has no variable",
        f"(set-logic {logic(query)})",
    ]
    body = [line for line in made.to_smt2().splitlines() if not line.startswith(("; ", "(set-info", "(set-logic"))]
    return "\n".join([*lines, *body]) + "\n"


def solver(query: Query, encoding: Encoding) -> Any:
    """A z3 solver that holds the question."""
    made = z3.SolverFor(logic(query))
    made.add(*encoding.constraints, encoding.violation)
    return made


def logic(query: Query) -> str:
    """QF_BV, or QF_BVFP where a float32 mean takes part."""
    floats = any(isinstance(op, AvgPool) and isinstance(op.rule, SequentialFloat32) for op in query.network.ops)
    return "QF_BVFP" if floats else "QF_BV"


def _one_line(text: str) -> str:
    return " ".join(text.split())
