"""What is changed: mutmut's operators for the arithmetic of a line, and those that it lacks and a verifier needs.

mutmut 3 supplies the operators and nothing else. Its runner copies every function once for each mutant and picks one by a trampoline,
which leaves decorated functions, properties and defaults out; here whole files are mutated, so that nothing is. (cosmic-ray's parser does
not know ``match``, in which most of bvverify is written.) Left out of mutmut's are those whose mutants crash wherever a test reaches the
line (an assignment of None, an argument None or left out): they measure coverage, at a third of the time of a run. Left out as well is
what has no behaviour of its own to get wrong: decorators (the options of ``@dataclass``), ``strict`` of ``zip`` and ``assert_never``,
which are checks of the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import libcst as cst
import libcst.matchers as m
from mutmut.mutation import mutators

SWAPS = [
    ("minimum", "maximum"), ("min", "max"), ("any", "all"), ("left", "right"), ("lo", "hi"), ("low", "high"), ("lower", "upper"),
    ("l", "u"), ("early", "late"), ("first", "last"), ("floor", "ceil"), ("mins", "maxs"), ("argmin", "argmax"),
]  # fmt: skip
_OTHER = {a: b for pair in SWAPS for a, b in (pair, pair[::-1])}


def one_less(node: cst.Integer) -> Iterator[cst.CSTNode]:
    """``n`` becomes ``n - 1`` (mutmut makes ``n + 1``)."""
    value = node.evaluated_value - 1
    yield node.with_changes(value=str(value)) if value >= 0 else cst.UnaryOperation(cst.Minus(), cst.Integer("1"), [cst.LeftParen()],
                                                                                    [cst.RightParen()])  # fmt: skip


def other_end(node: cst.Name) -> Iterator[cst.CSTNode]:
    """The name at the other end: ``minimum`` for ``maximum``, ``lo`` for ``hi``."""
    if node.value in _OTHER:
        yield node.with_changes(value=_OTHER[node.value])


def other_side(node: cst.SimpleString) -> Iterator[cst.CSTNode]:
    """``"left"`` for ``"right"``: of ``searchsorted``."""
    if node.value.strip("\"'") in ("left", "right"):
        yield node.with_changes(value='"left"' if "right" in node.value else '"right"')


def rounded_up(node: cst.BinaryOperation) -> Iterator[cst.CSTNode]:
    """``a // b`` rounded the other way (mutmut makes ``/``, which mostly is a type error)."""
    if isinstance(node.operator, cst.FloorDivide):
        minus = cst.UnaryOperation(cst.Minus(), _in_parentheses(node.left))
        yield cst.UnaryOperation(cst.Minus(), _in_parentheses(node.with_changes(left=minus)), [cst.LeftParen()], [cst.RightParen()])


def forced(node: cst.If | cst.While | cst.CompIf) -> Iterator[cst.CSTNode]:
    """A condition that never holds, or always does."""
    for operator, value in ((cst.And(), "False"), (cst.Or(), "True")):
        if isinstance(node, cst.While) and value == "True":
            continue
        yield node.with_changes(test=cst.BooleanOperation(_in_parentheses(node.test), operator, cst.Name(value)))


def left_out(node: cst.SimpleStatementLine) -> Iterator[cst.CSTNode]:
    """A statement that is only a call, an augmented assignment or ``raise``, left out."""
    if len(node.body) == 1 and m.matches(
        node.body[0], m.Expr(m.Call()) | m.AugAssign() | m.Raise() | m.Assign([m.AssignTarget(m.Subscript())])
    ):
        yield node.with_changes(body=[cst.Pass()])


def without_keyword(node: cst.Call) -> Iterator[cst.CSTNode]:
    """An argument given by its name, left out: ``axis``, ``initial``, ``dtype``."""
    for i, arg in enumerate(node.args):
        if arg.keyword is not None and arg.keyword.value != "strict":
            yield node.with_changes(args=[*node.args[:i], *node.args[i + 1 :]])


def _in_parentheses(node: Any) -> Any:
    return node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


OPERATORS: list[tuple[type | tuple[type, ...], Callable[[Any], Any]]] = [
    (cst.BaseNumber, mutators.operator_number),
    (cst.Integer, one_less),
    (cst.Name, mutators.operator_name),
    (cst.Name, other_end),
    (cst.SimpleString, other_side),
    (cst.UnaryOperation, mutators.operator_remove_unary_ops),
    (cst.CSTNode, mutators.operator_keywords),
    (cst.CSTNode, mutators.operator_swap_op),
    (cst.BinaryOperation, rounded_up),
    (cst.Match, mutators.operator_match),
    (cst.IfExp, mutators.operator_if_exp),
    ((cst.If, cst.While, cst.CompIf), forced),
    (cst.SimpleStatementLine, left_out),
    (cst.Call, without_keyword),
]
