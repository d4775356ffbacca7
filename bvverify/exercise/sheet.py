"""A sheet for a class and its key, as Markdown or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bvverify.exercise.question import Exercise

SCHEMA_VERSION = 1
"""Of the JSON form: ``{"schema_version", "questions": [{"number", "kind", "seed", ...}]}``."""


def sheet(exercises: Sequence[Exercise], *, markdown: bool) -> str:
    """The questions without their answers."""
    if not markdown:
        return _json([_named(i, e) | {"question": "\n".join(e.question.text())} for i, e in enumerate(exercises, 1)])
    parts = ["# Exercises"]
    for i, e in enumerate(exercises, 1):
        parts += ["", f"## {i}", "", *e.question.text(), "", f"Check with `{e.command} --answer ...`"]
    return "\n".join(parts) + "\n"


def key(exercises: Sequence[Exercise], *, markdown: bool) -> str:
    """The answers, each with its computation."""
    if not markdown:
        return _json([_named(i, e) | {"answer": e.question.key(), "solution": e.question.solution()} for i, e in enumerate(exercises, 1)])
    parts = ["# Key", "", "Where an input is asked for, others may be right as well; the command beside it decides."]
    for i, e in enumerate(exercises, 1):
        parts += ["", f"## {i}: {e.question.key()}", "", *(f"- {line}" for line in e.question.solution()), "", f"`{e.command}`"]
    return "\n".join(parts) + "\n"


def _named(number: int, e: Exercise) -> dict[str, object]:
    return {"number": number, "kind": e.kind, "seed": e.seed}


def _json(questions: list[dict[str, object]]) -> str:
    return json.dumps({"schema_version": SCHEMA_VERSION, "questions": questions}, indent=1) + "\n"
