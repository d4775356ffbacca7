"""``bvverify radius``: how far a property holds."""

from __future__ import annotations

from typing import Annotated

import typer

from bvverify.cli import options as o

NAME = "radius"


def command(
    model: o.Model,
    source: o.Input,
    label: o.Label = None,
    targeted: Annotated[
        int | None, typer.Option("--targeted", metavar="CLASS", help="Ask instead whether the class can become this one.")
    ] = None,
    maximum: Annotated[int | None, typer.Option("--max", metavar="N", help="The largest radius to ask about [default: any].")] = None,
    semantics: o.Semantics = None,
    accumulator: o.AccumulatorOption = o.Accumulator.EXACT,
    allow_pickle: o.AllowPickle = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", "-t", metavar="SECONDS", help="For all radii together [default: no limit].")
    ] = None,
    memory: o.Memory = 4096,
    seed: o.Seed = 0,
    witness: o.SaveWitness = None,
    certificate: o.SaveCertificate = None,
    no_check: o.NoCheck = False,
    jobs: o.Jobs = None,
    json: o.Json = False,
) -> int:
    """Find the largest radius around an input that verifies.

    And the smallest that falsifies, the next one: the first with its certificate, the second with a witness at
    exactly that distance. A radius counts steps of the input's integer grid. Boxes of growing radius are nested,
    so whatever is found within one holds for those on its side. When the time runs out, what is printed is
    certain: the class stays within the one radius, and does not within the other.

    Example: bvverify radius model.onnx --input test.npz::7 --timeout 60

    Exit codes: 0 found (adjacent radii, or it verifies as far as was asked), 10 the clean input itself violates,
    5 the time ran out between the two, 1 usage, 2 unreadable or unsupported input, 6 internal error.
    """
    from bvverify.cli import options, radius_report, report
    from bvverify.cli.output import check_writable, cores

    report.check_witness_path(witness)
    check_writable(certificate)
    settings = options.build(
        o.Engine.AUTO, timeout, memory, seed, check=not no_check, threads=cores(), jobs=cores() if jobs is None else jobs
    )
    asked = radius_report.ask(model, source, label, targeted, maximum, o.whose(semantics, accumulator))
    return radius_report.answer(asked, settings, as_json=json, witness_file=witness, certificate_file=certificate)
