"""Formulas over real inputs X and outputs Y, exactly: linear constraints in rationals, and their disjunctive normal form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Variable = tuple[Literal["X", "Y"], int]
LIMIT = 100_000
"""Conjunctions of a disjunctive normal form; beyond it a file is refused."""


class TooLarge(ValueError):
    """A formula whose disjunctive normal form passes ``LIMIT``."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """``sum coefficient * variable <= bound``, or ``<`` where it is strict; zero coefficients are left out."""

    terms: Mapping[Variable, Fraction]
    bound: Fraction
    strict: bool
    line: int


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """Some part holds."""

    parts: tuple[Formula, ...]


Formula = Constraint | All | Any
Conjunction = tuple[Constraint, ...]


def negated(formula: Formula) -> Formula:
    """The formula that holds exactly where this one does not."""
    match formula:
        case Constraint(terms=terms, bound=bound, strict=strict, line=line):
            return Constraint({v: -c for v, c in terms.items()}, -bound, not strict, line)
        case All(parts=parts):
            return Any(tuple(negated(p) for p in parts))
        case Any(parts=parts):
            return All(tuple(negated(p) for p in parts))


def normal_form(formula: Formula) -> list[Conjunction]:
    """The disjunction of conjunctions; ``TooLarge`` beyond ``LIMIT`` of them."""
    match formula:
        case Constraint():
            return [(formula,)]
        case Any(parts=parts):
            found = [conjunction for part in parts for conjunction in normal_form(part)]
            if len(found) > LIMIT:
                raise TooLarge
            return found
        case All(parts=parts):
            product: list[Conjunction] = [()]
            for part in parts:
                choices = normal_form(part)
                if len(product) * len(choices) > LIMIT:
                    raise TooLarge
                product = [a + b for a in product for b in choices] if len(choices) != 1 else [a + choices[0] for a in product]
            return product
