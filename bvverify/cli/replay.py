"""``bvverify replay``: a saved witness, run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bvverify.cli import options as o
from bvverify.errors import UsageError
from bvverify.ilp.reading import Reading

NAME = "replay"


def command(
    witness: Annotated[Path, typer.Argument(metavar="WITNESS.json", show_default=False, help="What --json printed or --witness saved.")],
    model: Annotated[Path | None, typer.Argument(metavar="[MODEL]", show_default=False, help="The model, if it has moved since.")] = None,
    against_model: o.AgainstModel = None,
    reading: Annotated[
        Reading | None, typer.Option("--reading", help="Also inside this ILP: does it exclude the witness, and why?")
    ] = None,
    allow_pickle: o.AllowPickle = False,
    json: o.Json = False,
) -> int:
    """Replay a saved witness.

    It runs in the exact interpreter and in the installed runtime. Nothing in the file is believed: the model
    must have the same SHA-256, the input must lie in the box, and its outputs, computed anew, must be the
    recorded ones and violate the property. One of compare runs under both readings, each in its own runtime,
    and must part them. With --reading a witness also runs inside an ILP reading's own rows, in exact rationals:
    the first row that it violates says why the ILP would miss it.

    Example: bvverify replay witness.json

    Exit codes: 10 falsified or differs (the witness holds), 1 usage, 2 unreadable file or no witness, 6 the runtime
    disagrees.
    """
    from bvverify.cli import comparison_file, witness_file
    from bvverify.cli.claim import Claim

    claim = Claim(witness, "replay")
    if claim.of_comparison:
        if reading is not None:
            raise UsageError(f"--reading {reading}: {witness} is an answer of compare, which no ILP is about")
        return comparison_file.replay_claim(claim, model, against_model, as_json=json)
    if against_model is not None:
        raise UsageError(f"--against-model: {witness} is about one model")
    return witness_file.replay_claim(claim, model, reading, as_json=json)
