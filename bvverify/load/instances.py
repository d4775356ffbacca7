"""Lists of questions for ``batch``: our CSV with a header, or VNN-COMP's ``instances.csv`` without one.

A row that cannot be asked does not stop the others: it becomes an ``Instance`` whose ``error`` says what is wrong with it. Only a
file that is no such list at all is refused as a whole.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bvverify.errors import InputError

_ROBUST = ("model", "input", "label", "radius")
_PROPERTY = ("model", "property")
_OPTIONAL = ("timeout", "semantics", "clip")
_LARGEST = "max"


@dataclass(frozen=True, slots=True)
class Instance:
    """One row: ``raw`` is what the CSV says; paths are resolved against the CSV's folder; ``error`` says why it cannot be asked.

    With ``largest`` the row asks for the largest radius, up to ``maximum`` (None: any), and ``radius`` says nothing. ``target`` is the
    class that the input must not get; None: it must keep its own.
    """

    raw: dict[str, str]
    model: Path
    input: str = ""
    label: int | None = None
    radius: int = 0
    property: Path | None = None
    timeout: float | None = None
    semantics: str | None = None
    clip: str | None = None
    error: str | None = None
    largest: bool = False
    maximum: int | None = None
    target: int | None = None


def read_table(path: Path) -> list[list[str]]:
    """The rows of a CSV that are not blank, each cell without the spaces around it; ``InputError`` when there are none."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text: {error}") from error
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), strict=True) if any(c.strip() for c in row)]
    except csv.Error as error:
        raise InputError(f"{path}: is no CSV file: {error}") from error
    if not rows:
        raise InputError(f"{path}: is empty; its header is {','.join((*_ROBUST, *_OPTIONAL))}")
    return rows


def read_instances(path: Path) -> tuple[Instance, ...]:
    """The rows of a CSV in their order; ``InputError`` when it is no list of instances."""
    rows = read_table(path)
    header = rows[0]
    if "model" not in header:
        if len(header) == 3 and header[1].endswith((".vnnlib", ".vnnlib.gz")):
            return tuple(_row(path, number, (*_PROPERTY, "timeout"), row) for number, row in enumerate(rows, 1))
        raise InputError(
            f"{path}: the first line is no header; it is {','.join((*_ROBUST, *_OPTIONAL))} or model,property,timeout,semantics"
        )
    return instances_below(path, header, rows[1:])


def instances_below(path: Path, header: list[str], rows: list[list[str]]) -> tuple[Instance, ...]:
    """The instances in the rows below a header; columns of other names are kept in ``Instance.raw``."""
    needed = _PROPERTY if "property" in header else _ROBUST
    missing = [name for name in needed if name not in header and name != "label"]
    if missing:
        raise InputError(f"{path}: has no column {', '.join(missing)}; the header is {','.join((*_ROBUST, *_OPTIONAL))}")
    return tuple(_row(path, number, header, row) for number, row in enumerate(rows, 2))


def _row(path: Path, number: int, header: Sequence[str], row: list[str]) -> Instance:
    given = dict(zip(header, row, strict=False))
    instance = instance_of(path, number, {name: given.get(name, "") for name in header})
    if len(row) == len(header):
        return instance
    return _broken(instance, f"{path}, row {number}: has {len(row)} cells, not the {len(header)} of {','.join(header)}")


def _broken(instance: Instance, why: str) -> Instance:
    return Instance(instance.raw, instance.model, error=why)


def instance_of(path: Path, number: int, raw: dict[str, str]) -> Instance:
    """The instance in row ``number`` (from 1, the header included) of the CSV ``path``."""
    folder, where = path.parent, f"{path}, row {number}"
    instance = Instance(raw, folder / raw.get("model", ""))
    try:
        if not raw.get("model"):
            raise InputError(f"{where}: names no model")
        timeout = _timeout(where, raw.get("timeout", ""))
        semantics = raw.get("semantics") or None
        if "property" in raw:
            if not raw["property"]:
                raise InputError(f"{where}: names no property")
            return Instance(raw, instance.model, property=folder / raw["property"], timeout=timeout, semantics=semantics)
        if not raw["input"]:
            raise InputError(f"{where}: names no input")
        label, target = raw.get("label", ""), raw.get("target", "")
        largest, _, most = raw["radius"].partition(":")
        return Instance(
            raw,
            instance.model,
            str(folder / raw["input"]),
            None if label == "" else _integer(where, "label", label),
            0 if largest == _LARGEST else _integer(where, "radius", raw["radius"]),
            timeout=timeout,
            semantics=semantics,
            largest=largest == _LARGEST,
            maximum=_integer(where, "radius", most) if largest == _LARGEST and ":" in raw["radius"] else None,
            target=None if target == "" else _integer(where, "target", target),
            clip=raw.get("clip") or None,
        )
    except InputError as error:
        return _broken(instance, str(error))


def _integer(where: str, name: str, text: str) -> int:
    if not text.isascii() or not text.lstrip("-").isdigit() or len(text) > 9:
        raise InputError(
            f"{where}: {name} is {text!r}, not an integer" + (f" (or {_LARGEST}, or {_LARGEST}:N)" if name == "radius" else "")
        )
    return int(text)


def _timeout(where: str, text: str) -> float | None:
    if text == "":
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"{where}: timeout is {text!r}, not a positive number of seconds")
    return seconds
