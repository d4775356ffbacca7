"""Clauses of Boolean gates: each gate is a literal with the clauses that say exactly what it is (Tseitin's translation).

A literal is an integer other than 0, its negation is ``-literal``. Variable 1 is true. Gates of constants and equal gates cost nothing.
Numbering depends on the order of calls alone, so that the same question has the same clauses on every machine.
"""

from __future__ import annotations

import hashlib
from array import array

TRUE, FALSE = 1, -1

MOST_CLAUSES = 2_000_000
"""Beyond, nobody would wait for the check of a proof."""


class TooLarge(Exception):
    """The clauses pass ``MOST_CLAUSES``."""


class Gates:
    """Clauses under construction, in ``literals``: each clause is its literals and a 0."""

    def __init__(self) -> None:
        self.variables, self.count = 1, 0
        self.literals = array("i")
        self._known: dict[tuple[str, int, int], int] = {}
        self.require(TRUE)

    def variable(self) -> int:
        """A literal that nothing is said about yet."""
        self.variables += 1
        return self.variables

    def clause(self, *literals: int) -> None:
        """At least one of these holds."""
        self.count += 1
        if self.count > MOST_CLAUSES:
            raise TooLarge(f"its clauses are more than {MOST_CLAUSES}")
        self.literals.extend(literals)
        self.literals.append(0)

    def require(self, literal: int) -> None:
        """The literal holds."""
        self.clause(literal)

    def both(self, a: int, b: int) -> int:
        """``a and b``."""
        if a == FALSE or b == FALSE or a == -b:
            return FALSE
        if a in (TRUE, b):
            return b
        if b == TRUE:
            return a
        key = ("and", min(a, b), max(a, b))
        if key not in self._known:
            self._known[key] = out = self.variable()
            self.clause(-out, a)
            self.clause(-out, b)
            self.clause(out, -a, -b)
        return self._known[key]

    def either(self, a: int, b: int) -> int:
        """``a or b``."""
        return -self.both(-a, -b)

    def differ(self, a: int, b: int) -> int:
        """``a xor b``."""
        for constant, other in ((a, b), (b, a)):
            if abs(constant) == TRUE:
                return other if constant == FALSE else -other
        if abs(a) == abs(b):
            return FALSE if a == b else TRUE
        sign = 1 if (a > 0) == (b > 0) else -1
        p, q = sorted((abs(a), abs(b)))
        key = ("xor", p, q)
        if key not in self._known:
            self._known[key] = out = self.variable()
            self.clause(-out, p, q)
            self.clause(-out, -p, -q)
            self.clause(out, -p, q)
            self.clause(out, p, -q)
        return sign * self._known[key]

    def choose(self, condition: int, a: int, b: int) -> int:
        """``a`` where the condition holds, else ``b``."""
        if abs(condition) == TRUE or a == b:
            return a if condition == TRUE or a == b else b
        if a == -b:
            return -self.differ(condition, a)
        if abs(a) == TRUE:
            return self.either(condition, b) if a == TRUE else self.both(-condition, b)
        if abs(b) == TRUE:
            return self.either(-condition, a) if b == TRUE else self.both(condition, a)
        out = self.variable()
        self.clause(-condition, -a, out)
        self.clause(-condition, a, -out)
        self.clause(condition, -b, out)
        self.clause(condition, b, -out)
        # Follows from the others; lets a solver see an output that both sides agree on.
        self.clause(-a, -b, out)
        self.clause(a, b, -out)
        return out

    def add(self, a: int, b: int, c: int) -> tuple[int, int]:
        """A full adder: the sum's bit and the carry of three bits."""
        a, b, c = sorted((a, b, c), key=lambda literal: abs(literal) != TRUE)
        if a == FALSE:
            return self.differ(b, c), self.both(b, c)
        if a == TRUE:
            return -self.differ(b, c), self.either(b, c)
        return self.differ(self.differ(a, b), c), self._majority(a, b, c)

    def _majority(self, a: int, b: int, c: int) -> int:
        for p, q, r in ((a, b, c), (a, c, b), (b, c, a)):
            if abs(p) == abs(q):
                return p if p == q else r
        out = self.variable()
        for p, q in ((a, b), (a, c), (b, c)):
            self.clause(-p, -q, out)
            self.clause(p, q, -out)
        return out

    def sha256(self) -> str:
        """What identifies the clauses."""
        return hashlib.sha256(" ".join(map(str, self.literals)).encode()).hexdigest()

    def lists(self) -> list[list[int]]:
        """Each clause as a list."""
        out: list[list[int]] = [[]]
        for literal in self.literals:
            if literal:
                out[-1].append(literal)
            else:
                out.append([])
        return out[:-1]

    def dimacs(self) -> str:
        """The clauses as a DIMACS file."""
        body = "\n".join(" ".join(map(str, [*clause, 0])) for clause in self.lists())
        return f"p cnf {self.variables} {self.count}\n{body}\n"
