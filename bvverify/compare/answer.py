"""What a comparison comes to."""

from __future__ import annotations

from enum import StrEnum


class Answer(StrEnum):
    """Equal on everything that was asked about, differing on an input that is shown, or neither shown."""

    EQUAL = "equal"
    DIFFERS = "differs"
    UNKNOWN = "unknown"
