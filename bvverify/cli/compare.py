"""``bvverify compare``: two arithmetics of one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bvverify.cli import options as o

NAME = "compare"


def command(
    model: o.Model,
    against: Annotated[
        str, typer.Option("--against", metavar="PROFILE", show_default=False, help="The other arithmetic; rational: the ideal one.")
    ],
    property_file: Annotated[
        Path | None, typer.Argument(metavar="[PROPERTY.vnnlib]", show_default=False, help="Its boxes only; or --input and --radius.")
    ] = None,
    semantics: o.Semantics = None,
    source: o.MaybeInput = None,
    radius: o.Radius = None,
    epsilon: o.Epsilon = None,
    clip: o.Clip = None,
    by_class: Annotated[bool, typer.Option("--class", help="Ask about the predicted class, not about every output.")] = False,
    layer: Annotated[
        str | None, typer.Option("--layer", metavar="NAME", help="One layer alone, on every input that its type allows.")
    ] = None,
    solver: o.SolverOption = o.Solver.Z3,
    timeout: o.Timeout = None,
    memory: o.Memory = 4096,
    seed: o.Seed = 0,
    witness: o.SaveWitness = None,
    certificate: o.SaveCertificate = None,
    no_check: o.NoCheck = False,
    trust_solver: o.TrustSolver = False,
    nodes: o.Nodes = None,
    allow_pickle: o.AllowPickle = False,
    json: o.Json = False,
) -> int:
    """Decide whether two arithmetics of one model can differ.

    Equal means for every input of the box (the whole input space, unless an input and a radius or a property file
    give one). A difference is shown with its input, replayed under both, the first tensor and neuron that part, and
    the tie between them. --against rational is the model's own multipliers with one exact rounding a layer.

    Example: bvverify compare model.onnx --against rational --input test.npz::7 --radius 2

    Exit codes: 0 equal, 10 differs, 5 unknown, 1 usage, 2 unreadable or unsupported input, 6 internal error.
    """
    from bvverify.cli import compare_report, options
    from bvverify.cli.output import check_writable, cores

    check_writable(witness, *((".npy",) if layer is not None else (".npy", ".json")))
    check_writable(certificate)
    settings = options.build(
        o.Engine.AUTO, timeout, memory, seed, check=not no_check, nodes=nodes, threads=cores(), solver=solver, trust_solver=trust_solver
    )
    asked = compare_report.ask(model, semantics, against, property_file, source, radius, epsilon, clip, layer, by_class=by_class)
    return compare_report.answer(asked, settings, as_json=json, witness_file=witness, certificate_file=certificate)
