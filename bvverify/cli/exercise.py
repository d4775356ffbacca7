"""``bvverify exercise``: questions to practise on, and whether an answer is right."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bvverify.cli import options as o

NAME = "exercise"
_WRONG = 10


class Kind(StrEnum):
    """What is asked."""

    BYTE = "byte"
    RULE = "rule"
    SATURATE = "saturate"
    PROPERTY = "property"
    SHIFT = "shift"


def command(
    kind: Annotated[
        Kind | None,
        typer.Option(
            "--kind", help="byte: predict it; rule: which made this; saturate: find an input; property: is it true; shift: a byte."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another seed, another question.")] = 0,
    answer: Annotated[str | None, typer.Option("--answer", metavar="A", help="Is this right?")] = None,
    solution: Annotated[bool, typer.Option("--solution", help="Show the answer and how to come to it.")] = False,
    sheet: Annotated[Path | None, typer.Option("--sheet", metavar="FILE", help="Write questions for a class: .md or .json.")] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Write the sheet's answers: .md or .json.")] = None,
    count: Annotated[int | None, typer.Option("--count", metavar="N", help="Questions on the sheet [default: 8].")] = None,
    json: o.Json = False,
) -> int:
    """Practise int8 arithmetic: a question from a seed.

    The same kind and seed ask the same question; without a kind, the kinds take turns. Answers are computed by the
    exact interpreter; where an input is asked for, every input that does it is right. A sheet has the questions of
    the seeds from --seed on.

    Examples:
      bvverify exercise --kind byte --seed 7
      bvverify exercise --kind byte --seed 7 --answer -112
      bvverify exercise --sheet sheet.md --key key.md --count 12

    Exit codes: 0 right (or done), 10 wrong, 1 usage, 6 internal error.
    """
    from bvverify.cli import exercise_report as report
    from bvverify.errors import UsageError

    if seed < 0:
        raise UsageError(f"--seed {seed}: a seed is 0 or more")
    chosen = None if kind is None else kind.value
    if sheet is not None or key is not None:
        if answer is not None or solution:
            raise UsageError("--sheet and --key write many questions; leave out --answer and --solution")
        if sheet is not None and sheet == key:
            raise UsageError(f"--sheet and --key name one file, {sheet}; name two")
        if count is not None and not 1 <= count <= 1000:
            raise UsageError(f"--count {count}: a sheet has 1 to 1000 questions")
        report.write_sheet(chosen, seed, 8 if count is None else count, sheet, key, as_json=json)
        return 0
    if count is not None:
        raise UsageError("--count belongs to --sheet and --key")
    if answer is not None and solution:
        raise UsageError("give one of --answer and --solution")
    return 0 if report.one(chosen, seed, answer, solution=solution, as_json=json) else _WRONG
