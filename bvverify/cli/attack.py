"""``bvverify attack``: search for a witness only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bvverify.cli import options as o

NAME = "attack"


def command(
    model: o.Model,
    property_file: Annotated[
        Path | None, typer.Argument(metavar="[PROPERTY.vnnlib]", show_default=False, help="Or --input and --radius.")
    ] = None,
    source: o.MaybeInput = None,
    radius: o.Radius = None,
    epsilon: o.Epsilon = None,
    clip: o.Clip = None,
    label: o.Label = None,
    semantics: o.Semantics = None,
    accumulator: o.AccumulatorOption = o.Accumulator.EXACT,
    allow_pickle: o.AllowPickle = False,
    timeout: o.Timeout = None,
    seed: o.Seed = 0,
    witness: o.SaveWitness = None,
    json: o.Json = False,
) -> int:
    """Search for a violation, prove nothing.

    Tries the clean input, projected gradients and an integer local search. Every witness is replayed before it
    is printed; where none is found, the answer is unknown.

    Example: bvverify attack model.onnx --input test.npz::7 --radius 8 --witness adversarial.npy

    Exit codes: 10 falsified, 5 nothing found, 1 usage, 2 unreadable or unsupported input, 6 internal error.
    """
    from bvverify.cli import decide, question

    arithmetic = o.whose(semantics, accumulator)
    return decide.decide(NAME, lambda: question.ask(model, property_file, source, radius, epsilon, label, arithmetic, clip), o.Engine.AUTO,
                         timeout, 4096, seed, None, witness, as_json=json, attack=True)  # fmt: skip
