"""Replaying what parted two readings, from the file that ``bvverify compare`` wrote; everything in it is checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from bvverify.cli import compare_report
from bvverify.cli.claim import Claim
from bvverify.cli.compare_question import Asked
from bvverify.cli.output import SCHEMA_VERSION, emit
from bvverify.cli.question import real_number
from bvverify.compare.align import align
from bvverify.compare.asked import EXACTLY, names
from bvverify.compare.compare import both, differ
from bvverify.compare.parting import part
from bvverify.errors import InputError, UsageError
from bvverify.run import interpreter


def replay_claim(claim: Claim, model: Path | None, against_model: Path | None, *, as_json: bool) -> int:
    """Replay one input under both readings, print the outcome, and return the exit code."""
    path, asked = claim.path, claim.mapping(claim.data.get("asked"), "asked")
    by_class = asked.get("class")
    if asked.get("layer") is not None:
        raise InputError(f"{path}: a witness of compare --layer is what one layer reads, not an input that the model could be run on")
    if not isinstance(by_class, bool):
        raise InputError(f"{path}: asked.class is neither true nor false")
    delta = asked.get("delta")
    if delta is not None and not isinstance(delta, str):
        raise InputError(f"{path}: asked.delta is no text")
    apart = EXACTLY if delta is None else real_number(delta, "asked.delta")
    two = claim.data.get("against_model") is not None
    if against_model is not None and not two:
        raise UsageError(f"--against-model: {path} is about two readings of one model")
    a, b = claim.network(model), claim.network(against_model if two else model, "against", "against_model" if two else "model")
    ours, theirs = align(a, b)
    box, x = claim.input(ours)
    what = "class" if by_class else "outputs"
    if not differ(ours, theirs, x, by_class=by_class, delta=apart):
        raise InputError(f"{path}: no witness: the interpreter computes the same {what} under {' and '.join(names(a, b))}")
    for name, network in (("a", ours), ("b", theirs)):
        recorded = claim.mapping(claim.witness.get(name), f"witness.{name}").get("output")
        y = claim.integers(recorded, f"witness.{name}.output", network.output_tensor.size)
        if not np.array_equal(interpreter.run(network, x[None]).ravel(), y):
            raise InputError(f"{path}: witness.{name}.output is not what the interpreter computes for the recorded input")
    witnesses, parting = both(ours, theirs, x, by_class=by_class, delta=apart), part(ours, theirs, x)
    question = Asked(a, b, ours, (box,), None, by_class, apart, None, f"the input of {path}", asked)
    if as_json:
        answer = {
            "schema_version": SCHEMA_VERSION,
            "command": "replay",
            "verdict": "differs",
            **compare_report.models_object(a, b),
            "parting": None if parting is None else compare_report.parting_object(parting),
            "witness": compare_report.witness_object(question, witnesses),
        }
        emit(json.dumps(answer))
    else:
        lines = compare_report.witness_lines(question, witnesses, parting) + compare_report.about(question)
        emit("\n".join(["differs", f"  {'asked':<10} the {what} of {path}'s input, under A and B", *lines]))
    return 10
