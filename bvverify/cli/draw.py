"""Small grey images as text: half blocks in 256 colours on a terminal, shades or plain ASCII elsewhere."""

from __future__ import annotations

import os
import sys
from typing import TextIO

import numpy as np

from bvverify.model.types import Int64Array

_SHADES = " ░▒▓█"
_ASCII = " .:-=+*#%@"
_RESET = "\x1b[0m"


def unicode(stream: TextIO | None = None) -> bool:
    """Whether the stream (stdout) can hold block characters."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "ascii"
    return encoding.lower().replace("-", "").startswith("utf")


def colours(stream: TextIO | None = None) -> bool:
    """Whether the stream (stdout) is a terminal that takes colours; NO_COLOR (no-color.org) and TERM=dumb say no."""
    return (stream or sys.stdout).isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def image(grey: Int64Array, hi: int, *, blocks: bool, colour: bool) -> list[str]:
    """The lines of a picture of ``grey`` (height, width), 0 (dark) to ``hi`` (bright)."""
    if blocks and colour:
        return _half_blocks(grey, hi)
    ramp = _SHADES if blocks else _ASCII
    levels = np.clip(grey * len(ramp) // (hi + 1), 0, len(ramp) - 1)
    # Two characters a pixel: they are about twice as high as wide.
    return ["".join(ramp[v] * 2 for v in row) for row in levels]


def signed(changes: Int64Array) -> list[str]:
    """The lines of a picture of changes (height, width): ``+2`` is brighter by two steps, ``.`` the same; all of one length."""
    width = len(str(np.abs(changes).max())) + 2
    return ["".join(f"{'.' if v == 0 else f'{v:+d}':>{width}}" for v in row) for row in changes]


def beside(*pictures: tuple[str, list[str], int]) -> list[str]:
    """Pictures (title, lines, width in columns) next to each other; half-block pictures have half as many lines."""
    height = max(len(lines) for _, lines, _ in pictures)
    widths = [max(width, len(title)) for title, _, width in pictures]
    rows = ["   ".join(f"{title:<{w}}" for (title, _, _), w in zip(pictures, widths, strict=True))]
    for i in range(height):
        cells = [
            (lines[i] + " " * (w - width)) if i < len(lines) else " " * w for (_, lines, width), w in zip(pictures, widths, strict=True)
        ]
        rows.append("   ".join(cells))
    return [row.rstrip() for row in rows]


def _half_blocks(grey: Int64Array, hi: int) -> list[str]:
    """Two rows of pixels a line: the upper half block's colour is the upper pixel, its background the lower one."""
    levels = 232 + np.clip(grey * 24 // (hi + 1), 0, 23)  # the 24 greys of the 256-colour palette
    enlarged = levels.repeat(_scale(grey), axis=0).repeat(_scale(grey), axis=1)
    if len(enlarged) % 2:
        enlarged = np.vstack([enlarged, np.full((1, enlarged.shape[1]), 232)])
    pairs = zip(enlarged[::2], enlarged[1::2], strict=True)
    return ["".join(f"\x1b[38;5;{u}m\x1b[48;5;{d}m▀" for u, d in zip(up, down, strict=True)) + _RESET for up, down in pairs]


def _scale(grey: Int64Array) -> int:
    """Tiny images are enlarged to about 16 columns."""
    return max(1, 16 // int(grey.shape[1]))


def columns(grey: Int64Array, *, blocks: bool, colour: bool) -> int:
    """How many columns ``image`` takes."""
    return int(grey.shape[1]) * (_scale(grey) if blocks and colour else 2)
