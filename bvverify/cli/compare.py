"""``bvverify compare``: two arithmetics of one model, or two models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bvverify.cli import options as o

NAME = "compare"


def command(
    model: o.Model,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[MODEL_B] [PROPERTY.vnnlib]", show_default=False, help="Another version of it; a file for its boxes."),
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="PROFILE", help="The other arithmetic, or that of MODEL_B; rational: the ideal one.")
    ] = None,
    semantics: o.Semantics = None,
    source: o.MaybeInput = None,
    radius: o.Radius = None,
    epsilon: o.Epsilon = None,
    clip: o.Clip = None,
    by_class: Annotated[bool, typer.Option("--class", help="Ask about the predicted class, not about every output.")] = False,
    delta: Annotated[
        str | None, typer.Option("--delta", metavar="R", help="Outputs may be up to R apart, in the units of the outputs (0.5, 1/16).")
    ] = None,
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
    """Decide whether two arithmetics, or two models, can differ.

    Equal means for every input of the box (the whole input space, unless an input and a radius or a property file
    give one). A difference is shown with its input, replayed under both, the first tensor and neuron that part, and
    the tie between them. --against rational is the model's own multipliers with one exact rounding a layer.

    With MODEL_B the two are versions of one network: 8 against 6 bits, pruned, calibrated anew, for another runtime.
    Outputs are compared as the real numbers that they stand for, --delta says how far apart they may be. Both read the
    same real input, each by its own quantiser: where these round by different steps, a box is in reals (--epsilon).
    Files that take integers have to take the same type; one of either kind is refused.

    Where MODEL_B is the float original (ONNX), it is taken over the reals: its float32 weights exactly, nothing rounded.
    Then --delta or --class is needed, and inputs are the real numbers that MODEL's input integers stand for.

    Example: bvverify compare model.onnx --against rational --input test.npz::7 --radius 2

    Example: bvverify compare int8.onnx int6.onnx --class --input test.npz::7 --epsilon 1/16

    Exit codes: 0 equal, 10 differs, 5 unknown, 1 usage, 2 unreadable or unsupported input, 6 internal error.
    """
    from bvverify.cli import compare_question, compare_report, options
    from bvverify.cli.output import check_writable, cores
    from bvverify.errors import UsageError
    from bvverify.load.load import is_float

    check_writable(witness, *((".npy",) if layer is not None else (".npy", ".json")))
    check_writable(certificate)
    settings = options.build(
        o.Engine.AUTO, timeout, memory, seed, check=not no_check, nodes=nodes, threads=cores(), solver=solver, trust_solver=trust_solver
    )
    near = compare_question.near_input(source, radius, epsilon, clip)
    second, property_file = compare_question.split_files(files or ())
    if is_float(model):
        raise UsageError(f"{model}: is a network of floats; name it second, behind the integer network that is held against it")
    if second is not None and is_float(second):
        from bvverify.cli import original_report

        if against is not None or layer is not None:
            raise UsageError(f"{second}: is a network of floats, which is taken over the reals: leave out --against and --layer")
        floats = original_report.ask(model, semantics, second, property_file, near, delta, by_class=by_class)
        return original_report.answer(floats, settings, as_json=json, witness_file=witness, certificate_file=certificate)
    asked = compare_question.ask(model, semantics, against, files or (), near, layer, delta, by_class=by_class)
    return compare_report.answer(asked, settings, as_json=json, witness_file=witness, certificate_file=certificate)
