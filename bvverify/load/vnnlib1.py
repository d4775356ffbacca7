"""VNN-LIB 1.0, the property files of the verification competitions: SMT-LIB with inputs ``X_i`` and outputs ``Y_j``.

The file describes the violation: all its assertions hold together. Numbers are read as exact rationals.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from bvverify.load.formula import All, Any, Constraint, Formula, Variable, negated
from bvverify.load.sexpr import Node, SyntaxProblem, clipped, parse

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?")
_NAME = re.compile(r"([XY])_(\d{1,9})")
_DEPTH = 200
Sum = tuple[dict[Variable, Fraction], Fraction]


def read(text: str) -> tuple[set[Variable], Formula]:
    """The declared variables and the violation; ``SyntaxProblem`` says what is wrong, with its line."""
    return read_nodes(parse(text))


def read_nodes(nodes: Sequence[Node]) -> tuple[set[Variable], Formula]:
    """The same of expressions that are read already."""
    declared: set[Variable] = set()
    asserted: list[Formula] = []
    for node in nodes:
        match node.head:
            case "declare-const" | "declare-fun":
                declared.add(_declaration(node, declared))
            case "assert":
                if node.items is None or len(node.items) != 2:
                    raise SyntaxProblem(f"line {node.line}: assert takes one formula")
                asserted.append(_formula(node.items[1], declared, 0))
            case "set-logic" | "set-info" | "set-option" | "check-sat" | "exit":
                pass
            case _:
                raise SyntaxProblem(f"line {node.line}: {_shown(node)} is no declaration and no assertion of VNN-LIB 1.0")
    if not declared:
        raise SyntaxProblem("line 1: nothing is declared; a VNN-LIB file declares X_0, X_1, ... and Y_0, Y_1, ...")
    return declared, All(tuple(asserted))


def _declaration(node: Node, declared: set[Variable]) -> Variable:
    items = node.items or ()
    kind = items[-1].text if items else ""
    wanted = 3 if node.head == "declare-const" else 4
    name = _NAME.fullmatch(items[1].text) if len(items) == wanted else None
    if name is None or kind != "Real" or (wanted == 4 and items[2].items != ()):
        raise SyntaxProblem(f"line {node.line}: {_shown(node)}: variables are X_i and Y_j of type Real")
    variable: Variable = ("X" if name[1] == "X" else "Y", int(name[2]))
    if variable in declared:
        raise SyntaxProblem(f"line {node.line}: {name[0]} is declared twice")
    return variable


def _formula(node: Node, declared: set[Variable], depth: int) -> Formula:
    if depth > _DEPTH:
        raise SyntaxProblem(f"line {node.line}: formulas nest deeper than {_DEPTH}")
    parts = (node.items or ())[1:]
    match node.head:
        case "and":
            return All(tuple(_formula(p, declared, depth + 1) for p in parts))
        case "or":
            return Any(tuple(_formula(p, declared, depth + 1) for p in parts))
        case "not" if len(parts) == 1:
            return negated(_formula(parts[0], declared, depth + 1))
        case "<=" | ">=" | "<" | ">" | "=" if len(parts) >= 2:
            sums = [_sum(p, declared, depth + 1) for p in parts]
            return All(tuple(c for a, b in pairwise(sums) for c in _compared(node.head, a, b, node.line)))
        case _:
            raise SyntaxProblem(f"line {node.line}: {_shown(node)} is no formula; known are and, or, not, <=, >=, <, > and =")


def _compared(relation: str, a: Sum, b: Sum, line: int) -> Sequence[Constraint]:
    if relation in (">=", ">"):
        a, b = b, a
    if relation == "=":
        return [*_compared("<=", a, b, line), *_compared(">=", a, b, line)]
    terms = _plus(a[0], b[0], Fraction(-1))
    return [Constraint(terms, b[1] - a[1], relation in ("<", ">"), line)]


def _sum(node: Node, declared: set[Variable], depth: int) -> Sum:
    if depth > _DEPTH:
        raise SyntaxProblem(f"line {node.line}: terms nest deeper than {_DEPTH}")
    if node.items is None:
        return _atom(node, declared)
    parts = [_sum(p, declared, depth + 1) for p in node.items[1:]]
    match node.head:
        case "+" if parts:
            return _added(parts, Fraction(1))
        case "-" if len(parts) == 1:
            return {v: -c for v, c in parts[0][0].items()}, -parts[0][1]
        case "-" if parts:
            return _added(parts, Fraction(-1))
        case "*" if parts:
            return _product(node, parts)
        case "/" if len(parts) == 2 and not parts[0][0] and not parts[1][0] and parts[1][1]:
            return {}, parts[0][1] / parts[1][1]
        case _:
            raise SyntaxProblem(f"line {node.line}: {_shown(node)} is no linear term; known are +, -, * by a constant, and / of constants")


def _atom(node: Node, declared: set[Variable]) -> Sum:
    if _NUMBER.fullmatch(node.text):
        return {}, Fraction(node.text)
    name = _NAME.fullmatch(node.text)
    variable: Variable | None = None if name is None else ("X" if name[1] == "X" else "Y", int(name[2]))
    if variable is None or variable not in declared:
        raise SyntaxProblem(f"line {node.line}: {clipped(node.text)} is no number and no declared variable")
    return {variable: Fraction(1)}, Fraction(0)


def _added(parts: Sequence[Sum], sign: Fraction) -> Sum:
    terms, constant = dict(parts[0][0]), parts[0][1]
    for other, value in parts[1:]:
        terms, constant = _plus(terms, other, sign), constant + sign * value
    return terms, constant


def _plus(a: dict[Variable, Fraction], b: dict[Variable, Fraction], factor: Fraction) -> dict[Variable, Fraction]:
    terms = dict(a)
    for variable, coefficient in b.items():
        terms[variable] = terms.get(variable, Fraction(0)) + factor * coefficient
    return {v: c for v, c in terms.items() if c}


def _product(node: Node, parts: Sequence[Sum]) -> Sum:
    terms, constant = parts[0]
    for other, value in parts[1:]:
        if terms and other:
            raise SyntaxProblem(f"line {node.line}: a product of two variables is not linear")
        factor, scaled = (constant, other) if other else (value, terms)
        terms, constant = {v: c * factor for v, c in scaled.items() if c * factor}, constant * value
    return terms, constant


def _shown(node: Node) -> str:
    return repr(clipped(node.text) or f"({clipped(node.head)} ...)")
