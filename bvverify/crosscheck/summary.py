"""Claims counted: what was claimed, what is decided here, and what becomes of the claims, per model, radius and source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from bvverify.crosscheck.judge import Status


@dataclass(slots=True)
class Group:
    """The claims on one model at one radius ("" for property files) from one source; ``seconds`` are ours, each question's once.

    ``claimed`` counts verified, falsified and nothing; ``ours`` the verdicts of ``batch``; ``statuses`` what becomes of the claims.
    """

    model: str
    radius: str
    source: str
    claimed: Counter[str] = field(default_factory=Counter)
    ours: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    _asked: set[tuple[Any, ...]] = field(default_factory=set)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one judged claim."""
        self.claimed[row["claimed"]] += 1
        self.ours[row["verdict"]] += 1
        self.statuses[row["status"]] += 1
        question = tuple(row.get(name) for name in ("model", "input", "label", "property", "semantics"))
        if question not in self._asked:
            self._asked.add(question)
            self.seconds += float(row["seconds"])

    def as_object(self) -> dict[str, Any]:
        """As JSON data."""
        counted = {"claimed": dict(self.claimed), "ours": dict(self.ours), "statuses": dict(self.statuses)}
        return {"model": self.model, "radius": self.radius, "source": self.source, **counted, "seconds": round(self.seconds, 6)}

    @property
    def claims(self) -> int:
        """How many there are."""
        return sum(self.statuses.values())


class Summary:
    """The groups, in the order in which their first claims came."""

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._groups: dict[tuple[str, str, str], Group] = {}
        for row in rows:
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one judged claim."""
        key = (PurePath(row["model"]).name, str(row.get("radius") or ""), str(row.get("source") or ""))
        if key not in self._groups:
            self._groups[key] = Group(*key)
        self._groups[key].add(row)

    def groups(self) -> list[Group]:
        """By model, radius and source."""
        return sorted(self._groups.values(), key=lambda g: (g.model, int(g.radius) if g.radius.isdigit() else -1, g.source))

    def total(self) -> Counter[str]:
        """What becomes of all claims, by status."""
        counts: Counter[str] = Counter()
        for group in self._groups.values():
            counts.update(group.statuses)
        return counts


def exit_code(counts: Mapping[str, int]) -> int:
    """10 where a claim is refuted, 5 where one is open (undecided, without its witness, unreadable), else 0."""
    if counts.get(Status.REFUTED):
        return 10
    return 5 if any(counts.get(s) for s in (Status.UNDECIDED, Status.NOT_REPLAYED, Status.ERROR)) else 0
