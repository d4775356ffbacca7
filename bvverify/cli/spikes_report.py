"""The work behind ``bvverify spikes``: ask, search with a live line, check, print, save."""

from __future__ import annotations

import hashlib
import io
import json
import time
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.cli.output import SCHEMA_VERSION, check_writable, emit, settle, write
from bvverify.cli.progress import ProgressLine
from bvverify.errors import InputError, InternalError, UsageError
from bvverify.load import arrays
from bvverify.model.types import Int64Array
from bvverify.spikes import kernel
from bvverify.spikes.ask import Question, replays
from bvverify.spikes.encode import smt2
from bvverify.spikes.load import load
from bvverify.spikes.network import Spiking, predicted, run, spike_times, values_of
from bvverify.spikes.parting import parting
from bvverify.spikes.search import Found, search

_FORMAT = "bvverify-spikes-proof"
_SHOWN = 12
_LAYER = 16
_CODES = {"verified": 0, "falsified": 10, "unknown": 5}


@dataclass(frozen=True)
class Asked:
    """A question, and the user's words for it."""

    question: Question
    given: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that a proof is about."""
        q = self.question
        said = [q.network.reading, q.network.threshold, q.times.tolist(), q.label, q.total, q.each, q.ties]
        digest = hashlib.sha256(json.dumps(said).encode())
        for weight in q.network.weights:
            digest.update(str(weight.shape).encode() + np.ascontiguousarray(weight, "<i8").tobytes())
        return digest.hexdigest()


def ask(
    model: Path,
    source: str,
    delta: int | None,
    each: int | None,
    label: int | None,
    threshold: str,
    ties: str,
    grid: int,
    steps: int | None,
) -> Asked:
    """What the arguments ask."""
    if delta is None and each is None:
        raise UsageError("give --delta (all spikes together), --each (every spike by itself), or both")
    network, times = _read(model, source, threshold, grid, steps)
    found = int(predicted(run(network, times[None])[-1])[0])
    if label is not None and label >= len(network.weights[-1]):
        raise UsageError(f"--label {label}: {network.name} has {len(network.weights[-1])} classes, counted from 0")
    question = Question(network, times, found if label is None else label, delta, each, ties == "violate")
    return Asked(question, {"model": str(model), "input": source, "delta": delta, "each": each, "ties": ties})


def _read(model: Path, source: str, threshold: str, grid: int, steps: int | None) -> tuple[Spiking, Int64Array]:
    """The network, and when its inputs spike (inputs,)."""
    network = load(model, strict=threshold == "strict", grid=grid, steps=steps)
    values = arrays.read(source)
    if values.size != network.inputs:
        raise UsageError(f"{source}: {values.size} values, but {network.name} takes {network.inputs}; FILE::INDEX picks one input")
    if (values != np.rint(values)).any() or values.min() < 0 or values.max() > 255:
        raise UsageError(f"{source}: values 0 … 255 in integers are expected, which become spike times")
    times = spike_times(values.reshape(-1).astype(np.int64), network.steps)
    return network, times


def show(model: Path, source: str, threshold: str, grid: int, steps: int | None, *, as_json: bool) -> int:
    """Print when the neurons spike, and where the two readings of the threshold part."""
    network, times = _read(model, source, threshold, grid, steps)
    layers, found = run(network, times[None]), parting(network, times)
    other = run(replace(network, strict=not network.strict), times[None])[-1]
    described: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "model": str(model),
        "input": source,
        "semantics": network.reading,
        "times": [layer[0].tolist() for layer in layers],
        "class": int(predicted(layers[-1])[0]),
        "class_of_the_other_threshold": int(predicted(other)[0]),
        "parting": None if found is None else asdict(found),
    }
    lines = [f"class {described['class']}", f"  {network.reading}"]
    for number, layer in enumerate(described["times"]):
        shown = " ".join(map(str, layer[:_LAYER])) + (f" and {len(layer) - _LAYER} more" if len(layer) > _LAYER else "")
        lines.append(f"  {f'layer {number}' if number else 'inputs'} spike at {shown}")
    if found is None:
        lines.append("  with > and with >= every neuron spikes at the same step")
    else:
        terms = [(i, Fraction(w, 1 << network.grid)) for i, w in found.terms]
        total = " ".join(f"{'+' if w > 0 else '-'} {_number(abs(w))}" for _, w in terms).removeprefix("+ ")
        shown = total if len(terms) <= _LAYER else f"the sum of {len(terms)} weights"
        lines += [
            f"  the thresholds part at neuron {found.neuron} of layer {found.layer}: at step {found.loose} its potential is",
            f"    {shown} = {_number(Fraction(network.threshold, 1 << network.grid))}, the threshold itself",
            f"    >= lets it spike at {found.loose}; > waits until {found.strict}",
            f"  the other threshold's outputs spike at {' '.join(map(str, other[0].tolist()))}: class {int(predicted(other)[0])}",
        ]
    emit(json.dumps(described) if as_json else "\n".join(lines))
    return 0


def _number(value: Fraction) -> str:
    """An exact decimal: a grid of powers of two has one."""
    return f"{value.numerator}" if value.denominator == 1 else format(Decimal(value.numerator) / Decimal(value.denominator), "f")


def answer(asked: Asked, timeout: float, certificate: Path | None, witness: Path | None, *, as_json: bool) -> int:
    """Decide, check, print, save, and return the exit code."""
    check_writable(certificate, ".json")
    check_writable(witness, ".npy")
    begun = time.monotonic()
    with ProgressLine() as progress:
        found = search(asked.question, timeout, lambda line: progress("spikes", line))
    seconds = time.monotonic() - begun
    steps = [step.listed() for step in found.tree]
    closed: dict[str, int] = {}
    if found.witness is not None and not replays(asked.question, found.witness):
        raise InternalError("internal error: the spike times that the search found do not replay; please report this")
    if found.verdict == "verified":
        try:
            closed = kernel.check(asked.question, steps)
        except kernel.Rejected as why:
            raise InternalError(f"internal error: the kernel rejects the proof: {why}; please report this") from None
    described = _object(asked, found, closed, seconds, time.monotonic() - begun - seconds)
    refused: UsageError | None = None
    try:
        if certificate is not None and found.verdict == "verified":
            write(certificate, json.dumps({"format": _FORMAT, "version": 1, "about": asked.fingerprint, "steps": steps}))
        if witness is not None and found.witness is not None:
            content = io.BytesIO()
            np.save(content, found.witness)
            write(witness, content.getvalue())
    except UsageError as error:
        refused = error
        described["not_saved"] = str(error)
    emit(json.dumps(described) if as_json else "\n".join(_lines(asked, found, described)))
    return settle(_CODES[found.verdict], refused)


def check_proof(asked: Asked, file: Path, *, as_json: bool) -> int:
    """Check a saved proof of what is asked."""
    try:
        saved = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read as a proof ({str(error).splitlines()[0]})") from None
    if not isinstance(saved, dict) or saved.get("format") != _FORMAT or not isinstance(saved.get("steps"), list):
        raise InputError(f"{file}: is no proof about spikes, as `bvverify spikes --certificate` saves it")
    if saved.get("version") != 1:
        raise InputError(f"{file}: version {saved.get('version')} of the format; this program reads version 1")
    if saved.get("about") != asked.fingerprint:
        raise InputError(f"{file}: is about another network, input or question than the arguments give")
    begun = time.monotonic()
    try:
        closed = kernel.check(asked.question, saved["steps"])
    except kernel.Rejected as why:
        emit(json.dumps({"schema_version": SCHEMA_VERSION, "accepted": False, "reason": str(why)}) if as_json else f"rejected: {why}")
        return 6
    described = {"schema_version": SCHEMA_VERSION, "accepted": True, "closed": closed, "seconds": round(time.monotonic() - begun, 3)}
    text = f"accepted: {closed['bound']} parts by bounds, {closed['run']} by runs; about {asked.question.network.reading}"
    emit(json.dumps(described) if as_json else text)
    return 0


def export(asked: Asked, file: Path, *, as_json: bool) -> int:
    """Save the question in SMT-LIB 2."""
    check_writable(file, ".smt2")
    write(file, smt2(asked.question))
    described = {"schema_version": SCHEMA_VERSION, **asked.given, "semantics": asked.question.network.reading, "written": str(file)}
    emit(json.dumps(described) if as_json else f"{file}: satisfiable where the property is violated")
    return 0


def _object(asked: Asked, found: Found, closed: dict[str, int], seconds: float, check_seconds: float) -> dict[str, Any]:
    question = asked.question
    clean = run(question.network, question.times[None])[-1][0]
    described: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        **asked.given,
        "verdict": found.verdict,
        "semantics": question.network.reading,
        "label": question.label,
        "output_times": clean.tolist(),
        "stage": found.stage,
        "parts": found.nodes,
        "open": found.open_parts,
        "seconds": round(seconds, 3),
    }
    if found.verdict == "verified":
        described |= {"checked": True, "closed": closed, "check_seconds": round(check_seconds, 3)}
    if found.witness is not None:
        outputs = run(question.network, found.witness[None])[-1][0]
        moved = np.flatnonzero(found.witness != question.times)
        described |= {
            "to": int(predicted(outputs[None])[0]),
            "witness_output_times": outputs.tolist(),
            "moved": [[int(i), int(question.times[i]), int(found.witness[i])] for i in moved],
            "total_shift": int(np.abs(found.witness - question.times).sum()),
        }
        if question.network.steps <= 256:
            described["witness_values"] = values_of(found.witness, question.network.steps).tolist()
    return described


def _lines(asked: Asked, found: Found, described: dict[str, Any]) -> list[str]:
    question = asked.question
    limits = [f"a total of {question.total}"] * (question.total is not None) + [f"{question.each} each"] * (question.each is not None)
    lines = [
        found.verdict,
        f"  {question.network.reading}",
        f"  spikes move by at most {' and '.join(limits)}; class {question.label} has to stay",
    ]
    lines.append(f"  output spikes at {' '.join(map(str, described['output_times']))}")
    if found.witness is not None:
        lines.append(f"  moved, they are at {' '.join(map(str, described['witness_output_times']))}: class {described['to']}")
        moved = described["moved"]
        lines += [f"  input {i}: {before} -> {after}" for i, before, after in moved[:_SHOWN]]
        if len(moved) > _SHOWN:
            lines.append(f"  and {len(moved) - _SHOWN} more")
        if not moved:
            lines.append("  no spike has to move: the input itself violates the property")
    elif found.verdict == "verified":
        lines.append(f"  checked: {described['closed']['bound']} parts by bounds, {described['closed']['run']} by runs")
    else:
        lines.append(f"  {found.open_parts} parts are open after {described['seconds']:.1f} s; a longer --timeout may close them")
    lines.append(f"  decided by {found.stage}, {found.nodes} parts, {described['seconds']:.2f} s")
    return lines
