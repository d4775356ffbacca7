"""The question of ``bvverify trace`` from its arguments, and its answer as lines and as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bvverify.cli import draw, trace_text
from bvverify.cli.output import SCHEMA_VERSION, emit
from bvverify.cli.question import load_against, read_input
from bvverify.cli.trace_text import Ink, number
from bvverify.explain.apart import Apart, apart
from bvverify.explain.calculation import as_object
from bvverify.explain.neuron import Run, calculate, locate
from bvverify.explain.overview import Layer, Near, overview
from bvverify.load.load import load


def trace(model: Path, source: str, neuron: str | None, semantics: str | None, against: str | None, *, as_json: bool) -> int:
    """Run, print, and return the exit code."""
    network = load(model, semantics)
    other = None if against is None else load_against(network, against)
    place = None if neuron is None else locate(network, neuron)
    batch = read_input(network, source).batch
    run = Run.of(network, batch.values)
    ink = Ink(draw.colours())
    made: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "command": "trace",
        "model": {"path": network.provenance.path, "format": network.provenance.format, "sha256": network.provenance.sha256},
        "input": source,
        "read": batch.as_object(network),
        "semantics": network.semantics,
        "output": run.output.tolist(),
        "class": int(run.output.argmax()),
    }
    lines = [f"{Path(network.provenance.path).name} on {source} under {network.semantics}"]
    notes = [f"  {'input':<10} {note}" for note in batch.notes(network)]
    if other is None:
        lines += notes
        lines.append(f"  {'outputs':<10} class {made['class']}: {' '.join(map(str, made['output']))}")
        if place is None:
            layers = overview(run)
            made["layers"] = as_object(layers)
            lines += _layers(layers)
        else:
            calculation = calculate(run, *place)
            made["calculation"] = as_object(calculation)
            lines += ["", *trace_text.calculation(calculation, ink)]
    else:
        theirs = Run.of(other, read_input(other, source).batch.values)
        found = apart(run, theirs)
        both = found.parts if place is None else (calculate(run, *place), calculate(theirs, *place))
        made |= {
            "against": other.semantics,
            "against_output": list(found.outputs[1]),
            "against_class": found.classes[1],
            "first": None if found.parts is None else {"layer": found.parts[0].layer, "element": list(found.parts[0].element)},
            "calculations": as_object(both),
            "spread": as_object(found.spreads),
        }
        lines[0] += f" (A) and {other.semantics} (B)"
        lines += [*notes, *_apart(found)]
        if both is not None:
            one, two = trace_text.calculation(both[0], ink), trace_text.calculation(both[1], ink, shown=both[0])
            lines += ["", f"A: {one[0]}", *one[1:], "", f"B: {two[0]}", *two[1:]]
    emit(json.dumps(made) if as_json else "\n".join(lines))
    return 0


def _layers(layers: Sequence[Layer]) -> list[str]:
    width = max(len(layer.tensor) for layer in layers)
    lines = []
    for layer in layers:
        shape = "x".join(map(str, layer.shape))
        about = f"{layer.least} to {layer.largest}"
        if layer.accumulators is not None:
            about += f", accumulators {layer.accumulators[0]} to {layer.accumulators[1]}"
        held = [f"{n} saturated {side}" for n, side in ((layer.saturated_low, "low"), (layer.saturated_high, "high")) if n]
        operation = f"{layer.operation}{f' ({layer.rule})' if layer.rule else ''}"
        lines += ["", f"{layer.layer:>2}  {layer.tensor:<{width}}  {operation}, {shape}: {', '.join([about, *held])}"]
        lines += [f"      {_near(layer, near)}" for near in layer.nearest]
    return lines


def _near(layer: Layer, near: Near) -> str:
    at = f"{layer.layer}:{','.join(map(str, near.element))}"
    start = f"nearest {near.kind:<11} {at:<10}"
    match near.kind:
        case "overflow":
            return f"{start} accumulator {near.accumulator}, " + (f"{near.distance} to go" if near.distance >= 0 else "which wrapped")
        case "tie":
            return (
                f"{start} {number(near.value)}, {trace_text.beside_tie(near.distance, near.value - near.distance)}, becomes {near.output}"
            )
        case _:
            return f"{start} {number(near.value)}, {number(near.distance)} from where the clamp acts, becomes {near.output}"


def _apart(found: Apart) -> list[str]:
    lines = []
    for name, outputs, winner in zip("AB", found.outputs, found.classes, strict=True):
        lines.append(f"  {'outputs ' + name:<10} class {winner}: {' '.join(map(str, outputs))}")
    if found.parts is None:
        return [*lines, f"  {'differs':<10} nowhere: every tensor is the same under both"]
    first = found.parts[0]
    lines.append(f"  {'parts at':<10} {trace_text.place(first)}: {first.output} under A, {found.parts[1].output} under B")
    for s in found.spreads:
        size = f"{s.differing} of {s.elements} elements differ" if s.elements > 1 else "its one element differs"
        at = trace_text.index(s.element)
        lines.append(f"  {'layer ' + str(s.layer):<10} {s.tensor}: {size}, by up to {abs(s.largest)} ({s.largest:+d} at {at})")
    if found.outputs[0] == found.outputs[1]:
        lines.append(f"  {'ends':<10} before the outputs, which are the same")
    return lines
