"""``bvverify crosscheck``: what others claim, decided again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bvverify.cli import options as o

NAME = "crosscheck"


def command(
    claims: Annotated[Path, typer.Argument(metavar="CLAIMS.csv", show_default=False, help="What is claimed of which question.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT.jsonl", help="One JSON object a claim; the run goes on from it.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="The same as a table.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="One page, in which each refutation can be opened.")] = None,
    proofs: Annotated[
        Path | None,
        typer.Option(
            "--proofs", metavar="DIR", help="A folder for the proof of each refutation of this run: for replay, check, explain, report."
        ),
    ] = None,
    instances: Annotated[
        Path | None, typer.Option("--instances", metavar="FILE", help="Of VNN-COMP's results.csv: the instances.csv that it answers.")
    ] = None,
    counterexamples: Annotated[
        Path | None,
        typer.Option(
            "--counterexamples", metavar="DIR", help="Of VNN-COMP: the folder of counterexample files [default: that of results.csv]."
        ),
    ] = None,
    benchmarks: Annotated[
        Path | None, typer.Option("--benchmarks", metavar="DIR", help="Of a published table: nets/ and images/ [default: its ../].")
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", metavar="J", help="Processes [default: all cores].")] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", "-t", metavar="S", help="For rows without a limit of their own.")] = None,
    semantics: Annotated[
        str | None, typer.Option("--semantics", metavar="PROFILE", help="For rows without semantics of their own.")
    ] = None,
    accumulator: o.AccumulatorOption = o.Accumulator.EXACT,
    engine: o.EngineOption = o.Engine.AUTO,
    memory: o.Memory = 4096,
    seed: o.Seed = 0,
    allow_pickle: o.AllowPickle = False,
    json: o.Json = False,
) -> int:
    """Decide again what other verifiers claim.

    The columns of CLAIMS.csv are those of batch and claim (robust, non-robust, verified, falsified, unknown or
    empty), optionally claimed_witness, claimed_seconds and source. A claimed witness is a list of integers, a file
    of one (.json), a counterexample of VNN-COMP, an integer program's solution (.sol; x_0, x_1 and
    so on are the input), or an array as --input takes it. VNN-COMP's results.csv, and the published tables of AAAI-21
    and QVIP, are read as well.

    Each claim is
      confirmed                what is claimed was decided here, too
      refuted                  the opposite was: by a replayed witness, or a certificate that the kernel accepted
      witness does not replay  the claimed input is no witness; what it does instead is said
      undecided                the time ran out
      decided here only        nothing was claimed
      misclassified            nothing was claimed, and the clean input already has another class

    With --html or --proofs, a source that names an ILP reading (ilp:exact, ilp:aaai24, qvip) is held against its own
    rows: which of them excludes the witness, or lets a solution through that does not replay, and what is to blame.

    Questions that several claims share are decided once; a claimed witness that replays decides at once. OUT.jsonl
    holds the lines of batch with claim, status and claimed_witness_check; claims that it already holds are not
    decided again.

    Example: bvverify crosscheck claims.csv --output judged.jsonl --html judged.html --timeout 10

    Exit codes: 0 every claim is confirmed or newly decided, 10 a claim is refuted, 5 none is, but one is undecided,
    unreadable or without its witness; 1 usage; 2 CLAIMS.csv is unreadable; 6 bvverify failed on a row.
    """
    from bvverify.cli import crosscheck_run
    from bvverify.cli.batch_row import Task
    from bvverify.load.claims import read_claims
    from bvverify.load.instances import Instance

    settings = o.build(engine, timeout, memory, seed)
    read = read_claims(claims, instances=instances, counterexamples=counterexamples, benchmarks=benchmarks)
    wanted = o.whose(semantics, accumulator)

    def task(instance: Instance) -> Task:
        return Task(instance, settings, wanted, allow_pickle=allow_pickle)

    return crosscheck_run.run(read, crosscheck_run.Outputs(output, csv, html, proofs), jobs, task, as_json=json)
