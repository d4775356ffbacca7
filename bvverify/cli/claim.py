"""A JSON file that bvverify wrote, read back: a claim, of which nothing is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.cli.output import SCHEMA_VERSION
from bvverify.errors import InputError
from bvverify.load.certificate_file import read_other
from bvverify.load.load import load
from bvverify.model.network import Network
from bvverify.model.query import Box
from bvverify.model.types import Int64Array

_COEFFICIENT = (1 << 31) - 1
"""What ``Linear`` promises of its coefficients and bounds."""


class Claim:
    """The contents of a result file, as ``command`` takes it; every reader raises ``InputError`` with the field that is wrong."""

    def __init__(self, path: Path, command: str) -> None:
        self.path = path
        content = read_other(path)
        try:
            data = json.loads(content)
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

    @property
    def of_comparison(self) -> bool:
        """Whether ``bvverify compare`` wrote it: an input under two readings, not an answer to a property."""
        return self.data.get("command") == "compare"

    def network(self, model: Path | None, reading: str = "semantics", which: str = "model") -> Network:
        """The model of field ``which``, from ``model`` or from where it was, with the recorded hash; ``reading`` has its semantics."""
        recorded = self.mapping(self.data.get(which), which)
        where, sha256, semantics = recorded.get("path"), recorded.get("sha256"), self.data.get(reading)
        if not isinstance(where, str) or not isinstance(sha256, str) or not isinstance(semantics, str):
            raise InputError(f"{self.path}: {which}.path, {which}.sha256 and {reading} are missing or no text")
        network = load(model or Path(where), semantics)
        if network.provenance.sha256 != sha256:
            raise InputError(
                f"{self.path}: is about another model: it names sha256 {sha256[:16]}, "
                f"{network.provenance.path} has {network.provenance.sha256[:16]}"
            )
        return network

    def input(self, network: Network) -> tuple[Box, Int64Array]:
        """The recorded box and the input (the tensor's shape) that is said to lie in it; ``InputError`` where it does not."""
        tensor = network.input.tensor
        sides = self.mapping(self.witness.get("box"), "witness.box")
        lo, hi = (self.integers(sides.get(side), f"witness.box.{side}", tensor.size).reshape(tensor.shape) for side in ("lo", "hi"))
        if (lo > hi).any() or lo.min() < tensor.qtype.lo or hi.max() > tensor.qtype.hi:
            raise InputError(f"{self.path}: witness.box is empty or leaves {tensor.qtype}")
        x = self.integers(self.witness.get("input"), "witness.input", tensor.size).reshape(tensor.shape)
        outside = ((x < lo) | (x > hi)).ravel()
        if outside.any():
            raise InputError(f"{self.path}: no witness: the input leaves the box at element {int(outside.argmax())}")
        return Box.of(lo, hi), x

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
        if not all(is_integer(v) and abs(v) <= _COEFFICIENT for v in items):
            raise InputError(f"{self.path}: {name} holds something that is no integer below 2^31")
        return np.array(items, np.int64)


def is_integer(value: Any) -> bool:
    """Whether a JSON value is an integer (which JSON's ``true`` is not)."""
    return isinstance(value, int) and not isinstance(value, bool)
