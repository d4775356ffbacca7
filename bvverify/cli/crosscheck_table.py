"""The counts of a crosscheck as a table: live on a terminal while it runs, as plain lines when it is done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bvverify.crosscheck.judge import Status
from bvverify.crosscheck.summary import Group, Summary

if TYPE_CHECKING:
    from rich.table import Table

_WORDS = {
    Status.CONFIRMED: "confirmed",
    Status.REFUTED: "refuted",
    Status.NOT_REPLAYED: "no witness",
    Status.UNDECIDED: "undecided",
    Status.DECIDED: "here only",
    Status.MISCLASSIFIED: "misclassified",
    Status.ERROR: "error",
}
HEADER = ("model", "radius", "source", "claimed", "ours", *_WORDS.values(), "seconds")

LEFT = ("model", "source")
"""Columns of text; the others are numbers."""


def cells(group: Group) -> tuple[str, ...]:
    """A group as the cells of its line; ``claimed`` and ``ours`` count robust/non-robust."""
    ours = group.ours["verified"], group.ours["falsified"]
    return (
        group.model,
        group.radius,
        group.source,
        f"{group.claimed['verified']}/{group.claimed['falsified']}",
        f"{ours[0]}/{ours[1]}",
        *(str(group.statuses[status] or "") for status in _WORDS),
        f"{group.seconds:.1f}",
    )


def rows(summary: Summary) -> list[tuple[str, ...]]:
    """The header and a row for each group; a column that is empty throughout is left out."""
    whole = [HEADER, *(cells(group) for group in summary.groups())]
    kept = [i for i in range(len(HEADER)) if any(row[i] for row in whole[1:])]
    return [tuple(row[i] for i in kept) for row in whole]


def lines(summary: Summary) -> list[str]:
    """The table as text."""
    made = rows(summary)
    widths = [max(map(len, column)) for column in zip(*made, strict=True)]
    return [
        "  ".join(f"{cell:<{w}}" if name in LEFT else f"{cell:>{w}}" for name, cell, w in zip(made[0], row, widths, strict=True)).rstrip()
        for row in made
    ]


@contextmanager
def live(summary: Summary, total: int) -> Iterator[Callable[[], None]]:
    """A table that follows the summary on a terminal; silence elsewhere."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.live import Live

    with Live(_table(summary, total), console=Console(stderr=True), refresh_per_second=4, transient=True) as shown:
        yield lambda: shown.update(_table(summary, total))


def _table(summary: Summary, total: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    groups = summary.groups()
    done = sum(group.claims for group in groups)
    table = Table(title=f"{done} of {total} claims", title_justify="left")
    for name in HEADER:
        table.add_column(name, justify="left" if name in LEFT else "right")
    for group in groups:
        refuted = group.statuses[Status.REFUTED]
        table.add_row(
            *(Text(cell, "bold red" if name == "refuted" and refuted else "") for name, cell in zip(HEADER, cells(group), strict=True))
        )
    return table
