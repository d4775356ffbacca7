"""Reading a saved witness back and replaying it; the file is a claim, and everything in it is checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.cli import report
from bvverify.cli.output import SCHEMA_VERSION, emit
from bvverify.errors import InputError
from bvverify.load.load import load
from bvverify.model.network import Network
from bvverify.model.query import Box, Linear, Property, Query
from bvverify.model.result import Witness
from bvverify.model.types import Int64Array, frozen_array
from bvverify.run import interpreter, replay

_COEFFICIENT = (1 << 31) - 1
"""What ``Linear`` promises of its coefficients and bounds."""


def replay_file(path: Path, model: Path | None, *, as_json: bool) -> int:
    """Replay the witness of a JSON file, print the outcome, and return the exit code."""
    claim = Claim(path, "replay")
    network = claim.network(model)
    query, x = claim.replayed(network)
    witness = replay.witness(query, x)
    if as_json:
        emit(json.dumps(_as_object(network, query, witness)))
    else:
        emit("\n".join(_as_lines(path, network, query, witness)))
    return 10


class Claim:
    """The contents of a result file, as ``command`` takes it; every reader raises ``InputError`` with the field that is wrong."""

    def __init__(self, path: Path, command: str) -> None:
        self.path = path
        try:
            data = json.loads(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}: is no JSON file ({error}); {command} takes what --json printed or --witness FILE.json saved"
            ) from error
        self.data = self.mapping(data, "the file")
        if self.data.get("schema_version") != SCHEMA_VERSION:
            raise InputError(f"{path}: schema_version is {self.data.get('schema_version')!r}; this bvverify reads {SCHEMA_VERSION}")

    @property
    def witness(self) -> dict[str, Any]:
        """The recorded witness."""
        if self.data.get("witness") is None:
            raise InputError(f"{self.path}: holds no witness (its verdict is {self.data.get('verdict')!r})")
        return self.mapping(self.data["witness"], "witness")

    def network(self, model: Path | None) -> Network:
        """The model, from ``model`` or from where it was, under the recorded semantics and with the recorded hash."""
        recorded = self.mapping(self.data.get("model"), "model")
        where, sha256, semantics = recorded.get("path"), recorded.get("sha256"), self.data.get("semantics")
        if not isinstance(where, str) or not isinstance(sha256, str) or not isinstance(semantics, str):
            raise InputError(f"{self.path}: model.path, model.sha256 and semantics are missing or no text")
        network = load(model or Path(where), semantics)
        if network.provenance.sha256 != sha256:
            raise InputError(
                f"{self.path}: is about another model: it names sha256 {sha256[:16]}, "
                f"{network.provenance.path} has {network.provenance.sha256[:16]}"
            )
        return network

    def query(self, network: Network) -> tuple[Query, Int64Array, Int64Array]:
        """The question, the input (the tensor's shape) and the recorded outputs (flat)."""
        shape, inputs, outputs = network.input.tensor.shape, network.input.tensor.size, network.output_tensor.size
        sides = self.mapping(self.witness.get("box"), "witness.box")
        lo, hi = (self.integers(sides.get(side), f"witness.box.{side}", inputs).reshape(shape) for side in ("lo", "hi"))
        qtype = network.input.tensor.qtype
        if (lo > hi).any() or lo.min() < qtype.lo or hi.max() > qtype.hi:
            raise InputError(f"{self.path}: witness.box is empty or leaves {qtype}")
        prop = self.property(inputs, outputs)
        nominal = self.witness.get("nominal")
        around = None if nominal is None else self.integers(nominal, "witness.nominal", inputs).reshape(shape)
        x = self.integers(self.witness.get("input"), "witness.input", inputs).reshape(shape)
        y = self.integers(self.witness.get("output"), "witness.output", outputs)
        return Query(network, Box.of(lo, hi), prop, around), x, y

    def replayed(self, network: Network) -> tuple[Query, Int64Array]:
        """The question and the input, which the interpreter has run again: it lies in the box and violates the property."""
        query, x, y = self.query(network)
        if not query.box.contains(x):
            raise InputError(f"{self.path}: no witness: the input leaves the box at element {self.outside(query, x)}")
        if not replay.violates(query, x[None])[0]:
            raise InputError(f"{self.path}: no witness: the outputs that the interpreter computes do not violate the property")
        if y.shape != (network.output_tensor.size,) or not np.array_equal(interpreter.run(network, x[None]).ravel(), y):
            raise InputError(f"{self.path}: the recorded outputs are not what the interpreter computes for the recorded input")
        return query, x

    def property(self, inputs: int, outputs: int) -> Property:
        """The recorded violation, with the recorded text."""
        recorded = self.mapping(self.data.get("property"), "property")
        text, sha256, label = recorded.get("text"), recorded.get("sha256"), self.witness.get("label")
        if not isinstance(text, str) or not isinstance(sha256, str) or not (label is None or _is_integer(label)):
            raise InputError(f"{self.path}: property.text, property.sha256 or witness.label is not what it should be")
        rows = []
        for conjunction in self.sequence(self.witness.get("violation"), "witness.violation"):
            row = []
            for item in self.sequence(conjunction, "witness.violation"):
                fields = self.mapping(item, "witness.violation")
                given = fields.get("inputs")
                row.append(
                    Linear(
                        frozen_array(self.integers(fields.get("outputs"), "witness.violation.outputs", outputs), np.int64),
                        int(self.integers([fields.get("bound")], "witness.violation.bound", 1)[0]),
                        None if given is None else frozen_array(self.integers(given, "witness.violation.inputs", inputs), np.int64),
                    )
                )
            rows.append(tuple(row))
        return Property(tuple(rows), text, label, sha256)

    def outside(self, query: Query, x: Int64Array) -> int:
        """The first flat index at which ``x`` leaves the box."""
        return int(((x < query.box.lo) | (x > query.box.hi)).ravel().argmax())

    def mapping(self, value: Any, name: str) -> dict[str, Any]:
        """``value`` as a JSON object."""
        if not isinstance(value, dict):
            raise InputError(f"{self.path}: {name} is missing or no JSON object")
        return value

    def sequence(self, value: Any, name: str) -> list[Any]:
        """``value`` as a JSON array."""
        if not isinstance(value, list):
            raise InputError(f"{self.path}: {name} is missing or no JSON array")
        return value

    def integers(self, value: Any, name: str, size: int) -> Int64Array:
        """``value`` as ``size`` integers, each below 2^31 in magnitude."""
        items = self.sequence(value, name)
        if len(items) != size:
            raise InputError(f"{self.path}: {name} has {len(items)} values, the model needs {size}")
        if not all(_is_integer(v) and abs(v) <= _COEFFICIENT for v in items):
            raise InputError(f"{self.path}: {name} holds something that is no integer below 2^31")
        return np.array(items, np.int64)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


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
