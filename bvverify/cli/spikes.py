"""``bvverify spikes``: robustness of a spiking network."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bvverify.cli import options as o

NAME = "spikes"


class Threshold(StrEnum):
    """When a potential makes a neuron spike."""

    STRICT = "strict"
    NON_STRICT = "non-strict"


class Ties(StrEnum):
    """Whether another class that spikes first together with the label is a violation."""

    VIOLATE = "violate"
    FIRST_INDEX = "first-index"


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="T_IN_HIDDEN_OUT_weights_0.npy, or what its files' names share.")],
    source: o.Input,
    delta: Annotated[int | None, typer.Option("--delta", min=0, metavar="D", help="All spikes together move by at most D steps.")] = None,
    each: Annotated[int | None, typer.Option("--each", min=0, metavar="R", help="Every spike moves by at most R steps.")] = None,
    label: Annotated[int | None, typer.Option("--label", min=0, help="The class that has to stay [default: the predicted one].")] = None,
    threshold: Annotated[
        Threshold, typer.Option("--threshold", help="A neuron spikes above 100 (strict), or from 100 on.")
    ] = Threshold.STRICT,
    ties: Annotated[Ties, typer.Option("--ties", help="Another class that spikes in the same step.")] = Ties.VIOLATE,
    grid: Annotated[int, typer.Option("--grid", min=0, max=40, metavar="B", help="Weights are rounded to multiples of 2^-B.")] = 20,
    steps: Annotated[int | None, typer.Option("--steps", help="Time steps [default: what the file's name begins with].")] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0, metavar="SECONDS", help="Time limit.")] = 60.0,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", metavar="FILE.json", help="Save the proof of a verified verdict.")
    ] = None,
    proof: Annotated[Path | None, typer.Option("--check", metavar="FILE.json", help="Search nothing; check this proof.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Search nothing; show the spikes, and where the two thresholds part.")] = False,
    witness: Annotated[Path | None, typer.Option("--witness", metavar="FILE.npy", help="Save the spike times of a violation.")] = None,
    smt: Annotated[Path | None, typer.Option("--smt", metavar="FILE.smt2", help="Only save the question, as bit-vectors.")] = None,
    json: o.Json = False,
) -> int:
    """Decide whether moved spikes can change the class.

    For time-to-first-spike networks: neurons spike once, at the first step at which the weights of what has spiked before
    pass the threshold, and the earliest output spike names the class. Give --delta, --each or both. The input holds values
    0 to 255 (bright ones spike first). Verified verdicts are checked by a kernel of their own before they are printed.

    Example: bvverify spikes 20_784_50_10 --input images.npz::7 --delta 3

    Exit codes: 0 verified (or the proof holds, or done), 10 falsified, 5 unknown, 1 usage, 2 unreadable or unsupported input,
    6 the proof does not hold, or an internal error.
    """
    from bvverify.cli import spikes_report

    if trace:
        return spikes_report.show(model, source, threshold.value, grid, steps, as_json=json)
    asked = spikes_report.ask(model, source, delta, each, label, threshold.value, ties.value, grid, steps)
    if smt is not None:
        return spikes_report.export(asked, smt, as_json=json)
    if proof is not None:
        return spikes_report.check_proof(asked, proof, as_json=json)
    return spikes_report.answer(asked, timeout, certificate, witness, as_json=json)
