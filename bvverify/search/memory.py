"""What questions leave for one another that differ in their box alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bvverify.model.query import Box
from bvverify.model.types import Int64Array

if TYPE_CHECKING:
    from bvverify.search.search import Search

_KEPT = 3
"""Searches: their trees are what takes memory."""


@dataclass(slots=True)
class Memory:
    """For questions about one network and property. None of it can change a verdict, only when there is one.

    ``points`` (batch, *input shape) violate the property, perhaps outside the next box; ``searches`` are those made last, the latest last.
    """

    points: Int64Array | None = None
    searches: list[Search] = field(default_factory=list)

    def search(self, box: Box) -> Search | None:
        """The search of exactly this box, to go on with."""
        same = [s for s in self.searches if np.array_equal(s.query.box.lo, box.lo) and np.array_equal(s.query.box.hi, box.hi)]
        return same[-1] if same else None

    def keep(self, search: Search) -> None:
        """Remember a search, and forget those before the last few."""
        self.searches = [*(s for s in self.searches if s is not search), search][-_KEPT:]
