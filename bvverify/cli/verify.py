"""``bvverify verify``: a property file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bvverify.cli import options as o

NAME = "verify"


def command(
    model: o.Model,
    property_file: Annotated[Path, typer.Argument(metavar="PROPERTY.vnnlib", show_default=False, help="VNN-LIB 1.0 or 2.")],
    semantics: o.Semantics = None,
    accumulator: o.AccumulatorOption = o.Accumulator.EXACT,
    allow_pickle: o.AllowPickle = False,
    engine: o.EngineOption = o.Engine.AUTO,
    solver: o.SolverOption = o.Solver.Z3,
    timeout: o.Timeout = None,
    memory: o.Memory = 4096,
    seed: o.Seed = 0,
    witness: o.SaveWitness = None,
    certificate: o.SaveCertificate = None,
    no_check: o.NoCheck = False,
    trust_solver: o.TrustSolver = False,
    nodes: o.Nodes = None,
    jobs: o.Jobs = None,
    cluster: o.ClusterOption = None,
    dump_smt2: o.Dump = None,
    json: o.Json = False,
) -> int:
    """Decide a VNN-LIB property file.

    Can any input of the file's boxes meet the violation that it describes? The box is mapped through the
    model's own quantiser, exactly, and a constraint that has no exact integer form is refused.

    Example: bvverify verify model.onnx property.vnnlib --timeout 60

    Exit codes: 0 verified, 10 falsified, 5 unknown, 1 usage, 2 unreadable or unsupported input, 6 internal
    error.
    """
    from bvverify.cli import decide, question

    return decide.decide(NAME, lambda: question.ask_property(model, property_file, o.whose(semantics, accumulator)),
                         engine, timeout, memory, seed, dump_smt2, witness, as_json=json, certificate=certificate, check=not no_check,
                         nodes=nodes, solver=solver, trust_solver=trust_solver, jobs=jobs, cluster=cluster)  # fmt: skip
