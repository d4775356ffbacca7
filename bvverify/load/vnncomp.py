"""Results of the verification competitions as claims: ``results.csv``, the ``instances.csv`` that it answers, counterexample files.

A line of results is ``category,onnx,vnnlib,prepare_time,result,seconds`` or ``onnx,vnnlib,result,seconds``, without a header. The paths
in it are those of the machine that ran the tool, so that a line belongs to the instance whose files have the same names. The
counterexample of a line is ``ONNX_VNNLIB.counterexample`` (``.gz``), by the names without their endings, in the folder of the results,
or in one of the category's name below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bvverify.errors import InputError
from bvverify.load.claims import WORDS, Claim, Claimed
from bvverify.load.instances import Instance, instance_of, read_instances

_ONNX, _VNNLIB = (".onnx", ".onnx.gz"), (".vnnlib", ".vnnlib.gz")
Names = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Line:
    """One line: the row's number, the category, both paths, the tool's word and its seconds."""

    number: int
    category: str
    onnx: str
    vnnlib: str
    word: str
    seconds: str

    @property
    def names(self) -> Names:
        """What identifies the instance."""
        return _stem(self.onnx), _stem(self.vnnlib)


def recognises(row: Sequence[str]) -> bool:
    """Whether a CSV that begins with this row is a list of results."""
    return len(row) in (4, 6) and _shift(row) is not None


def claims(path: Path, rows: Sequence[Sequence[str]], instances: Path | None, counterexamples: Path | None) -> tuple[Claim, ...]:
    """One claim for each line, or, with ``instances``, for each instance (nothing claimed of those without a line)."""
    folder = path.parent if counterexamples is None else counterexamples
    lines = [_line(path, number, row) for number, row in enumerate(rows, 1)]
    if instances is None:
        return tuple(_claim(line, _instance(path, line), folder) for line in lines)
    answered = {line.names: line for line in lines}
    made, known = [], set()
    for number, instance in enumerate(read_instances(instances), 1):
        names = _stem(instance.raw["model"]), _stem(instance.raw.get("property", ""))
        known.add(names)
        line = answered.get(names) or _Line(number, "", instance.raw["model"], instance.raw.get("property", ""), "", "")
        made.append(_claim(line, _beside(instances, instance), folder))
    strangers = [line for line in lines if line.names not in known]
    if strangers:
        line = strangers[0]
        raise InputError(f"{path}, row {line.number}: {line.onnx} with {line.vnnlib} is no instance of {instances}")
    return tuple(made)


def _line(path: Path, number: int, row: Sequence[str]) -> _Line:
    at = _shift(row)
    if at is None:
        raise InputError(f"{path}, row {number}: is no line of results: category,onnx,vnnlib,prepare_time,result,seconds")
    word, seconds = row[-2].lower(), row[-1]
    if word not in WORDS and not word.startswith(("error", "timeout", "run_", "no_result", "prepare")):
        raise InputError(f"{path}, row {number}: the result is {row[-2]!r}; it is sat, unsat, unknown, timeout or error")
    return _Line(number, row[0] if at else "", row[at], row[at + 1], word, seconds)


def _shift(row: Sequence[str]) -> int | None:
    """Where the model's path stands: first, or behind the category."""
    return next((i for i in (0, 1) if len(row) > i + 3 and row[i].endswith(_ONNX) and row[i + 1].endswith(_VNNLIB)), None)


def _instance(path: Path, line: _Line) -> Instance:
    return instance_of(path, line.number, {"model": line.onnx, "property": line.vnnlib})


def _beside(instances: Path, instance: Instance) -> Instance:
    """The instance, echoed with paths that are no longer relative to its own file."""
    raw = instance.raw | {"model": str(instances.parent / instance.raw["model"])}
    if "property" in raw:
        raw["property"] = str(instances.parent / raw["property"])
    return Instance(raw, instance.model, property=instance.property, timeout=instance.timeout, error=instance.error)


def _claim(line: _Line, instance: Instance, folder: Path) -> Claim:
    claimed = WORDS.get(line.word, Claimed.NOTHING)
    name = "_".join(line.names)
    places = [f / f"{name}.counterexample{gz}" for f in (folder, folder / line.category) for gz in ("", ".gz")]
    found = next((p for p in places if p.is_file()), None) if claimed is Claimed.FALSIFIED else None
    columns = {"claim": line.word, "claimed_seconds": line.seconds, "source": line.category}
    if found is not None:
        columns["claimed_witness"] = str(found)
    raw = instance.raw | columns
    made = Instance(raw, instance.model, property=instance.property, timeout=instance.timeout, error=instance.error)
    return Claim(made, claimed, "" if found is None else str(found))


def _stem(path: str) -> str:
    name = PurePosixPath(path.replace("\\", "/")).name
    for ending in (*_ONNX, *_VNNLIB):
        name = name.removesuffix(ending)
    return name
