"""Replaying the witness of a verdict from its file; the file is a claim, and everything in it is checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bvverify.cli import report
from bvverify.cli.claim import Claim, is_integer
from bvverify.cli.output import SCHEMA_VERSION, emit
from bvverify.errors import InputError
from bvverify.ilp.reading import Reading
from bvverify.model.network import Network
from bvverify.model.query import Linear, Property, Query
from bvverify.model.result import Witness
from bvverify.model.types import Int64Array, frozen_array
from bvverify.run import interpreter, replay

if TYPE_CHECKING:
    from bvverify.ilp.differ import Difference


def replay_claim(claim: Claim, model: Path | None, reading: Reading | None = None, *, as_json: bool) -> int:
    """Replay the witness of a property, print the outcome, and return the exit code."""
    network = claim.network(model)
    query, x = replayed(claim, network)
    witness = replay.witness(query, x)
    difference = None if reading is None else _inside(query, reading, x)
    if as_json:
        emit(
            json.dumps(
                _as_object(network, query, witness) | ({} if difference is None else {"ilp": _difference_object(difference, reading)})
            )
        )
    else:
        lines = _as_lines(claim.path, network, query, witness)
        emit("\n".join(lines if difference is None else [*lines, f"  {f'ilp:{reading}':<10} {difference}"]))
    return 10


def replayed(claim: Claim, network: Network) -> tuple[Query, Int64Array]:
    """The question and the input, which the interpreter has run again: it lies in the box and violates the property."""
    box, x = claim.input(network)
    nominal, shape = claim.witness.get("nominal"), network.input.tensor.shape
    around = None if nominal is None else claim.integers(nominal, "witness.nominal", network.input.tensor.size).reshape(shape)
    query = Query(network, box, _property(claim, network), around)
    y = claim.integers(claim.witness.get("output"), "witness.output", network.output_tensor.size)
    if not replay.violates(query, x[None])[0]:
        raise InputError(f"{claim.path}: no witness: the outputs that the interpreter computes do not violate the property")
    if not np.array_equal(interpreter.run(network, x[None]).ravel(), y):
        raise InputError(f"{claim.path}: the recorded outputs are not what the interpreter computes for the recorded input")
    return query, x


def _property(claim: Claim, network: Network) -> Property:
    """The recorded violation, with the recorded text."""
    inputs, outputs = network.input.tensor.size, network.output_tensor.size
    recorded = claim.mapping(claim.data.get("property"), "property")
    text, sha256, label = recorded.get("text"), recorded.get("sha256"), claim.witness.get("label")
    if not isinstance(text, str) or not isinstance(sha256, str) or not (label is None or is_integer(label)):
        raise InputError(f"{claim.path}: property.text, property.sha256 or witness.label is not what it should be")
    rows = []
    for conjunction in claim.sequence(claim.witness.get("violation"), "witness.violation"):
        row = []
        for item in claim.sequence(conjunction, "witness.violation"):
            fields = claim.mapping(item, "witness.violation")
            given = fields.get("inputs")
            row.append(
                Linear(
                    frozen_array(claim.integers(fields.get("outputs"), "witness.violation.outputs", outputs), np.int64),
                    int(claim.integers([fields.get("bound")], "witness.violation.bound", 1)[0]),
                    None if given is None else frozen_array(claim.integers(given, "witness.violation.inputs", inputs), np.int64),
                )
            )
        rows.append(tuple(row))
    return Property(tuple(rows), text, label, sha256)


def _inside(query: Query, reading: Reading, x: Int64Array) -> Difference:
    from bvverify.ilp import differ, program

    return differ.excluded(program.build(query, reading), x)


def _difference_object(difference: Difference, reading: Reading | None) -> dict[str, Any]:
    """``excess`` is the exact violation of ``row`` as a fraction; the row is empty where the witness meets all of them."""
    return {
        "reading": reading,
        "blame": difference.blame,
        "node": difference.op,
        "tensor": difference.layer,
        "index": difference.index,
        "row": difference.row,
        "excess": str(difference.excess),
        "text": difference.text,
    }


def _as_lines(path: Path, network: Network, query: Query, witness: Witness) -> list[str]:
    answers = [str(r) for r in witness.replayed_by] or [replay.no_runtime(network)]
    return [
        "falsified",
        f"  {'asked':<10} {query.property.text}",
        f"  {'witness':<10} {path}: class {int(witness.output.argmax())}{report.distance(query, witness)}",
        f"  {'outputs':<10} {' '.join(map(str, report.flat(witness.output)))}",
        f"  {'replayed':<10} {'; '.join(['interpreter agrees', *answers])}",
        f"  {'semantics':<10} {network.semantics}",
        f"  {'model':<10} {Path(network.provenance.path).name}, sha256 {network.provenance.sha256[:16]}",
    ]


def _as_object(network: Network, query: Query, witness: Witness) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "replay",
        "verdict": "falsified",
        "model": {"path": network.provenance.path, "format": network.provenance.format, "sha256": network.provenance.sha256},
        "semantics": network.semantics,
        "property": {"text": query.property.text, "sha256": query.property.sha256},
        "witness": report.witness_object(network, query, witness),
    }
