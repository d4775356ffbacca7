"""A saved result: what ``--json`` printed for ``robust``, ``verify`` or ``attack``, or a line of ``batch``, as checked data.

The file is a claim; a field that is missing or of another kind is an ``InputError`` that names it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bvverify.errors import InputError, UsageError
from bvverify.load.certificate_file import read_other
from bvverify.model.result import CheckReport, Open

COMMANDS = ("robust", "verify", "attack", "batch")
VERDICTS = ("verified", "falsified", "unknown")


@dataclass(frozen=True, slots=True)
class Cost:
    """A stage: seconds, and what it says of itself (a batch line does not)."""

    stage: str
    seconds: float
    detail: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """A runtime's answer to the witness; ``agreed`` None: it was not asked, ``detail`` says why."""

    runtime: str
    version: str
    agreed: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class Saved:
    """The question in the words it was asked in (paths as they were given), and the answer.

    ``witness`` and ``nominal`` are flat integers; ``replays`` None: the file does not say. ``sha256`` is the model's, "" where a
    batch line does not say.
    """

    file: Path
    command: str
    verdict: str
    stage: str
    reason: str
    seconds: float
    model: str
    semantics: str
    sha256: str
    property: str | None
    input: str | None
    radius: int | None
    epsilon: str | None
    clip: str | None
    label: int | None
    costs: tuple[Cost, ...]
    checked: CheckReport | None
    nodes: int
    open: Open | None
    certificates: tuple[str, ...]
    witness: tuple[int, ...] | None
    replays: tuple[Replayed, ...] | None


def read(spec: str) -> Saved:
    """The result in ``FILE``, or in line ``FILE::LINE`` (from 0) of a batch's answers."""
    name, separator, index = spec.rpartition("::")
    path = Path(name if separator else spec)
    content = read_other(path)
    lines = [line for line in content.splitlines() if line.strip()]
    if separator:
        if not index.isascii() or not index.isdigit() or len(index) > 9:
            raise UsageError(f"{spec}: a line is a number from 0, not {index!r}")
        if int(index) >= len(lines):
            raise UsageError(f"{path}: has no line {index}; it holds {len(lines)}, counted from 0")
        content = lines[int(index)]
    elif len(lines) > 1 and _is_object(lines[0]):
        raise UsageError(f"{path}: holds {len(lines)} results; pick one with ::LINE (0 to {len(lines) - 1})")
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON file ({error}); explain takes what --json printed, or a line of batch") from error
    return _saved(path, _Fields(path, data, ""))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


class _Fields:
    """The fields of a JSON object, each of the kind that it should be."""

    def __init__(self, path: Path, data: Any, where: str) -> None:
        self.path, self.where = path, where
        if not isinstance(data, dict):
            raise InputError(f"{path}: {where or 'the file'} is no JSON object; explain takes what --json printed, or a line of batch")
        self.data = data

    def get(self, name: str, *kinds: type) -> Any:
        """A field that has to be there; ``NoneType`` among the kinds lets it be null."""
        if name not in self.data:
            raise InputError(f"{self.path}: {self.where}{name} is missing; explain takes what --json printed, or a line of batch")
        value = self.data[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise InputError(f"{self.path}: {self.where}{name} is {str(value)[:40]!r}, not what it should be")
        return value

    def maybe(self, name: str, *kinds: type) -> Any:
        """A field that may be absent or null."""
        return None if self.data.get(name) is None else self.get(name, *kinds)

    def inner(self, name: str) -> _Fields:
        """An object."""
        return _Fields(self.path, self.get(name, dict), f"{self.where}{name}.")

    def objects(self, name: str) -> list[_Fields]:
        """A list of objects."""
        return [_Fields(self.path, v, f"{self.where}{name}[{i}].") for i, v in enumerate(self.get(name, list))]

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of integers below 2^31."""
        values = self.get(name, list)
        if not all(isinstance(v, int) and not isinstance(v, bool) and abs(v) < 1 << 31 for v in values):
            raise InputError(f"{self.path}: {self.where}{name} holds something that is no integer below 2^31")
        return tuple(values)


def _saved(path: Path, data: _Fields) -> Saved:
    verdict = data.get("verdict", str)
    command = data.maybe("command", str) or "batch"
    if command not in COMMANDS:
        raise InputError(f"{path}: is what {command} printed; explain takes a result of {', '.join(COMMANDS)}")
    if verdict not in VERDICTS:
        reason = data.maybe("reason", str)
        raise InputError(
            f"{path}: the verdict is {verdict!r}" + (f" ({reason})" if reason else "") + ", of which there is nothing to explain"
        )
    checked, opened = data.maybe("checked", dict), data.maybe("open", dict)
    common: dict[str, Any] = {
        "file": path,
        "command": command,
        "verdict": verdict,
        "stage": data.get("stage", str),
        "reason": data.get("reason", str),
        "seconds": float(data.get("seconds", int, float)),
        "semantics": data.get("semantics", str),
        "nodes": data.get("nodes", int),
        "checked": None if checked is None else _check_report(data.inner("checked")),
        "open": None if opened is None else _open(data.inner("open")),
        "certificates": tuple(str(v) for v in data.maybe("certificate", list) or ()),
    }
    made = Saved(**common, **(_of_batch(data) if command == "batch" else _of_command(data)))
    if (made.verdict == "falsified") != (made.witness is not None):
        raise InputError(f"{path}: {'holds no witness' if made.witness is None else 'holds a witness'}, and its verdict is {verdict!r}")
    return made


def _of_batch(data: _Fields) -> dict[str, Any]:
    def whole(name: str) -> int | None:
        text = str(data.maybe(name, str, int) or "")
        if text and not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise InputError(f"{data.path}: {name} is {text[:40]!r}, no number")
        return int(text) if text else None

    return {
        "model": data.get("model", str),
        "sha256": "",
        "property": data.maybe("property", str),
        "input": data.maybe("input", str),
        "radius": whole("radius"),
        "epsilon": None,
        "clip": data.maybe("clip", str) or None,
        "label": whole("label"),
        "costs": tuple(Cost(k, float(v), "") for k, v in data.get("stages", dict).items() if isinstance(v, int | float)),
        "witness": None if data.maybe("witness", list) is None else data.integers("witness"),
        "replays": None,
    }


def _of_command(data: _Fields) -> dict[str, Any]:
    asked, model = data.inner("asked"), data.inner("model")
    witness = None if data.get("witness", dict, type(None)) is None else data.inner("witness")
    return {
        "model": asked.get("model", str),
        "sha256": model.get("sha256", str),
        "property": asked.maybe("property", str),
        "input": asked.maybe("input", str),
        "radius": asked.maybe("radius", int),
        "epsilon": asked.maybe("epsilon", str),
        "clip": asked.maybe("clip", str),
        "label": asked.maybe("label", int),
        "costs": tuple(
            Cost(s.get("stage", str), float(s.get("seconds", int, float)), s.get("detail", str)) for s in data.objects("stages")
        ),
        "witness": None if witness is None else witness.integers("input"),
        "replays": None if witness is None else tuple(
            Replayed(r.get("runtime", str), r.get("version", str), r.get("agreed", bool, type(None)), r.get("detail", str))
            for r in witness.objects("replays")
        ),
    }  # fmt: skip


def _check_report(data: _Fields) -> CheckReport:
    counts = {n: data.get(n, int) for n in ("claims", "splits", "interval_leaves", "bound_leaves", "solver_leaves")}
    return CheckReport(**counts, proved_leaves=data.maybe("proved_leaves", int) or 0)


def _open(data: _Fields) -> Open:
    bound = data.maybe("bound", int, float)
    return Open(
        data.get("violations", int),
        data.get("total", int),
        data.get("ran_out", str),
        data.maybe("subproblems", int),
        None if bound is None else float(bound),
    )
