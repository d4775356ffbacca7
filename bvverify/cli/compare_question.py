"""The question of ``bvverify compare`` from its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.cli.question import Near, load_against, read_input, real_number
from bvverify.compare.align import align, two_files
from bvverify.compare.asked import EXACTLY
from bvverify.errors import InputError, UsageError
from bvverify.load.arrays import Batch, Given
from bvverify.load.load import load
from bvverify.model.network import Network
from bvverify.model.query import Box
from bvverify.model.types import Cells, Int64Array

_PROPERTY = (".vnnlib", ".gz")


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Two readings, the boxes (none where a layer alone is asked about), and what was given in the user's own words.

    The boxes are of the input of ``common``, which is A on what the two read in common.
    """

    a: Network
    b: Network
    common: Network
    boxes: tuple[Box, ...]
    nominal: Int64Array | None
    by_class: bool
    delta: Fraction
    layer: str | None
    where: str
    given: dict[str, Any]
    batch: Batch | None = None
    """The input that the box was built around, as it was read."""


def ask(
    model: Path,
    semantics: str | None,
    against: str | None,
    files: Sequence[Path],
    near: Near | None,
    layer: str | None,
    delta: str | None,
    *,
    by_class: bool,
) -> Asked:
    """What is asked; ``UsageError`` for arguments that contradict each other."""
    second, property_file = split_files(files)
    if layer is not None and (near is not None or property_file is not None or by_class or delta is not None):
        raise UsageError("--layer asks about every input of one layer: leave out boxes, --class and --delta")
    if layer is not None and second is not None:
        raise UsageError("--layer holds two readings of one file against each other: leave out the second model")
    if property_file is not None and near is not None:
        raise UsageError("a property file gives the boxes: leave out --input, --radius, --epsilon and --clip")
    if by_class and delta is not None:
        raise UsageError("--delta is about outputs: leave it or --class out")
    apart = EXACTLY if delta is None else real_number(delta, "--delta")
    a = load(model, semantics)
    b = _second(a, second, against)
    common = a if layer is not None else align(a, b)[0]
    if near is not None and near.radius is not None and isinstance(common.input.quantiser, Cells):
        raise UsageError("--radius: the two files quantise their inputs by steps of their own; give --epsilon R, a real number")
    boxes, given_input, where = boxes_of(common, property_file, near)
    given = {**in_words(model, second, property_file, near, delta, by_class=by_class), "layer": layer}
    nominal, batch = (None, None) if given_input is None else (given_input.x, given_input.batch)
    return Asked(a, b, common, boxes, nominal, by_class, apart, layer, where, given, batch)


def in_words(
    model: Path, second: Path | None, property_file: Path | None, near: Near | None, delta: str | None, *, by_class: bool
) -> dict[str, Any]:
    """The arguments as they were given."""
    return {
        "model": str(model),
        "against_model": None if second is None else str(second),
        "property": None if property_file is None else str(property_file),
        "input": None if near is None else near.source,
        "radius": None if near is None else near.radius,
        "epsilon": None if near is None else near.epsilon,
        "clip": None if near is None else near.clip,
        "class": by_class,
        "delta": delta,
    }


def near_input(source: str | None, radius: int | None, epsilon: str | None, clip: str | None) -> Near | None:
    """The inputs near one, or None for every input; ``UsageError`` for half of it."""
    if all(option is None for option in (source, radius, epsilon, clip)):
        return None
    if source is None or (radius is None) == (epsilon is None):
        raise UsageError("a box is --input FILE[::INDEX] with one of --radius N (integer steps) and --epsilon R (a real number)")
    return Near(source, radius, epsilon, clip)


def split_files(files: Sequence[Path]) -> tuple[Path | None, Path | None]:
    """A second model and a property file, by their names; either may be missing."""
    properties = [f for f in files if f.suffix.lower() in _PROPERTY]
    models = [f for f in files if f not in properties]
    if len(models) > 1 or len(properties) > 1:
        raise UsageError("behind MODEL come at most one second model and one PROPERTY.vnnlib")
    return next(iter(models), None), next(iter(properties), None)


def _second(a: Network, path: Path | None, against: str | None) -> Network:
    if path is None:
        if against is None:
            raise UsageError("name what to compare with: a second model file, or --against PROFILE for another arithmetic of this one")
        return load_against(a, against)
    b = load(path, "rational-half-up" if against == "rational" else against, option="--against")
    if not two_files(a, b) and a.semantics == b.semantics:
        raise UsageError(f"{path}: is the same file as {a.provenance.path}; name another, or --against PROFILE")
    return b


def boxes_of(network: Network, property_file: Path | None, near: Near | None) -> tuple[tuple[Box, ...], Given | None, str]:
    """The boxes, the input that one was built around, and the whole in words."""
    if property_file is not None:
        from bvverify.load import property_file as reader

        boxes = tuple(box for box, _ in reader.read(property_file, network))
        if not boxes:
            raise InputError(f"{property_file}: every box in it is empty, so there is no input to compare on")
        return boxes, None, f"every input of the boxes of {property_file}"
    if near is None:
        tensor = network.input.tensor
        lo, hi = (np.full(tensor.shape, end, np.int64) for end in (tensor.qtype.lo, tensor.qtype.hi))
        return (Box.of(lo, hi),), None, "every input"
    near.check()
    given = read_input(network, near.source)
    return (near.box(network, given),), given, str(near)
