"""The file of answers: one JSON object a line, appended as rows finish, and read back to go on where a run stopped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from bvverify.errors import InputError, UsageError

ECHOED = ("model", "input", "label", "radius", "property", "target")
"""The fields that identify a row, as the CSV gives them; a field that the CSV does not have is null."""

Key = tuple[str | None, ...]


def key(row: Mapping[str, Any], fields: Sequence[str] = ECHOED) -> Key:
    """What identifies a row or its answer."""
    return tuple(row.get(name) for name in fields)


class AnswerFile:
    """The answers so far, and the end of the file to append to. A context manager; opening it drops a torn last line.

    ``identity`` are the fields that a row and its answer share, ``always`` those that every line of ``command`` has.
    """

    def __init__(
        self, path: Path, identity: Sequence[str] = ECHOED, always: Sequence[str] = ("model", "verdict"), command: str = "batch"
    ) -> None:
        self.path, self.identity, self.always, self.command = path, identity, always, command
        self.earlier: list[dict[str, Any]] = []

    def __enter__(self) -> AnswerFile:
        try:
            self._file = self.path.open("a+b")
            self._file.seek(0)
            content = self._file.read()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) != len(content):
                # A run that was killed while it wrote: the row is decided again.
                self._file.truncate(len(whole))
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            self.earlier = [self._parse(number, line) for number, line in enumerate(whole.splitlines(), 1) if line.strip()]
        except InputError:
            self._file.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # What a full disk has refused is refused again; its rows are decided again.
        with suppress(OSError):
            self._file.close()

    def append(self, answer: Mapping[str, Any]) -> None:
        """Write one answer, whole, before the next one is waited for."""
        try:
            self._file.write(json.dumps(answer).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise UsageError(
                f"{self.path}: cannot be written: {error.strerror}; the answers in it are kept, and the same command goes on from there"
            ) from error

    def open_rows(self, rows: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[dict[str, Any]]]:
        """The indices of rows without an answer, and the earlier answers to the others; of equal rows each answer covers one."""
        answered: dict[Key, list[dict[str, Any]]] = {}
        for answer in self.earlier:
            answered.setdefault(key(answer, self.identity), []).append(answer)
        missing, found = [], []
        for index, row in enumerate(rows):
            same = answered.get(key(row, self.identity))
            if same:
                found.append(same.pop(0))
            else:
                missing.append(index)
        return missing, found

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not set(self.always) <= set(answer):
            raise InputError(
                f"{self.path}, line {number}: is no answer of bvverify {self.command}; choose another --output or delete the line"
            )
        return answer


def count(answers: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """How many answers have which verdict."""
    return Counter(str(answer["verdict"]) for answer in answers)
