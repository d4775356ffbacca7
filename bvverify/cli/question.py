"""From arguments to queries: what is asked of which network."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bvverify.errors import UsageError
from bvverify.model.box import around, image
from bvverify.model.ideal import SUFFIX
from bvverify.model.network import Network
from bvverify.model.query import Box, Query
from bvverify.model.types import AnyArray, Int64Array

if TYPE_CHECKING:
    from bvverify.load.arrays import Batch, Given

_SHORT = "rational"
_REAL = re.compile(r"-?(?:\d{1,20}(\.\d{0,20})?([eE][-+]?\d{1,2})?|\.\d{1,20}|\d{1,20}/\d{1,20})")


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Queries of which one violation suffices, and what was asked in the user's own words (``given`` is echoed in JSON)."""

    network: Network
    queries: tuple[Query, ...]
    given: dict[str, Any]
    batch: Batch | None = None
    """The input that was read, where there is one."""


def ask(
    model: Path,
    property_file: Path | None,
    source: str | None,
    radius: int | None,
    epsilon: str | None,
    label: int | None,
    semantics: str | None,
    clip: str | None = None,
) -> Question:
    """The question that the arguments ask: a property file, or an input and a radius."""
    if property_file is not None:
        if source is not None or radius is not None or epsilon is not None or label is not None or clip is not None:
            raise UsageError("a property file says it all: leave out --input, --radius, --epsilon, --clip and --label")
        return ask_property(model, property_file, semantics)
    if source is None:
        raise UsageError("name a property file, or --input FILE[::INDEX] and --radius N")
    return ask_robust(model, source, radius, epsilon, label, semantics, clip)


def ask_property(model: Path, property_file: Path, semantics: str | None) -> Question:
    """The property of a VNN-LIB file: one query for each of its boxes."""
    from bvverify.load import property_file as reader
    from bvverify.load.load import load

    network = load(model, semantics)
    cases = reader.read(property_file, network)
    queries = tuple(Query(network, box, prop) for box, prop in cases)
    return Question(network, queries, {"model": str(model), "property": str(property_file)})


def ask_robust(
    model: Path,
    source: str,
    radius: int | None,
    epsilon: str | None,
    label: int | None,
    semantics: str | None,
    clip: str | None = None,
) -> Question:
    """Local robustness around one input, by integer steps or by a real number, within a range of values."""
    from bvverify.load.load import load
    from bvverify.pipeline import robustness_query

    near = Near(source, radius, epsilon, clip)
    near.check()
    network = load(model, semantics)
    check_label(network, label)
    given = read_input(network, source)
    query = replace(robustness_query(network, given.x, 0, label), box=near.box(network, given))
    asked = {"model": str(model), "input": source, "radius": radius, "epsilon": epsilon, "clip": clip, "label": label}
    return Question(network, (query,), asked, given.batch)


@dataclass(frozen=True, slots=True)
class Near:
    """The inputs near one, in the user's own words: by ``radius`` (integer steps) or ``epsilon`` (real), values within ``clip``."""

    source: str
    radius: int | None = None
    epsilon: str | None = None
    clip: str | None = None

    def __str__(self) -> str:
        step = "step" if self.radius == 1 else "steps"
        reach = f"{self.radius} integer {step}" if self.epsilon is None else f"{self.epsilon} (real)"
        return f"every input within {reach} of {self.source}" + (f", its values within [{self.clip}]" if self.clip is not None else "")

    def check(self) -> None:
        """``UsageError`` for what no network could make a box of."""
        if (self.radius is None) == (self.epsilon is None):
            raise UsageError("give one of --radius N (integer steps) and --epsilon R (a real number)")
        if self.radius is not None and self.radius < 0:
            raise UsageError(f"--radius {self.radius}: a radius is 0 or more")
        if self.epsilon is not None:
            real_number(self.epsilon)
        if self.clip is not None:
            real_range(self.clip)

    def box(self, network: Network, given: Given) -> Box:
        """Every integer input that is meant; ``UsageError`` for a radius wider than the type, or a clip without the input itself."""
        self.check()
        if self.epsilon is not None:
            box = real_box(network, given.batch.values, real_number(self.epsilon))
        else:
            assert self.radius is not None
            check_radius(network, self.radius)
            box = around(given.x, self.radius, network.input.tensor.qtype)
        return box if self.clip is None else _clipped(network, box, given.x, self.clip)


def read_input(network: Network, source: str) -> Given:
    """The one input that ``FILE`` or ``FILE::INDEX`` names."""
    from bvverify.load import arrays

    return arrays.read_input(source, network)


def _clipped(network: Network, box: Box, x: Int64Array, clip: str) -> Box:
    """The part of a box within a range of values in the units of the model's file: reals where it begins in float, else integers."""
    declared, (least, largest) = network.input, real_range(clip)
    qtype = declared.tensor.qtype
    if declared.quantiser is None:
        lo, hi = max(math.ceil(least), qtype.lo), min(math.floor(largest), qtype.hi)
    else:
        ends = image([least], [largest], declared.quantiser, qtype)
        lo, hi = int(ends.lo[0]), int(ends.hi[0])
    outside = ((x < lo) | (x > hi)).ravel()
    if outside.any():
        raise UsageError(
            f"--clip {clip}: {int(outside.sum())} of {x.size} values of the input itself lie outside; the range is in the units that the"
            f" model's file takes, here {'integers' if declared.quantiser is None else 'reals'}"
        )
    return Box.of(np.maximum(box.lo, lo), np.minimum(box.hi, hi))


def load_against(network: Network, against: str) -> Network:
    """The file of a network under other semantics; "rational" is short for the ideal twin of its own. ``UsageError`` for its own again."""
    from bvverify.load.load import load

    chosen = network.semantics + SUFFIX if against in (_SHORT, SUFFIX[1:]) else against
    other = load(Path(network.provenance.path), chosen, option="--against")
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


def real_number(text: str, option: str = "--epsilon") -> Fraction:
    """The number of an option, exactly: not negative, ``0.01``, ``1e-3`` or ``2/255``."""
    value = _fraction(text)
    if value is None or value < 0:
        raise UsageError(f"{option} {text}: a non-negative number such as 0.01 or 2/255")
    return value


def real_range(text: str) -> tuple[Fraction, Fraction]:
    """The range of --clip, ``LO,HI``, exactly."""
    ends = [_fraction(part.strip()) for part in text.split(",")]
    if len(ends) != 2 or ends[0] is None or ends[1] is None or ends[0] > ends[1]:
        raise UsageError(f"--clip {text}: a range is LO,HI such as 0,1 or -1,255/256, LO not above HI")
    return ends[0], ends[1]


def _fraction(text: str) -> Fraction | None:
    """The rational that a decimal number or a quotient says; None where it says none."""
    if _REAL.fullmatch(text) is None:
        return None
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None


def real_box(network: Network, values: AnyArray, reach: Fraction) -> Box:
    """The integers that the file's quantiser makes of all reals within ``reach`` of the input, exactly."""
    declared = network.input
    if declared.quantiser is None:
        raise UsageError("--epsilon: the model's file takes integers; use --radius N")
    centre = [Fraction(float(v)) for v in np.asarray(values, np.float32).ravel()]
    box = image([v - reach for v in centre], [v + reach for v in centre], declared.quantiser, declared.tensor.qtype)
    return Box.of(box.lo.reshape(declared.tensor.shape), box.hi.reshape(declared.tensor.shape))
