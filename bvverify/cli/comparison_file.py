"""Replaying what parted two readings, from the file that ``bvverify compare`` wrote; everything in it is checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from bvverify.cli import compare_report
from bvverify.cli.claim import Claim
from bvverify.cli.output import SCHEMA_VERSION, emit
from bvverify.compare.compare import both, differ
from bvverify.compare.joint import aligned, round_apart
from bvverify.compare.parting import part
from bvverify.errors import InputError
from bvverify.run import interpreter


def replay_claim(claim: Claim, model: Path | None, *, as_json: bool) -> int:
    """Replay one input under both readings, print the outcome, and return the exit code."""
    path, asked = claim.path, claim.mapping(claim.data.get("asked"), "asked")
    by_class = asked.get("class")
    if asked.get("layer") is not None:
        raise InputError(f"{path}: a witness of compare --layer is what one layer reads, not an input that the model could be run on")
    if not isinstance(by_class, bool):
        raise InputError(f"{path}: asked.class is neither true nor false")
    a, b = claim.network(model), claim.network(model, "against")
    theirs = aligned(a, b)
    box, x = claim.input(a)
    what = "class" if by_class else "outputs"
    if not differ(a, theirs, x, by_class=by_class):
        raise InputError(f"{path}: no witness: the interpreter computes the same {what} under {a.semantics} and {b.semantics}")
    for name, network in (("a", a), ("b", theirs)):
        recorded = claim.mapping(claim.witness.get(name), f"witness.{name}").get("output")
        y = claim.integers(recorded, f"witness.{name}.output", network.output_tensor.size)
        if not np.array_equal(interpreter.run(network, x[None]).ravel(), y):
            raise InputError(f"{path}: witness.{name}.output is not what the interpreter computes for the recorded input")
    witnesses, parting = both(a, theirs, x, by_class=by_class), part(a, theirs, x)
    question = compare_report.Asked(a, b, (box,), None, by_class, None, f"the input of {path}", asked)
    if as_json:
        made = a.provenance
        answer = {
            "schema_version": SCHEMA_VERSION,
            "command": "replay",
            "verdict": "differs",
            "model": {"path": made.path, "format": made.format, "sha256": made.sha256},
            "semantics": a.semantics,
            "against": b.semantics,
            "quantised_apart": round_apart(a, b),
            "parting": None if parting is None else compare_report.parting_object(parting),
            "witness": compare_report.witness_object(question, witnesses),
        }
        emit(json.dumps(answer))
    else:
        asked_line = f"  {'asked':<10} the {what} of {path}'s input, under A and B"
        emit("\n".join(["differs", asked_line, *compare_report.witness_lines(witnesses, parting), *compare_report.about(question)]))
    return 10
