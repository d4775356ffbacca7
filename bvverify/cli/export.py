"""``bvverify export``: the question as the solver sees it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bvverify.cli import options as o

NAME = "export"


class Format(StrEnum):
    """What a question can be written as."""

    SMT2 = "smt2"


def command(
    model: o.Model,
    property_file: Annotated[
        Path | None, typer.Argument(metavar="[PROPERTY.vnnlib]", show_default=False, help="Or --input and --radius.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="smt2: SMT-LIB 2, QF_BV.")] = Format.SMT2,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to [default: stdout].")] = None,
    case: Annotated[int | None, typer.Option("--case", metavar="K", help="Which box, where a property file has several.")] = None,
    source: o.MaybeInput = None,
    radius: o.Radius = None,
    epsilon: o.Epsilon = None,
    label: o.Label = None,
    semantics: o.Semantics = None,
    allow_pickle: o.AllowPickle = False,
) -> int:
    """Write the question as SMT-LIB 2.

    The script, for any bit-vector solver, is satisfiable exactly when an input of the box violates the property: unsat
    means verified. Nothing is decided here.

    Example: bvverify export model.onnx --input test.npz::7 --radius 2 --format smt2 --output question.smt2

    Exit codes: 0 written, 1 usage, 2 unreadable or unsupported input, 6 internal error.
    """
    from bvverify.cli import question
    from bvverify.cli.output import check_writable, emit, write
    from bvverify.errors import UsageError

    check_writable(output)
    asked = question.ask(model, property_file, source, radius, epsilon, label, semantics)
    cases = len(asked.queries)
    if case is None and cases != 1:
        raise UsageError(f"{property_file}: has {cases} boxes; choose one with --case 0 to {cases - 1}")
    if case is not None and not 0 <= case < cases:
        raise UsageError(f"--case {case}: there are {cases} boxes, counted from 0")
    query = asked.queries[case or 0]
    match form:
        case Format.SMT2:
            from bvverify.bounds import interval
            from bvverify.encode.smt2 import to_smt2

            script = to_smt2(query, interval.propagate(query.network, query.box))
    if output is None:
        emit(script.rstrip("\n"))
    else:
        write(output, script)
    return 0
