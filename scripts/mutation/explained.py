"""``tests/mutants.toml``: which tests are asked about which file, and why a mutant may survive."""

from __future__ import annotations

import fnmatch
import functools
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutation.mutants import Mutant


@dataclass(frozen=True, slots=True)
class Targets:
    """The files to mutate, as patterns, each with the tests that reach them, the quickest first; the first pattern that fits holds."""

    table: tuple[tuple[str, tuple[str, ...]], ...]

    def files(self, root: Path) -> set[str]:
        """Every file that a pattern names."""
        return {path.relative_to(root).as_posix() for pattern, _ in self.table for path in root.glob(pattern) if path.name != "__init__.py"}

    def tests(self, file: str) -> tuple[str, ...]:
        """The tests of a file."""
        return next(tests for pattern, tests in self.table if fnmatch.fnmatch(file, pattern))


@dataclass(frozen=True, slots=True)
class Explained:
    """Entries with ``file``, ``function``, ``line``, ``changes``, ``reason``; what is left out fits everything."""

    entries: tuple[dict[str, Any], ...]

    def reason(self, mutant: Mutant) -> str:
        """Why the mutant may survive; empty if no entry fits."""
        return next((entry["reason"] for entry in self.entries if _fits(entry, mutant)), "")

    def unused(self, mutants: Sequence[Mutant]) -> list[str]:
        """Entries (about files of these mutants) that fit none of them: the code has changed."""
        files = {m.file for m in mutants}
        about = [e for e in self.entries if any(fnmatch.fnmatchcase(f, e["file"]) for f in files)]
        return [f"{e['file']}: {e.get('line', e.get('function', ''))}" for e in about if not any(_fits(e, m) for m in mutants)]


def _fits(entry: dict[str, Any], mutant: Mutant) -> bool:
    """A line and a change are compared letter by letter (they hold brackets and stars); ``...`` in them stands for anything."""
    return (
        fnmatch.fnmatchcase(mutant.file, entry["file"])
        and fnmatch.fnmatchcase(mutant.function, entry.get("function", "*"))
        and ("line" not in entry or _same(entry["line"], mutant.line))
        and ("changes" not in entry or any(_same(change, mutant.change) for change in entry["changes"]))
    )


def _same(wanted: str, text: str) -> bool:
    return _pattern(wanted).fullmatch(text) is not None


@functools.cache
def _pattern(wanted: str) -> re.Pattern[str]:
    """There are more of them than ``re`` keeps by itself."""
    return re.compile(".*".join(map(re.escape, wanted.split("..."))))


def read(path: Path) -> tuple[Targets, Explained]:
    """The two tables of the file; ``SystemExit`` names an entry without a file or a reason."""
    table = tomllib.loads(path.read_text())
    entries = tuple(table.get("explained", ()))
    for number, entry in enumerate(entries, 1):
        if not entry.get("file") or not entry.get("reason") or not entry.keys() <= {"file", "function", "line", "changes", "reason"}:
            raise SystemExit(
                f"mutants: {path.name}, explained entry {number}: file and reason are needed; function, line, changes may be given"
            )
    return Targets(tuple((t["files"], tuple(t["tests"])) for t in table["target"])), Explained(entries)
