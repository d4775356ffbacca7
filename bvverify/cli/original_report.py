"""The work behind ``bvverify compare`` with a float original: ask, decide, print, save."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bvverify import pipeline
from bvverify.cli import report
from bvverify.cli.compare_question import boxes_of, in_words
from bvverify.cli.compare_report import EXIT_CODES
from bvverify.cli.output import SCHEMA_VERSION, check_writable, emit, settle, write
from bvverify.cli.progress import ProgressLine
from bvverify.cli.question import Near, real_number
from bvverify.compare.answer import Answer
from bvverify.compare.original import Compared, compare, meaning_of_output
from bvverify.errors import UsageError
from bvverify.load.load import load, load_real
from bvverify.model.network import Network
from bvverify.model.query import Box
from bvverify.model.real import RealNetwork
from bvverify.model.types import Int64Array

_SHOWN = 10


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """The network, its original, the boxes, and what was given in the user's own words; ``delta`` None: the class."""

    a: Network
    original: RealNetwork
    boxes: tuple[Box, ...]
    nominal: Int64Array | None
    delta: Fraction | None
    where: str
    given: dict[str, Any]


def ask(
    model: Path, semantics: str | None, original: Path, property_file: Path | None, near: Near | None, delta: str | None, *, by_class: bool
) -> Asked:
    """What is asked; ``UsageError`` for arguments that contradict each other."""
    if by_class == (delta is not None):
        raise UsageError(
            f"{original}: is a network of floats: say how far apart outputs may be (--delta R), or ask about the class (--class)"
        )
    if property_file is not None and near is not None:
        raise UsageError("a property file gives the boxes: leave out --input, --radius, --epsilon and --clip")
    a = load(model, semantics)
    boxes, given_input, where = boxes_of(a, property_file, near)
    given = in_words(model, original, property_file, near, delta, by_class=by_class)
    apart = None if delta is None else real_number(delta, "--delta")
    return Asked(a, load_real(original), boxes, None if given_input is None else given_input.x, apart, where, given)


def answer(asked: Asked, settings: pipeline.Options, *, as_json: bool, witness_file: Path | None, certificate_file: Path | None) -> int:
    """Decide, print, save what is to be saved, and return the exit code; a file that cannot be written does not cost the answer."""
    check_writable(witness_file, ".npy")
    with ProgressLine() as progress:
        found = _every_box(asked, settings, progress)
    refused: UsageError | None = None
    saved: list[Path] = []
    described = _object(asked, found, settings)
    try:
        if certificate_file is not None:
            saved = report.save_certificates(certificate_file, found.certificates)
            described["certificate"] = [str(f) for f in saved] or None
        if found.witness is not None and witness_file is not None:
            _save(witness_file, found)
    except UsageError as error:
        refused, described["not_saved"] = error, str(error)
    emit(json.dumps(described) if as_json else "\n".join(_lines(asked, found, saved, None if refused else witness_file)))
    return settle(EXIT_CODES[found.answer], refused)


def _every_box(asked: Asked, settings: pipeline.Options, progress: ProgressLine) -> Compared:
    """Differs if the two differ on one box, equal if on none, within one limit."""
    started, results = time.monotonic(), []
    for box in asked.boxes:
        left = None if settings.timeout is None else max(settings.timeout - (time.monotonic() - started), 1e-3)
        options = replace(settings, timeout=left)
        made = compare(asked.a, asked.original, box, delta=asked.delta, nominal=asked.nominal, options=options, progress=progress)
        results.append(made)
        if made.answer is Answer.DIFFERS:
            return made
    worst = next((r for r in results if r.answer is Answer.UNKNOWN), results[0])
    certificates = tuple(c for r in results for c in r.certificates)
    return replace(worst, seconds=time.monotonic() - started, certificates=certificates, error=max(r.error for r in results))


def _save(path: Path, found: Compared) -> None:
    import io

    assert found.witness is not None
    buffer = io.BytesIO()
    np.save(buffer, found.witness.file_input)
    write(path, buffer.getvalue())


def _object(asked: Asked, found: Compared, settings: pipeline.Options) -> dict[str, Any]:
    described: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "command": "compare",
        "verdict": str(found.answer),
        "stage": found.stage,
        "reason": found.reason,
        "seconds": round(found.seconds, 6),
        "asked": asked.given,
        "model": {"path": asked.a.provenance.path, "sha256": asked.a.provenance.sha256},
        "semantics": asked.a.semantics,
        "against_model": {"path": asked.original.path, "sha256": asked.original.sha256},
        "against": "real numbers",
        "error": float(found.error),
        "stages": [{"stage": s.stage, "seconds": round(s.seconds, 6), "detail": s.detail} for s in found.stages],
        "checked": None if found.checked is None else asdict(found.checked),
        "certificate": None,
        "witness": None,
        "seed": settings.seed,
    }
    if found.witness is not None:
        replays = [{"runtime": r.runtime, "version": r.version, "agreed": r.agreed} for r in found.witness.replayed_by]
        described["witness"] = {
            "input": report.flat(found.witness.input),
            "file_input": report.array_object(found.witness.file_input),
            "output": report.flat(found.witness.output),
            "class": int(found.witness.output.argmax()),
            "reals": [f"{r.numerator}/{r.denominator}" for r in found.reals],
            "class_over_the_reals": _class(found.reals),
            "replays": replays,
        }
    return described


def _class(reals: Sequence[Fraction]) -> int:
    return max(range(len(reals)), key=lambda i: (reals[i], -i))


def _lines(asked: Asked, found: Compared, saved: Sequence[Path], witness_file: Path | None) -> list[str]:
    lines = [str(found.answer), report.line("asked", f"{found.asked}, for {asked.where}")]
    if found.witness is None:
        lines.append(report.line("because", found.reason))
    lines.append(report.line("stage", f"{found.stage}, {found.seconds:.2f} s"))
    if found.witness is not None:
        y = found.witness.output.ravel().tolist()
        lines.append(report.line("outputs A", f"class {int(found.witness.output.argmax())}: {_shown(map(str, y))}"))
        if asked.delta is not None:
            meaning = meaning_of_output(asked.a)
            real = [Fraction(meaning.scale) * (v - meaning.zero_point) for v in y]
            far = [abs(p - q) for p, q in zip(real, found.reals, strict=True)]
            i = max(range(len(far)), key=far.__getitem__)
            lines.append(report.line("which are", _shown(f"{float(v):.4g}" for v in real)))
            lines.append(report.line("apart", f"output {i}, by {float(far[i]):.6g}"))
        lines.append(report.line("over reals", f"class {_class(found.reals)}: {_shown(f'{float(v):.6g}' for v in found.reals)}"))
        lines.append(report.line("replayed A", "; ".join(["interpreter", *map(str, found.witness.replayed_by)])))
        if witness_file is not None:
            lines.append(report.line("saved", str(witness_file)))
    if found.checked is not None:
        lines += [report.line(*pair) for pair in report.about_check(found.checked)]
    lines += [report.line("saved", str(file)) for file in saved]
    lines.append(report.line("A", f"{asked.a.semantics} ({', '.join(asked.a.requantisations()) or 'no requantisation'})"))
    lines.append(report.line("B", "real numbers: float32 weights as the rationals that they are, sums without rounding"))
    error = f"integers stand for B that are within {float(found.error):.3g} of it (proved); the verdict allows for that"
    lines.append(report.line("about", error))
    for name, path, digest in (
        ("A", asked.a.provenance.path, asked.a.provenance.sha256),
        ("B", asked.original.path, asked.original.sha256),
    ):
        lines.append(report.line(f"model {name}", f"{Path(path).name}, sha256 {digest[:16]}"))
    return lines


def _shown(values: Any) -> str:
    listed = list(values)
    return " ".join(listed[:_SHOWN]) + (f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else "")
