"""A question as a propositional formula in DIMACS, for any SAT solver: the optimised encoding, bit-blasted by Z3's tactics."""

from __future__ import annotations

from typing import Any

import z3

from bvverify.bounds.interval import Bounds
from bvverify.encode.network import encode
from bvverify.model.query import Query


def to_dimacs(query: Query, bounds: Bounds) -> str:
    """The clauses: satisfiable exactly when an input of the box violates the property.

    A comment ``c in<i>: BITS`` says how wide input i is, two's complement, and a comment ``c VARIABLE in<i>.<b>`` which variable holds its
    bit b (0 is the lowest); an input of one value has no variable, and a bit that no comment names takes any value.
    """
    encoding = encode(query, bounds)
    free = [(i, value.term) for i, value in enumerate(encoding.tensors[0].flat) if not value.constant]
    goal = z3.Goal()
    goal.add(*encoding.constraints, encoding.violation)
    # Booleans of our own keep their names; those that bit-blasting makes are numbered.
    for i, term in free:
        for b in range(term.size()):
            goal.add(z3.Bool(f"in{i}.{b}") == (z3.Extract(b, b, term) == z3.BitVecVal(1, 1)))
    blasted: Any = z3.Then("simplify", "fpa2bv", "simplify", "bit-blast", "simplify", "tseitin-cnf")(goal)[0]
    about = query.network.provenance
    head = [
        "c satisfiable exactly when an input of the box violates the property; unsatisfiable means verified",
        f"c property: {' '.join(query.property.text.split())}",
        f"c model: sha256 {about.sha256}, semantics {about.semantics}",
        "c in<i>.<b> is bit b (0 the lowest) of input i, flat, two's complement, of so many bits:",
        *(f"c in{i}: {term.size()}" for i, term in free),
    ]
    if blasted.inconsistent():
        return "\n".join([*head, "p cnf 1 2", "1 0", "-1 0"]) + "\n"
    lines = blasted.dimacs(include_names=True).splitlines()
    names = [line for line in lines if line.startswith("c ") and line.split()[2].startswith("in")]
    clauses = [line for line in lines if not line.startswith("c ")]
    return "\n".join([*head, *names, *clauses]) + "\n"
