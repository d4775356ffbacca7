"""A saved result explained: the question asked again from the words that the file has, and the facts as sentences or as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.cli import draw, question
from bvverify.cli.output import SCHEMA_VERSION, emit
from bvverify.cli.trace_text import index
from bvverify.errors import InputError
from bvverify.explain import sentences
from bvverify.explain.answer import Change, Explanation, Margin, explain
from bvverify.explain.calculation import as_object
from bvverify.explain.saved import Saved, read
from bvverify.load import certificate_file
from bvverify.model.certificate import Certificate, Statement
from bvverify.model.network import Network
from bvverify.model.query import Query

_CHANGES = 12
"""Changed input elements that are listed one by one."""
_PICTURE = 28
"""Columns of an image whose changes are drawn instead."""


def explain_file(spec: str, model: Path | None, *, as_json: bool) -> int:
    """Explain the result in a file, print, and return the exit code."""
    saved = read(spec)
    asked = question.ask(
        model or _found(saved, saved.model),
        None if saved.property is None else _found(saved, saved.property),
        None if saved.input is None or saved.property is not None else _input(saved, saved.input),
        None if saved.property is not None or saved.epsilon is not None else saved.radius,
        saved.epsilon,
        saved.label,
        saved.semantics,
        None if saved.property is not None else saved.clip,
    )
    made = asked.network.provenance
    if saved.sha256 and made.sha256 != saved.sha256:
        raise InputError(f"{saved.file}: is about another model: sha256 {saved.sha256[:16]}, and {made.path} has {made.sha256[:16]}")
    if not asked.queries:
        raise InputError(f"{saved.file}: every box of {saved.property} is empty, so there is nothing to explain")
    certificates = [_certificate(saved, name, asked.queries) for name in saved.certificates]
    facts = explain(saved, asked.network, asked.queries, certificates)
    emit(json.dumps(_object(saved, asked.network, facts)) if as_json else "\n".join(_lines(saved, asked.network, facts)))
    return 0


def _found(saved: Saved, name: str) -> Path:
    """A file as the result names it: from here, else from the folder that the result lies in (batch: where its CSV may lie)."""
    path = Path(name)
    beside = saved.file.parent / path
    return beside if not path.exists() and beside.exists() else path


def _input(saved: Saved, name: str) -> str:
    file, separator, index = name.rpartition("::")
    return f"{_found(saved, file)}::{index}" if separator else str(_found(saved, name))


def _certificate(saved: Saved, name: str, queries: Sequence[Query]) -> Certificate:
    path = _found(saved, name)
    certificate = certificate_file.read(path)
    differences = [certificate.statement.differs(Statement.of(query)) for query in queries]
    if all(differences):
        raise InputError(f"{path}: is no certificate for the question of {saved.file}: it is about {differences[0]}")
    try:
        certificate.forest.check(queries[0].network)
    except ValueError as error:
        raise InputError(f"{path}: damaged: {error}") from None
    return certificate


def _lines(saved: Saved, network: Network, facts: Explanation) -> list[str]:
    lines = [f"{saved.verdict}: {facts.asked}"]
    lines += _paragraph("The question", sentences.question(saved, facts))
    lines += _paragraph("Who decided", [*sentences.decided(saved), *_costs(saved)])
    if saved.verdict == "unknown":
        lines += _paragraph("What is open", sentences.left_open(saved, facts))
        lines += _paragraph("What may help", sentences.advice(saved))
    if facts.changes is not None:
        lines += _paragraph("The witness", [*sentences.changed(facts), *(f"  {line}" for line in _changes(network, facts.changes))])
    lines += _paragraph("The outputs", [sentences.outputs(facts), *_margins(facts)])
    lines += _paragraph("The neurons, on the whole box", _layers(facts))
    lines += _paragraph("The tree", sentences.tree(saved, facts, network))
    return lines + _paragraph("What is checked, and what is trusted", sentences.trust(saved, network))


def _paragraph(title: str, lines: Sequence[str]) -> list[str]:
    return ["", title, *(f"  {line}" for line in lines)] if lines else []


def _costs(saved: Saved) -> list[str]:
    width = max((len(c.stage) for c in saved.costs), default=0)
    return [f"  {c.stage:<{width}}  {c.seconds:8.3f} s{'  ' + c.detail if c.detail else ''}" for c in saved.costs]


def _changes(network: Network, changes: Sequence[Change]) -> list[str]:
    """A small grey image as a picture of what is added to each pixel, anything else as a list of the largest changes."""
    shape = network.input.tensor.shape
    if changes and len(shape) == 3 and shape[0] == 1 and shape[2] <= _PICTURE:
        moved = np.zeros(shape, np.int64)
        for c in changes:
            moved[c.element] = c.after - c.before
        return [line.rstrip() for line in draw.signed(moved[0])]
    largest = sorted(changes, key=lambda c: -abs(c.after - c.before))[:_CHANGES]
    lines = [f"{index(c.element)}: {c.before} to {c.after} ({c.after - c.before:+d})" for c in largest]
    return lines + ([f"and {len(changes) - _CHANGES} more"] if len(changes) > _CHANGES else [])


def _margins(facts: Explanation) -> list[str]:
    rows = [["output", "clean", "margin", "least", "largest", "least margin", "witness", "margin"]]
    rows += [_row(m) for m in facts.margins]
    shown = [i for i in range(8) if any(row[i] for row in rows[1:])]
    widths = [max(len(row[i]) for row in rows) for i in range(8)]
    return ["  " + "  ".join(f"{row[i]:>{widths[i]}}" for i in shown).rstrip() for row in rows]


def _row(m: Margin) -> list[str]:
    cells = (m.output, m.clean, m.clean_margin, m.least, m.largest, m.least_margin, m.witness, m.witness_margin)
    return ["" if v is None else str(v) for v in cells]


def _layers(facts: Explanation) -> list[str]:
    width = max((len(layer.tensor) for layer in facts.layers), default=0)
    return [
        f"{layer.layer:>2}  {layer.tensor:<{width}}  {layer.neurons} neurons: {layer.constant} constant ({layer.saturated} saturated),"
        f" {layer.linear} linear, {layer.undecided} undecided"
        for layer in facts.layers
    ]


def _object(saved: Saved, network: Network, facts: Explanation) -> dict[str, Any]:
    made = network.provenance
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "explain",
        "verdict": saved.verdict,
        "model": {"path": made.path, "format": made.format, "sha256": made.sha256},
        "semantics": saved.semantics,
        "stage": saved.stage,
        "reason": saved.reason,
        "seconds": saved.seconds,
        "costs": [asdict(c) for c in saved.costs],
        "nodes": saved.nodes,
        "open": None if saved.open is None else asdict(saved.open),
        "checked": None if saved.checked is None else asdict(saved.checked),
        "replays": None if saved.replays is None else [asdict(r) for r in saved.replays],
        "facts": as_object(facts)
        | {
            "tree": None
            if facts.tree is None
            else as_object(facts.tree)
            | {"leaves": dict(facts.tree.leaves), "split_layers": {str(k): v for k, v in facts.tree.split_layers}}
        },
        "sentences": {
            "question": sentences.question(saved, facts),
            "decided": sentences.decided(saved),
            "open": sentences.left_open(saved, facts),
            "advice": sentences.advice(saved),
            "tree": sentences.tree(saved, facts, network),
            "trust": sentences.trust(saved, network),
        },
    }
