"""``bvverify bitflip``: flipped bits in memory."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bvverify.cli import options as o

NAME = "bitflip"


class Stored(StrEnum):
    """Which parameters can be hit."""

    BOTH = "both"
    WEIGHTS = "weights"
    BIASES = "biases"


def command(
    model: o.Model,
    source: o.Input,
    radius: o.Radius = None,
    bits: Annotated[int, typer.Option("--bits", metavar="N", help="Up to so many bits of a parameter flip.")] = 1,
    parameters: Annotated[int, typer.Option("--parameters", metavar="M", help="Up to so many parameters are hit.")] = 1,
    stored: Annotated[Stored, typer.Option("--stored", help="Which of them can be hit.")] = Stored.BOTH,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", metavar="NAME", help="Only those of this layer; may be given again [default: all].")
    ] = None,
    semantics: o.Semantics = None,
    allow_pickle: o.AllowPickle = False,
    listing: Annotated[
        Path | None, typer.Option("--list", metavar="FILE.csv", help="Save every flip that changes the class (one input, one parameter).")
    ] = None,
    flipped: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Save the model with the worst flip; its own runtime confirms it.")
    ] = None,
    witness: Annotated[
        Path | None, typer.Option("--witness", metavar="FILE.npy", help="Save the input whose class the flips change.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", metavar="FILE.bvflips", help="Save the proof of a verified verdict.")
    ] = None,
    proof: Annotated[Path | None, typer.Option("--check", metavar="FILE.bvflips", help="Search nothing; check this proof.")] = None,
    timeout: o.Timeout = None,
    seed: o.Seed = 0,
    json: o.Json = False,
) -> int:
    """Find stored bits whose flips change the class.

    Up to N bits flip in each of up to M stored parameters: int8 weights, int32 biases, two's complement, the sign bit
    included. For one input and one parameter every flip is tried, exactly, and all that change the class are found. With
    --radius (every input within it), --parameters above 1 or --certificate, one answer is found: flips and an input, or
    a proof that there are none, which a kernel of its own checks before it is printed.

    Example: bvverify bitflip model.onnx --input test.npz::7 --radius 1 --stored weights --certificate proof.bvflips

    Exit codes: 0 no flips change the class (or the proof holds), 10 some do, 5 not decided, or some drive an accumulator
    beyond what the runtime is modelled for, 1 usage, 2 unreadable or unsupported input, 6 internal error, proof rejected.
    """
    from bvverify.cli import bitflip_report
    from bvverify.errors import UsageError

    asked = bitflip_report.ask(model, source, radius, bits, parameters, stored.value, layer, semantics)
    if radius is None and parameters == 1 and certificate is None and proof is None and witness is None:
        return bitflip_report.answer(asked, as_json=json, listing=listing, flipped_file=flipped)
    from bvverify.cli import bitflip_box

    if listing is not None:
        raise UsageError("--list: is for one input, one parameter; leave out --radius, --parameters, --certificate, --check and --witness")
    question = bitflip_box.question_of(asked, radius or 0, parameters)
    if proof is not None:
        return bitflip_box.check_proof(asked, question, proof, as_json=json)
    files = {"certificate": certificate, "witness": witness, "flipped_file": flipped}
    return bitflip_box.answer(asked, question, timeout, seed, as_json=json, **files)
