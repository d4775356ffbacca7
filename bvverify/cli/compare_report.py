"""The answer of ``bvverify compare`` as lines and as one JSON object."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bvverify import pipeline
from bvverify.cli import about_box, report
from bvverify.cli.compare_question import Asked
from bvverify.cli.output import SCHEMA_VERSION, emit, settle, write
from bvverify.cli.progress import ProgressLine
from bvverify.cli.trace_text import index
from bvverify.compare.align import two_files
from bvverify.compare.answer import Answer
from bvverify.compare.compare import Comparison, Interrupted, compare
from bvverify.compare.joint import round_apart
from bvverify.compare.layer import LayerComparison, compare_layer
from bvverify.compare.parting import Parting, Rounding
from bvverify.errors import UsageError
from bvverify.model.network import Network
from bvverify.model.result import Witness
from bvverify.model.types import AnyArray, Cells

EXIT_CODES = {Answer.EQUAL: 0, Answer.DIFFERS: 10, Answer.UNKNOWN: 5}


def answer(asked: Asked, settings: pipeline.Options, *, as_json: bool, witness_file: Path | None, certificate_file: Path | None) -> int:
    """Decide, print, save what is to be saved, and return the exit code; a file that cannot be written does not cost the answer."""
    refused: UsageError | None = None
    if asked.layer is not None:
        found = compare_layer(asked.a, asked.b, asked.layer, seed=settings.seed, timeout=settings.timeout)
        try:
            if found.xs and witness_file is not None:
                _save_arrays(witness_file, found.xs)
        except UsageError as error:
            refused, witness_file = error, None
        emit(json.dumps(_layer_object(asked, found)) if as_json else "\n".join(_layer_lines(asked, found, witness_file)))
        return settle(EXIT_CODES[found.answer], refused)
    stop: Interrupted | None = None
    try:
        with ProgressLine() as progress:
            made = every_box(asked, settings, progress)
    except Interrupted as interrupted:
        stop, made = interrupted, interrupted.made
    saved: list[Path] = []
    described = _object(asked, made, settings) | {"certificate": None}
    wanted = certificate_file is not None
    try:
        if certificate_file is not None:
            saved = report.save_certificates(certificate_file, made.certificates)
            described["certificate"] = [str(f) for f in saved] or None
        if made.witnesses is not None and witness_file is not None:
            if witness_file.suffix == ".json":
                write(witness_file, json.dumps(described) + "\n")
            else:
                _save_arrays(witness_file, (made.witnesses[0].file_input,))
    except UsageError as error:
        refused, witness_file, wanted = error, None, False
        described["not_saved"] = str(error)
    emit(json.dumps(described) if as_json else "\n".join(_lines(asked, made, witness_file, saved, wanted=wanted)))
    code = settle(EXIT_CODES[made.answer], refused)
    if stop is not None:
        raise stop
    return code


def every_box(asked: Asked, settings: pipeline.Options, progress: pipeline.Progress) -> Comparison:
    """Differs if the readings differ on one box, equal if they are on all, within one limit."""
    started, results = time.monotonic(), []
    for box in asked.boxes:
        left = None if settings.timeout is None else max(settings.timeout - (time.monotonic() - started), 1e-3)
        made = compare(
            asked.a,
            asked.b,
            box,
            by_class=asked.by_class,
            delta=asked.delta,
            nominal=asked.nominal,
            options=replace(settings, timeout=left),
            progress=progress,
        )
        results.append(made)
        if made.answer is Answer.DIFFERS:
            return made
    worst = next((r for r in results if r.answer is Answer.UNKNOWN), results[0])
    certificates = tuple(c for r in results for c in r.certificates)
    return replace(worst, seconds=time.monotonic() - started, certificates=certificates)


def _lines(asked: Asked, made: Comparison, witness_file: Path | None, saved: Sequence[Path], *, wanted: bool) -> list[str]:
    lines = [str(made.answer), report.line("asked", f"{made.asked}, for {asked.where}")]
    lines += [report.line(*pair) for pair in about_box.lines(asked.common, asked.boxes, asked.given, asked.batch)]
    if made.witnesses is None:
        lines.append(report.line("because", made.reason))
    lines.append(report.line("stage", f"{made.stage}, {made.seconds:.2f} s"))
    begins = made.begins if made.parting is None and not two_files(asked.a, asked.b) else ()
    lines += [report.line("may begin", f"{b.name}: {b.candidates} of {b.elements} elements") for b in begins]
    if made.witnesses is not None:
        lines += witness_lines(asked, made.witnesses, made.parting)
        if witness_file is not None:
            lines.append(report.line("saved", str(witness_file)))
    if made.answer is Answer.EQUAL:
        if made.checked is not None:
            lines += [report.line(*pair) for pair in report.about_check(made.checked)]
        lines += [report.line("saved", str(file)) for file in saved]
        if wanted and not saved:
            lines.append(report.line("saved", "no certificate: agreement of the roundings is shown by their thresholds, not by a tree"))
    return lines + about(asked)


def witness_lines(asked: Asked, witnesses: tuple[Witness, Witness], parting: Parting | None) -> list[str]:
    """What the one input gives under A and under B, where the two part, and who has replayed either."""
    lines = []
    for name, witness in zip("AB", witnesses, strict=True):
        outputs = " ".join(map(str, witness.output.ravel().tolist()))
        lines.append(report.line(f"outputs {name}", f"class {int(witness.output.argmax())}: {outputs}"))
    if parting is not None or not two_files(asked.a, asked.b):
        lines += _parting_lines(parting)
    for name, witness in zip("AB", witnesses, strict=True):
        lines.append(report.line(f"replayed {name}", "; ".join(["interpreter", *map(str, witness.replayed_by)])))
    return lines


def about(asked: Asked) -> list[str]:
    """Which arithmetics, and which model."""
    made, lines = asked.a.provenance, []
    for name, network in zip("AB", (asked.a, asked.b), strict=True):
        lines.append(report.line(name, f"{network.semantics} ({', '.join(network.requantisations()) or 'no requantisation'})"))
    if not two_files(asked.a, asked.b):
        if round_apart(asked.a, asked.b):
            lines.append(report.line("about", "the integers behind the input's quantiser, which the two round to by rules of their own"))
        return [*lines, report.line("model", f"{Path(made.path).name}, sha256 {made.sha256[:16]}")]
    if isinstance(asked.common.input.quantiser, Cells):
        lines.append(
            report.line("about", f"every real input: the two quantisers part it at {len(asked.common.input.quantiser.starts)} steps")
        )
    for name, network in zip("AB", (asked.a, asked.b), strict=True):
        made = network.provenance
        lines.append(report.line(f"model {name}", f"{Path(made.path).name}, sha256 {made.sha256[:16]}"))
    return lines


def _parting_lines(parting: Parting | None) -> list[str]:
    if parting is None:
        return [report.line("parts at", "no tensor that the two have in common")]
    a, b = parting.results
    lines = [report.line("parts at", f"{parting.tensor}{index(parting.element)}: {a} under A, {b} under B")]
    if parting.accumulator is not None:
        lines.append(report.line("sum", f"accumulator {parting.accumulator}"))
        for name, rounding in zip("AB", parting.roundings, strict=True):
            lines.append(report.line(f"rounds {name}", _rounding_text(rounding)))
    return lines


def _rounding_text(r: Rounding) -> str:
    """From the accumulator to the integer; the zero point joins behind the rounding, so that number and tie are shown without it."""
    number, tie = r.value - r.zero_point, r.tie - r.zero_point
    side = "on the tie" if not r.distance else f"{abs(float(r.distance)):.3g} {'above' if r.distance > 0 else 'below'} the tie"
    end = f"with zero point {r.zero_point}: " if r.zero_point else ""
    if r.saturated:
        made = f"{end}{r.result} (saturated)"
    else:
        made = f"becomes {r.result - r.zero_point}, {end}{r.result}" if end else f"becomes {r.result}"
    return f"{r.rule}: times {r.multiplier} is {float(number):.9g}, {side} {_plain(tie)}: {made}"


def _plain(tie: Fraction) -> str:
    """An integer and a half, to the digit."""
    return f"{'-' if tie < 0 else ''}{int(abs(tie))}.5"


def _layer_lines(asked: Asked, found: LayerComparison, witness_file: Path | None) -> list[str]:
    reads = "every input that the layer's type allows"
    lines = [
        str(found.answer),
        report.line("asked", f"{found.layer} gives the same under A and B, for {reads}"),
        report.line("because", found.reason),
    ]
    if found.parting is not None:
        lines += _parting_lines(found.parting)
        if witness_file is not None:
            lines.append(report.line("saved", f"{witness_file} (what the layer reads)"))
    lines.append(report.line("stage", f"layer, {found.seconds:.2f} s"))
    return lines + about(asked)


def _common(asked: Asked, stage: str, reason: str, verdict: Answer, seconds: float, parting: Parting | None) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "compare",
        "verdict": str(verdict),
        "stage": stage,
        "reason": reason,
        "seconds": round(seconds, 6),
        "asked": asked.given,
        **models_object(asked.a, asked.b),
        "parting": None if parting is None else parting_object(parting),
    }


def _object(asked: Asked, made: Comparison, settings: pipeline.Options) -> dict[str, Any]:
    sizes = about_box.as_object(asked.common, asked.boxes, asked.batch)
    return (
        _common(asked, made.stage, made.reason, made.answer, made.seconds, made.parting)
        | sizes
        | {
            "begins": [{"tensor": b.name, "candidates": b.candidates, "elements": b.elements} for b in made.begins],
            "stages": [{"stage": s.stage, "seconds": round(s.seconds, 6), "detail": s.detail} for s in made.stages],
            "checked": None if made.checked is None else asdict(made.checked),
            "witness": None if made.witnesses is None else witness_object(asked, made.witnesses),
            "seed": settings.seed,
            "trust_solver": settings.trust_solver,
        }
    )


def models_object(a: Network, b: Network) -> dict[str, Any]:
    """Which models, and under which semantics; ``against_model`` None where both are readings of one file."""
    one, other = ({"path": n.provenance.path, "format": n.provenance.format, "sha256": n.provenance.sha256} for n in (a, b))
    return {
        "model": one,
        "semantics": a.semantics,
        "against_model": other if two_files(a, b) else None,
        "against": b.semantics,
        "quantised_apart": not two_files(a, b) and round_apart(a, b),
    }


def witness_object(asked: Asked, witnesses: tuple[Witness, Witness]) -> dict[str, Any]:
    """The input, its box, and what either reading makes of it: all that ``bvverify replay`` needs besides the model's file."""
    one, other = witnesses
    box = next(b for b in asked.boxes if b.contains(one.input))
    return {
        "input": report.flat(one.input),
        "file_input": report.array_object(one.file_input),
        "box": {"lo": report.flat(box.lo), "hi": report.flat(box.hi)},
        "a": _reading_object(asked.a, one),
        "b": _reading_object(asked.b, other),
    }


def _reading_object(network: Network, witness: Witness) -> dict[str, Any]:
    replays = [{"runtime": r.runtime, "version": r.version, "agreed": r.agreed, "detail": r.detail} for r in witness.replayed_by]
    output = report.flat(witness.output)
    return {"semantics": network.semantics, "output": output, "class": int(witness.output.argmax()), "replays": replays}


def _layer_object(asked: Asked, found: LayerComparison) -> dict[str, Any]:
    xs = [report.array_object(x) for x in found.xs]
    return _common(asked, "layer", found.reason, found.answer, found.seconds, found.parting) | {
        "layer": found.layer,
        "gaps": found.gaps,
        "witness": {"reads": xs} if xs else None,
    }


def parting_object(parting: Parting) -> dict[str, Any]:
    """Where the two part, with exact fractions as text."""
    return {
        "tensor": parting.tensor,
        "element": list(parting.element),
        "results": list(parting.results),
        "accumulator": parting.accumulator,
        "roundings": [
            {
                "semantics": r.semantics,
                "rule": r.rule,
                "multiplier": _fraction(r.multiplier),
                "value": _fraction(r.value),
                "tie": _fraction(r.tie),
                "zero_point": r.zero_point,
                "distance": _fraction(r.distance),
                "result": r.result,
                "saturated": r.saturated,
            }
            for r in parting.roundings
        ],
    }


def _fraction(value: Fraction) -> str:
    """``numerator/denominator``, exactly."""
    return f"{value.numerator}/{value.denominator}"


def _save_arrays(path: Path, arrays: Sequence[AnyArray]) -> None:
    """One array as it is; those of a layer with two inputs stacked."""
    import io

    buffer = io.BytesIO()
    np.save(buffer, arrays[0] if len(arrays) == 1 else np.stack(arrays))
    write(path, buffer.getvalue())
