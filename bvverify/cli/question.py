"""From arguments to queries: what is asked of which network."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.errors import UsageError
from bvverify.model.box import image
from bvverify.model.ideal import SUFFIX
from bvverify.model.network import Network
from bvverify.model.query import Box, Query
from bvverify.model.types import AnyArray, Int64Array

_SHORT = "rational"
_REAL = re.compile(r"\d{1,20}(\.\d{0,20})?([eE][-+]?\d{1,2})?|\.\d{1,20}|\d{1,20}/\d{1,20}")


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Queries of which one violation suffices, and what was asked in the user's own words (``given`` is echoed in JSON)."""

    network: Network
    queries: tuple[Query, ...]
    given: dict[str, Any]


def ask(
    model: Path,
    property_file: Path | None,
    source: str | None,
    radius: int | None,
    epsilon: str | None,
    label: int | None,
    semantics: str | None,
) -> Question:
    """The question that the arguments ask: a property file, or an input and a radius."""
    if property_file is not None:
        if source is not None or radius is not None or epsilon is not None or label is not None:
            raise UsageError("a property file says it all: leave out --input, --radius, --epsilon and --label")
        return ask_property(model, property_file, semantics)
    if source is None:
        raise UsageError("name a property file, or --input FILE[::INDEX] and --radius N")
    return ask_robust(model, source, radius, epsilon, label, semantics)


def ask_property(model: Path, property_file: Path, semantics: str | None) -> Question:
    """The property of a VNN-LIB file: one query for each of its boxes."""
    from bvverify.load import property_file as reader
    from bvverify.load.load import load

    network = load(model, semantics)
    cases = reader.read(property_file, network)
    queries = tuple(Query(network, box, prop) for box, prop in cases)
    return Question(network, queries, {"model": str(model), "property": str(property_file)})


def ask_robust(model: Path, source: str, radius: int | None, epsilon: str | None, label: int | None, semantics: str | None) -> Question:
    """Local robustness around one input, by integer steps or by a real number."""
    from bvverify.load.load import load
    from bvverify.verify import robustness_query

    if (radius is None) == (epsilon is None):
        raise UsageError("give one of --radius N (integer steps) and --epsilon R (a real number)")
    if radius is not None and radius < 0:
        raise UsageError(f"--radius {radius}: a radius is 0 or more")
    reach = real_number(epsilon) if epsilon is not None else None
    network = load(model, semantics)
    check_label(network, label)
    values, x = read_input(network, source)
    given = {"model": str(model), "input": source, "radius": radius, "epsilon": epsilon, "label": label}
    if reach is None:
        assert radius is not None
        check_radius(network, radius)
        return Question(network, (robustness_query(network, x, radius, label),), given)
    query = robustness_query(network, x, 0, label)
    return Question(network, (replace(query, box=real_box(network, values, reach)),), given)


def read_input(network: Network, source: str) -> tuple[AnyArray, Int64Array]:
    """One input as the model's file takes it (batch axis first) and as integers of the input tensor's shape."""
    from bvverify.load import arrays

    return arrays.read_input(source, network)


def load_against(network: Network, against: str) -> Network:
    """The file of a network under other semantics; "rational" is short for the ideal twin of its own. ``UsageError`` for its own again."""
    from bvverify.load.load import load

    other = load(Path(network.provenance.path), network.semantics + SUFFIX if against in (_SHORT, SUFFIX[1:]) else against)
    if network.semantics == other.semantics:
        raise UsageError(f"--against {against}: both are {network.semantics}; name another")
    return other


def check_radius(network: Network, radius: int) -> None:
    """``UsageError`` for a radius that is negative or wider than the input's type."""
    qtype = network.input.tensor.qtype
    if not 0 <= radius <= qtype.hi - qtype.lo:
        raise UsageError(f"--radius {radius}: the input is {qtype}, so a radius is 0 to {qtype.hi - qtype.lo} integer steps")


def check_label(network: Network, label: int | None) -> None:
    """``UsageError`` for a label that the network does not have."""
    check_class(network, "--label", label)


def check_class(network: Network, name: str, given: int | None) -> None:
    """``UsageError`` for a class, given as option ``name``, that the network does not have."""
    classes = network.output_tensor.size
    if given is not None and not 0 <= given < classes:
        raise UsageError(f"{name} {given}: the network has {classes} outputs, so a label is 0 to {classes - 1}")


def real_number(text: str) -> Fraction:
    """A non-negative real number, exactly: ``0.01``, ``1e-3`` or ``2/255``."""
    if _REAL.fullmatch(text) is None or text.endswith("/0"):
        raise UsageError(f"--epsilon {text}: a non-negative number such as 0.01 or 2/255")
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--epsilon {text}: a non-negative number such as 0.01 or 2/255") from None


def real_box(network: Network, values: AnyArray, reach: Fraction) -> Box:
    """The integers that the file's quantiser makes of all reals within ``reach`` of the input, exactly."""
    declared = network.input
    if declared.quantiser is None:
        raise UsageError("--epsilon: the model's file takes integers; use --radius N")
    centre = [Fraction(float(v)) for v in np.asarray(values, np.float32).ravel()]
    box = image([v - reach for v in centre], [v + reach for v in centre], declared.quantiser, declared.tensor.qtype)
    return Box.of(box.lo.reshape(declared.tensor.shape), box.hi.reshape(declared.tensor.shape))
