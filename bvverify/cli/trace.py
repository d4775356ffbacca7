"""``bvverify trace``: the numbers of one run, and how a neuron comes to its own."""

from __future__ import annotations

from typing import Annotated

import typer

from bvverify.cli import options as o

NAME = "trace"


def command(
    model: o.Model,
    source: o.Input,
    neuron: Annotated[
        str | None, typer.Option("--neuron", "-n", metavar="LAYER:NEURON", help="1:5, or a name and one index an axis: conv1:0,3,4.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="PROFILE", help='Only what differs under another; or "rational".')
    ] = None,
    semantics: o.Semantics = None,
    accumulator: o.AccumulatorOption = o.Accumulator.EXACT,
    allow_pickle: o.AllowPickle = False,
    json: o.Json = False,
) -> int:
    """Show how the network computes, bit by bit.

    Without --neuron: each layer's range and saturation, and the neurons nearest to a tie, to saturation and to
    an overflow. With it: the whole calculation of one neuron, from the products through every rounding, exactly.
    With --against: what another arithmetic makes of the same input; the first neuron that differs, both of its
    calculations, and how the difference travels to the outputs.

    Examples:
      bvverify trace model.onnx --input test.npz::7
      bvverify trace model.onnx --input test.npz::7 --neuron 1:5
      bvverify trace model.tflite --input test.npz::7 --semantics tflite-reference --against tflite-optimised

    Exit codes: 0 done, 1 usage, 2 unreadable or unsupported input, 6 internal error.
    """
    from bvverify.cli import trace_report

    return trace_report.trace(model, source, neuron, o.whose(semantics, accumulator), against, as_json=json)
