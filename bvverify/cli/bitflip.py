"""``bvverify bitflip``: flipped bits in memory."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bvverify.cli import options as o

NAME = "bitflip"


class Parameters(StrEnum):
    """Which parameters can be hit."""

    BOTH = "both"
    WEIGHTS = "weights"
    BIASES = "biases"


def command(
    model: o.Model,
    source: o.Input,
    bits: Annotated[int, typer.Option("--bits", metavar="N", help="Up to so many bits of one parameter flip.")] = 1,
    parameters: Annotated[Parameters, typer.Option("--parameters", help="Which of them can be hit.")] = Parameters.BOTH,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", metavar="NAME", help="Only those of this layer; may be given again [default: all].")
    ] = None,
    semantics: o.Semantics = None,
    allow_pickle: o.AllowPickle = False,
    listing: Annotated[Path | None, typer.Option("--list", metavar="FILE.csv", help="Save every flip that changes the class.")] = None,
    flipped: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Save the model with the worst flip, and let its own runtime confirm it.")
    ] = None,
    json: o.Json = False,
) -> int:
    """Find every stored bit whose flip changes the class.

    For one input, and up to N flipped bits in any one stored parameter: int8 weights, int32 biases, two's complement, the
    sign bit included. Every flip is tried, exactly; of those that change the class the worst, and a sample of the others,
    are confirmed by running the flipped network as a whole.

    Example: bvverify bitflip model.onnx --input test.npz::7 --bits 2 --list flips.csv

    Exit codes: 0 no flip changes the class, 10 some do, 5 none does but some drive an accumulator beyond what the
    runtime is modelled for, 1 usage, 2 unreadable or unsupported input, 6 internal error.
    """
    from bvverify.cli import bitflip_report

    asked = bitflip_report.ask(model, source, bits, parameters.value, layer, semantics)
    return bitflip_report.answer(asked, as_json=json, listing=listing, flipped_file=flipped)
