"""The arguments and options that several commands share, each said once."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bvverify.errors import UsageError

if TYPE_CHECKING:
    from bvverify.pipeline import Options


class Accumulator(StrEnum):
    """How a CPU sums the products of uint8 by int8."""

    EXACT = "exact"
    SATURATING_PAIRS = "saturating-pairs"


class Engine(StrEnum):
    """Who decides."""

    AUTO = "auto"
    SMT = "smt"
    ILP_EXACT = "ilp:exact"
    ILP_AAAI24 = "ilp:aaai24"
    ILP_QVIP = "ilp:qvip"
    ILP_EXACT_AS_WRITTEN = "ilp:exact:as-written"
    ILP_AAAI24_AS_WRITTEN = "ilp:aaai24:as-written"
    ILP_QVIP_AS_WRITTEN = "ilp:qvip:as-written"


class Solver(StrEnum):
    """The bit-vector solver."""

    Z3 = "z3"
    BITWUZLA = "bitwuzla"
    BOTH = "both"


def _permit_pickle(allowed: bool) -> bool:
    """What the option says holds for every file that the command opens, wherever it does."""
    from bvverify.load.load import PICKLE_ALLOWED

    PICKLE_ALLOWED.set(allowed)
    return allowed


def _steps(text: str) -> int:
    """A radius; for a real number there is another option."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no integer: a radius counts integer steps; --epsilon takes a real number") from None


Model = Annotated[Path, typer.Argument(metavar="MODEL", show_default=False, help="A quantised network: .onnx, .tflite, .h5 or .pt.")]
AgainstModel = Annotated[
    Path | None, typer.Option("--against-model", metavar="MODEL_B", help="The second model of compare, if it has moved since.")
]
Input = Annotated[
    str,
    typer.Option(
        "--input", "-i", metavar="FILE[::INDEX]", show_default=False, help="The input: .npy .npz .png .csv IDX (.gz too), witness .json."
    ),
]
MaybeInput = Annotated[
    str | None,
    typer.Option("--input", "-i", metavar="FILE[::INDEX]", help="The input: .npy .npz .png .csv IDX (.gz too), witness .json."),
]
Radius = Annotated[
    int | None,
    typer.Option("--radius", "-r", metavar="N", parser=_steps, help="Every input element moves by up to N integer steps."),
]
Epsilon = Annotated[str | None, typer.Option("--epsilon", metavar="R", help="Instead: by up to R as a real number (0.01, 2/255).")]
Clip = Annotated[
    str | None,
    typer.Option("--clip", metavar="LO,HI", help="Only inputs whose values lie in it, in the units that the model takes (0,1)."),
]
Label = Annotated[int | None, typer.Option("--label", "-l", metavar="L", help="The right class [default: the network's own answer].")]
Semantics = Annotated[str | None, typer.Option("--semantics", metavar="PROFILE", help="Whose arithmetic [default: what the file implies].")]
AccumulatorOption = Annotated[
    Accumulator, typer.Option("--accumulator", help="exact: CPUs with VNNI; saturating-pairs: x86 without it (ONNX Runtime, fbgemm).")
]
AllowPickle = Annotated[
    bool,
    typer.Option("--allow-pickle", callback=_permit_pickle, help="Open PyTorch files, which can run any code; of ones you trust."),
]
EngineOption = Annotated[
    Engine,
    typer.Option(
        "--engine",
        help="auto: all stages; smt: the bit-vector solver alone; ilp: an ILP, which only claims (as-written: no presolve).",
    ),
]
SolverOption = Annotated[
    Solver, typer.Option("--solver", help="Of bit-vectors: both ask the two side by side, and have to agree (bitwuzla is an extra).")
]
Timeout = Annotated[float | None, typer.Option("--timeout", "-t", metavar="SECONDS", help="For the whole question [default: no limit].")]
Memory = Annotated[int, typer.Option("--memory", metavar="MB", help="Limit for each solver's process.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of the random search; the same seed gives the same answer.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Dump = Annotated[Path | None, typer.Option("--dump-smt2", metavar="FILE", help="Write the solver's query as SMT-LIB 2.")]
SaveWitness = Annotated[
    Path | None, typer.Option("--witness", metavar="FILE", help="Save a witness: .npy (the input) or .json (for replay).")
]
SaveCertificate = Annotated[
    Path | None, typer.Option("--certificate", metavar="FILE", help="Of verified: save the certificate, for bvverify check.")
]
NoCheck = Annotated[bool, typer.Option("--no-check", help="Let neither the kernel nor proofs check what is verified; the result says so.")]
TrustSolver = Annotated[
    bool, typer.Option("--trust-solver", help="Take the solver's word for a part that it closed, without a proof; the result says so.")
]
Nodes = Annotated[int | None, typer.Option("--nodes", metavar="N", help="Give up after a search of about N nodes [default: no limit].")]


def whose(semantics: str | None, accumulator: Accumulator) -> str | None:
    """The semantics that both options together name."""
    from bvverify.load.profile import with_accumulator

    return with_accumulator(semantics, accumulator.value)


def build(
    engine: Engine,
    timeout: float | None,
    memory: int,
    seed: int,
    dump: Path | None = None,
    *,
    check: bool = True,
    nodes: int | None = None,
    threads: int = 1,
    solver: Solver = Solver.Z3,
    trust_solver: bool = False,
) -> Options:
    """The options of the pipeline; ``UsageError`` for a limit that limits nothing or everything."""
    from bvverify.pipeline import Options
    from bvverify.solve import require

    require(solver.value)
    if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
        raise UsageError(f"--timeout {timeout:g}: a limit is a positive number of seconds")
    if memory < 64:
        raise UsageError(f"--memory {memory}: the solver needs at least 64 MB")
    if not 0 <= seed < 2**32:
        raise UsageError(f"--seed {seed}: a seed is 0 to {2**32 - 1}")
    if nodes is not None and nodes < 0:
        raise UsageError(f"--nodes {nodes}: a number of nodes is not negative")
    return Options(
        engine=engine.value,
        solver=solver.value,
        timeout=timeout,
        memory_mb=memory,
        seed=seed,
        dump=dump,
        check=check,
        trust_solver=trust_solver,
        most_nodes=nodes,
        threads=threads,
    )
