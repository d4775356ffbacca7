"""``bvverify run``: the exact interpreter on a batch of inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bvverify.cli import options as o

NAME = "run"


def command(
    model: o.Model,
    source: o.Input,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="OUT.npy", help="Write the outputs of the whole batch.")] = None,
    integers: Annotated[bool, typer.Option("--integers", help="The integers before a final DequantizeLinear.")] = False,
    semantics: o.Semantics = None,
    accumulator: o.AccumulatorOption = o.Accumulator.EXACT,
    allow_pickle: o.AllowPickle = False,
    json: o.Json = False,
) -> int:
    """Run the network exactly, integer by integer.

    With --output the first axis of the array is the batch, and the outputs are written as the model's file
    declares them: float32 after a final DequantizeLinear, bit for bit what the runtime computes. Without it,
    one input's outputs and class are printed.

    Examples:
      bvverify run model.onnx --input test.npz::7
      bvverify run model.onnx --input batch.npy --output outputs.npy

    Exit codes: 0 done, 1 usage, 2 unreadable or unsupported input, 6 internal error.
    """
    from bvverify.cli import run_batch

    return run_batch.run(model, source, output, o.whose(semantics, accumulator), integers=integers, as_json=json)
