"""The work behind ``bvverify radius``: ask, search with a live line, print the two radii and what each of them rests on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bvverify import pipeline, radii
from bvverify.cli import report
from bvverify.cli.output import emit, settle
from bvverify.cli.progress import ProgressLine
from bvverify.cli.question import Question, check_class, read_input
from bvverify.errors import UsageError
from bvverify.load.load import load

FOUND, VIOLATED, OPEN = "found", "falsified", "unknown"
EXIT_CODES = {FOUND: 0, VIOLATED: 10, OPEN: 5}


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What is asked, and in the user's own words (``given`` is echoed in JSON)."""

    around: radii.Around
    maximum: int | None
    given: dict[str, Any]


def ask(model: Path, source: str, label: int | None, target: int | None, maximum: int | None, semantics: str | None) -> Asked:
    """What the arguments ask."""
    if label is not None and target is not None:
        raise UsageError("--label and --targeted ask two questions: give one of them")
    if maximum is not None and maximum < 0:
        raise UsageError(f"--max {maximum}: a radius is 0 or more")
    network = load(model, semantics)
    check_class(network, "--label", label)
    check_class(network, "--targeted", target)
    x = read_input(network, source).x
    given = {"model": str(model), "input": source, "label": label, "targeted": target, "max": maximum}
    return Asked(radii.Around.of(network, x, label, target), maximum, given)


def answer(asked: Asked, settings: pipeline.Options, *, as_json: bool, witness_file: Path | None, certificate_file: Path | None) -> int:
    """Find both radii, print them, save the witness and the certificate, and return the exit code."""
    stop: radii.Interrupted | None = None
    try:
        with ProgressLine() as progress:
            ends = radii.find(asked.around, asked.maximum, settings, progress)
    except radii.Interrupted as interrupted:
        stop, ends = interrupted, interrupted.ends
    saved: list[Path] = []
    refused: UsageError | None = None
    described = _object(asked, ends) | {"certificate": None}
    try:
        if certificate_file is not None and ends.holds is not None:
            saved = report.save_certificates(certificate_file, ends.holds.certificates)
            described["certificate"] = [str(f) for f in saved] or None
        if ends.fails is not None and ends.fails.witness is not None and witness_file is not None:
            report.save_witness(witness_file, ends.fails.witness, described)
    except UsageError as error:
        refused, witness_file = error, None
        described["not_saved"] = str(error)
    emit(json.dumps(described) if as_json else "\n".join(_lines(asked, ends, witness_file, saved)))
    code = settle(EXIT_CODES[verdict(ends)], refused)
    if stop is not None:
        raise stop
    return code


def verdict(ends: radii.Ends) -> str:
    """``FOUND``, ``VIOLATED`` by the clean input itself, or ``OPEN``."""
    if ends.verified is None:
        return VIOLATED
    return FOUND if ends.settled else OPEN


def summary(ends: radii.Ends) -> str:
    """Both radii in one line."""
    if ends.verified is None:
        return "no radius: the clean input itself violates"
    if ends.falsified is not None:
        return f"largest radius {ends.verified}" + ("" if ends.settled else f" or more, below {ends.falsified}")
    if not ends.settled:
        return f"largest radius {ends.verified} or more; no witness is known"
    return f"largest radius {ends.verified}, " + ("for every input there is" if ends.everywhere else "or more: as far as was asked")


def _question(asked: Asked, ends: radii.Ends) -> Question:
    """Both ends as the reports of single questions take them."""
    radii = [r for r in (ends.verified, ends.falsified) if r is not None]
    return Question(asked.around.network, tuple(asked.around.query(r) for r in radii), asked.given)


def _lines(asked: Asked, ends: radii.Ends, witness_file: Path | None, saved: list[Path]) -> list[str]:
    question, network, line = _question(asked, ends), asked.around.network, report.line
    lines = [summary(ends), line("asked", f"{asked.around.asked.text}, around {asked.given['input']}")]
    if ends.holds is not None:
        lines.append(line("verified", f"radius {ends.verified}: {ends.holds.reason}"))
        lines += [line(*pair) for pair in report.about_check(ends.holds.checked)]
        lines += [line("saved", str(file)) for file in saved]
    if ends.fails is not None and ends.fails.witness is not None:
        (_, first), *others = report.about_witness(question, ends.fails, ends.fails.witness)
        lines += [line("falsified", f"radius {ends.falsified}: {first}"), *(line(*pair) for pair in others)]
        lines += [line("saved", str(witness_file))] if witness_file is not None else []
    if ends.reason:
        lines.append(line("because", ends.reason))
    lines.append(line("time", f"{ends.seconds:.2f} s, {len(ends.asked)} questions"))
    lines.append(line("semantics", f"{network.semantics} ({', '.join(network.requantisations()) or 'no requantisation'})"))
    pairs = report.about_pairs(question)
    lines += [line("pairs", pairs)] if pairs else []
    if network.output.stripped is not None:
        lines.append(line("outputs of", f"what the final {network.output.stripped} reads: the answer is about the logits"))
    return [*lines, line("model", f"{Path(network.provenance.path).name}, sha256 {network.provenance.sha256[:16]}")]


def _object(asked: Asked, ends: radii.Ends) -> dict[str, Any]:
    """Both radii as JSON data; the fields of single questions mean what they mean there, so that ``replay`` reads it."""
    last = ends.fails if ends.fails is not None else ends.holds
    assert last is not None
    described = report.as_object("radius", _question(asked, ends), last)
    del described["stage"], described["stages"]
    return described | {
        "verdict": verdict(ends),
        "verified": ends.verified,
        "falsified": ends.falsified,
        "maximum": ends.maximum,
        "everywhere": ends.everywhere,
        "reason": ends.reason,
        "seconds": round(ends.seconds, 6),
        "checked": None if ends.holds is None else report.checked_object(ends.holds),
        "nodes": sum(q.nodes for q in ends.asked),
        "questions": [
            {"radius": q.radius, "verdict": str(q.verdict), "stage": q.stage, "seconds": round(q.seconds, 6), "nodes": q.nodes}
            for q in ends.asked
        ],
    }
