"""``bvverify batch``: many rows, all cores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bvverify.cli import options as o
from bvverify.errors import UsageError

NAME = "batch"


def command(
    instances: Annotated[Path, typer.Argument(metavar="INSTANCES.csv", show_default=False, help="The rows to decide.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.jsonl", show_default=False, help="One JSON object a line.")],
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", metavar="J", help="Processes [default: all cores].")] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="ADDRESS", help="A Dask scheduler, whose workers decide the rows (an extra).")
    ] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", "-t", metavar="S", help="For rows without a limit of their own.")] = None,
    semantics: Annotated[
        str | None, typer.Option("--semantics", metavar="PROFILE", help="For rows without semantics of their own.")
    ] = None,
    accumulator: o.AccumulatorOption = o.Accumulator.EXACT,
    engine: o.EngineOption = o.Engine.AUTO,
    solver: o.SolverOption = o.Solver.Z3,
    memory: o.Memory = 4096,
    seed: o.Seed = 0,
    certificates: Annotated[
        Path | None, typer.Option("--certificates", metavar="DIR", help="A folder for the certificates of verified rows.")
    ] = None,
    no_check: o.NoCheck = False,
    trust_solver: o.TrustSolver = False,
    allow_pickle: o.AllowPickle = False,
) -> int:
    """Decide the rows of a CSV on all cores.

    Each answer is written as it comes, in the order in which they finish.

    The header is model,input,label,radius,timeout,semantics,clip (the last three and label may be empty), or
    model,property,timeout,semantics; VNN-COMP's instances.csv (onnx,vnnlib,timeout without a header) is read as
    well. Relative paths are relative to the CSV. A column target, where it is not empty, names a class and asks
    whether the input can get that one.

    A radius of max asks for the largest radius that verifies, as bvverify radius does; max:N goes no further than
    N. Its answer has the fields verified and falsified (a radius or null), the witness and the certificate of
    those, and the verdict found, unknown (the time ran out between the two), or falsified (by the clean input).

    Each line of OUT.jsonl has model, input, label and radius (or property) as the CSV gives them, verdict
    (verified, falsified, found, unknown, misclassified or error), reason, stage, seconds, witness (the integers of the
    input, flat, or null), semantics, nodes of the search, seconds by stage, and of verified rows certificate (the
    file, with --certificates) and checked (what the kernel accepted), of unknown ones open (what was left),
    and notes where the input had to be reshaped, rescaled or clipped to be one of the model's.
    Rows that OUT.jsonl already holds are skipped, so the same command goes on where it stopped; delete a line to
    have its row decided again. A process that is killed costs its row a second try, nothing else.

    With --cluster the rows go to the workers of a Dask scheduler (tcp://HOST:8786): install bvverify[cluster] there,
    too. Models, inputs and properties are sent, certificates come back; nothing has to lie on a shared disk. A
    worker that dies costs its rows another try. On SLURM, dask_jobqueue.SLURMCluster starts scheduler and workers.

    Example: bvverify batch instances.csv --output answers.jsonl --timeout 10

    Exit codes: 0 every row has its line, whatever the verdicts; 1 usage; 2 the CSV is unreadable; 6 bvverify
    failed on a row.
    """
    from bvverify.cli import batch_run

    if cluster is not None and jobs is not None:
        raise UsageError("--jobs counts processes here; with --cluster the workers say how many rows they take")
    settings = o.build(engine, timeout, memory, seed, check=not no_check, solver=solver, trust_solver=trust_solver)
    wanted = o.whose(semantics, accumulator)
    return batch_run.run(instances, output, jobs, wanted, settings, certificates=certificates, cluster=cluster, allow_pickle=allow_pickle)
