"""What ``bvverify exercise`` prints and writes."""

from __future__ import annotations

import json
from pathlib import Path

from bvverify.cli.output import SCHEMA_VERSION, check_writable, emit, write
from bvverify.exercise import sheet as sheets
from bvverify.exercise.question import Exercise, exercise


def one(kind: str | None, seed: int, answer: str | None, *, solution: bool, as_json: bool) -> bool:
    """Print a question, what an answer to it is worth, or its solution; whether nothing was wrong."""
    asked = exercise(seed, kind)
    right = None if answer is None else asked.question.accepts(answer)
    emit(_object(asked, answer, right, solution=solution) if as_json else _text(asked, right, solution=solution))
    return right is not False


def write_sheet(kind: str | None, seed: int, count: int, sheet: Path | None, key: Path | None, *, as_json: bool) -> None:
    """Write the questions of ``count`` seeds, their answers, or both."""
    exercises = [exercise(seed + i, kind) for i in range(count)]
    for path in (sheet, key):
        check_writable(path, ".md", ".json")
    if sheet is not None:
        write(sheet, sheets.sheet(exercises, markdown=sheet.suffix == ".md"))
    if key is not None:
        write(key, sheets.key(exercises, markdown=key.suffix == ".md"))
    written = {name: str(path) for name, path in (("sheet", sheet), ("key", key)) if path is not None}
    if as_json:
        emit(json.dumps({"schema_version": SCHEMA_VERSION, "command": "exercise", "seed": seed, "count": count} | written))
    else:
        emit("\n".join(f"{name:<6} {path}" for name, path in written.items()))


def _text(asked: Exercise, right: bool | None, *, solution: bool) -> str:
    if solution:
        return "\n".join([f"answer: {asked.question.key()}", *(f"  {line}" for line in asked.question.solution())])
    if right is None:
        return "\n".join([*asked.question.text(), "", f"{asked.command} --answer ..."])
    return "right" if right else f"wrong\n  try again, or see {asked.command} --solution"


def _object(asked: Exercise, answer: str | None, right: bool | None, *, solution: bool) -> str:
    report: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "command": "exercise",
        "kind": asked.kind,
        "seed": asked.seed,
        "question": "\n".join(asked.question.text()),
    }
    if right is not None:
        report |= {"answer": answer, "right": right}
    if solution:
        report |= {"key": asked.question.key(), "solution": asked.question.solution()}
    return json.dumps(report)
