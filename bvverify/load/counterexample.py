"""Counterexample files of the verification competitions: ``sat``, then ``((X_0 0.25) (X_1 1) ... (Y_0 -3.5))``.

The file may begin with another verdict and hold no values. Numbers are read as exact rationals; the inputs are those of the
model's file, flat in its declared order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from bvverify.errors import InputError
from bvverify.load.sexpr import Node, SyntaxProblem, parse

_NAME = re.compile(r"([XY])_(\d{1,9})")
_VALUE = re.compile(r"[-+]?(\d{1,60}\.?\d{0,200}|\.\d{1,200})([eE](-\d{1,3}|\+?\d{1,2}))?")
"""Far beyond float32, and never beyond float64."""


@dataclass(frozen=True, slots=True)
class Counterexample:
    """``word`` is the verdict that the file begins with ("sat" where it begins with values); values by index."""

    word: str
    inputs: dict[int, Fraction] = field(default_factory=dict)
    outputs: dict[int, Fraction] = field(default_factory=dict)


def read(path: Path, text: str) -> Counterexample:
    """The counterexample in a file's text; ``InputError`` names the line that is wrong."""
    try:
        nodes = parse(text)
        word = nodes[0].text.lower() if nodes and nodes[0].items is None else "sat"
        found = Counterexample(word)
        for node in nodes[1:] if nodes and nodes[0].items is None else nodes:
            for pair in _pairs(node):
                _add(found, pair)
    except SyntaxProblem as error:
        raise InputError(f"{path}, {error}") from None
    return found


def _pairs(node: Node) -> tuple[Node, ...]:
    """One pair, or a list of pairs."""
    items = node.items or ()
    return items if items and all(item.items is not None for item in items) else (node,)


def _add(found: Counterexample, pair: Node) -> None:
    items = pair.items or ()
    name = _NAME.fullmatch(items[0].text) if len(items) == 2 else None
    if name is None or _VALUE.fullmatch(items[1].text) is None:
        raise SyntaxProblem(f"line {pair.line}: is no value of an input or output, which is (X_0 0.25) or (Y_0 1)")
    values, index = (found.inputs if name[1] == "X" else found.outputs), int(name[2])
    if index in values:
        raise SyntaxProblem(f"line {pair.line}: {name[0]} has two values")
    values[index] = Fraction(items[1].text)
