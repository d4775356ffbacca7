"""``bvverify export``: the question as the solver sees it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bvverify.cli import options as o
from bvverify.ilp.reading import Reading

NAME = "export"


class Format(StrEnum):
    """What a question can be written as."""

    SMT2 = "smt2"
    DIMACS = "dimacs"
    LP = "lp"
    MPS = "mps"


def command(
    model: o.Model,
    property_file: Annotated[
        Path | None, typer.Argument(metavar="[PROPERTY.vnnlib]", show_default=False, help="Or --input and --radius.")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="smt2: SMT-LIB 2 on the normative definitions; dimacs: clauses; lp, mps: an ILP.")
    ] = Format.SMT2,
    reading: Annotated[Reading | None, typer.Option("--reading", help="Of lp and mps: which ILP [default: exact].")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to [default: stdout].")] = None,
    case: Annotated[int | None, typer.Option("--case", metavar="K", help="Which box, where a property file has several.")] = None,
    source: o.MaybeInput = None,
    radius: o.Radius = None,
    epsilon: o.Epsilon = None,
    clip: o.Clip = None,
    label: o.Label = None,
    semantics: o.Semantics = None,
    accumulator: o.AccumulatorOption = o.Accumulator.EXACT,
    allow_pickle: o.AllowPickle = False,
) -> int:
    """Write the question for SMT, SAT and ILP solvers.

    What is written is satisfiable exactly when an input of the box violates the property: unsat means verified. (Of the ILP
    readings that holds for exact alone.) Nothing is decided here. SMT-LIB 2 stands on the definitions of encodings/, at the
    hardware's width, with a name for every element of every tensor; clauses (DIMACS) come from the encoding that bvverify
    itself solves. In an ILP the input integers are x_<flat index>, those of later tensors y_<tensor>_<flat index>.

    Example: bvverify export model.onnx --input test.npz::7 --radius 2 --format smt2 --output question.smt2

    Exit codes: 0 written, 1 usage, 2 unreadable or unsupported input, 6 internal error.
    """
    from bvverify.bounds import interval
    from bvverify.cli import question
    from bvverify.cli.output import check_writable, emit, write
    from bvverify.errors import UsageError

    check_writable(output)
    if reading is not None and form not in (Format.LP, Format.MPS):
        raise UsageError(f"--reading {reading}: only --format lp and --format mps have readings")
    asked = question.ask(model, property_file, source, radius, epsilon, label, o.whose(semantics, accumulator), clip)
    cases = len(asked.queries)
    if case is None and cases != 1:
        raise UsageError(f"{property_file}: has {cases} boxes; choose one with --case 0 to {cases - 1}")
    if case is not None and not 0 <= case < cases:
        raise UsageError(f"--case {case}: there are {cases} boxes, counted from 0")
    query = asked.queries[case or 0]
    match form:
        case Format.SMT2:
            from bvverify.encode.normative import to_smt2

            script = to_smt2(query, interval.propagate(query.network, query.box))
        case Format.DIMACS:
            from bvverify.encode.dimacs import to_dimacs

            script = to_dimacs(query, interval.propagate(query.network, query.box))
        case Format.LP | Format.MPS:
            from bvverify.ilp import program, text

            chosen = reading or Reading.EXACT
            made = program.build(query, chosen).model
            script = (text.to_lp if form is Format.LP else text.to_mps)(made, text.about(query, chosen))
    if output is None:
        emit(script.rstrip("\n"))
    else:
        write(output, script)
    return 0
