"""Why the claim of an ILP and the device part, in the rows of the reading that the claim's source names.

A claim of "no violation" against a witness: which row excludes the input. A solution that does not replay: which row it meets
only up to a tolerance.
"""

from __future__ import annotations

import re
from pathlib import Path

from bvverify.errors import UnsupportedError
from bvverify.ilp import differ
from bvverify.ilp.differ import Difference
from bvverify.ilp.program import Program, build
from bvverify.ilp.reading import Reading
from bvverify.load import solution
from bvverify.model.query import Query
from bvverify.model.types import Int64Array


def reading(source: str) -> Reading | None:
    """The ILP reading that a source names as a word of its own (``ilp:aaai24``, ``QVIP (ILP)``); None where it names none, or several."""
    words = re.findall(r"[a-z0-9]+", source.lower())
    named = {r for r in Reading if r.value in words}
    # "exact" is a word of the language, too.
    if "ilp" not in words:
        named.discard(Reading.EXACT)
    return named.pop() if len(named) == 1 else None


def excluded(source: str, query: Query, witness: Int64Array) -> Difference | str | None:
    """What in the reading excludes a witness (the input tensor's shape); a sentence where the reading does not have the network.

    None where the source names no reading. ``InternalError`` where the exact reading excludes a witness.
    """
    program = _program(source, query)
    return differ.excluded(program, witness) if isinstance(program, Program) else program


def invented(source: str, query: Query, file: Path) -> Difference | str | None:
    """Why a solver's solution (``.sol``, readable) is none of the device's, where the reading's program is the one that it solves.

    None, too, where the file lacks variables of that program. ``InternalError`` where it replays after all.
    """
    program = _program(source, query)
    if not isinstance(program, Program):
        return program
    found = solution.parse(file, file.read_text())
    values = {f"x_{i}": v for i, v in found.inputs.items()} | found.others
    names = [column.name for column in program.model.columns]
    if not found.sparse and any(name not in values for name in names):
        return None
    return differ.invented(program, tuple(float(values.get(name, 0)) for name in names))


def _program(source: str, query: Query) -> Program | str | None:
    named = reading(source)
    if named is None:
        return None
    try:
        return build(query, named)
    except UnsupportedError as error:
        return f"the {named} reading has no such program: {error}"
