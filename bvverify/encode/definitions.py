"""The normative definitions of ``encodings/``: SMT-LIB 2 text, with what it uses in front.

A definition names the files that it needs in its first lines, ``; uses: FILE, FILE`` (paths below ``encodings/``). The folder is shipped in
the wheel as ``bvverify/_encodings``; in a checkout it stands beside the package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from bvverify.errors import InputError

_INDEXED = re.compile(r"\(_ (?P<kind>BitVec |fp\.to_sbv |sign_extend |extract |bv)(?:(?P<value>\d+) )?(?P<width>\d+)\)")
_USES = re.compile(r"^; uses: (.+)$", re.MULTILINE)

ACC_BITS, WIDE_BITS, EXACT_BITS = 32, 64, 128
"""The widths at which the files are written: accumulators, their products, exact rationals."""


def root() -> Traversable:
    """The folder ``encodings``: the one shipped with the package, or else the checkout's."""
    package = resources.files("bvverify")
    shipped = package / "_encodings"
    if shipped.is_dir():
        return shipped
    checkout = package / ".." / "encodings"
    if not checkout.is_dir():
        raise InputError("encodings/: the definitions are neither in the installed package nor beside it; install bvverify again")
    return checkout


@cache
def read(path: str) -> str:
    """A file below ``encodings/``."""
    return root().joinpath(*path.split("/")).read_text(encoding="utf-8")


def requantisation(name: str) -> str:
    """The path of a requantisation's definition."""
    return f"requantisations/{name}/definition.smt2"


def layer(name: str) -> str:
    """The path of a layer's definition."""
    return f"layers/{name}/definition.smt2"


def prelude(paths: Iterable[str]) -> str:
    """The files and everything that they use, each once and after what it uses."""
    return "\n".join(f"; ---- encodings/{path}\n{read(path).rstrip()}\n" for path in closure(paths))


def closure(paths: Iterable[str]) -> list[str]:
    """The paths and those that they use, in an order in which each may be read."""
    order: list[str] = []

    def visit(path: str) -> None:
        if path in order:
            return
        for line in _USES.findall(read(path)):
            for used in line.split(","):
                visit(used.strip())
        order.append(path)

    for path in paths:
        visit(path)
    return order


def at_width(text: str, acc_bits: int) -> str:
    """Definitions with accumulators of ``acc_bits`` bits, products of twice and exact rationals of four times as many.

    The fraction bits of a fixed-point multiplier follow (``acc_bits - 1``). Proofs that are out of reach at 32 bits are tried at
    small widths, and an accumulator that needs more than 32 bits gets them. Floating point keeps the widths of IEEE 754.
    """
    new = {ACC_BITS: acc_bits, WIDE_BITS: 2 * acc_bits, EXACT_BITS: 4 * acc_bits}

    def resized(match: re.Match[str]) -> str:
        kind, value, width = match["kind"], match["value"], int(match["width"])
        match kind:
            case "sign_extend ":  # from an accumulator to the width that is this much larger
                return f"(_ sign_extend {new[width + ACC_BITS] - acc_bits})"
            case "extract ":
                return f"(_ extract {acc_bits - 1} 0)"
            case "bv":
                q_bits = int(value) == ACC_BITS - 1 and width == WIDE_BITS
                return f"(_ bv{acc_bits - 1 if q_bits else value} {new[width]})"
            case _:
                return f"(_ {kind}{new[width]})"

    return _INDEXED.sub(resized, text)
