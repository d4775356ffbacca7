"""One live line on a terminal while a question is decided; nothing at all in a pipe.

The line appears only when an answer takes longer than a moment, so that easy questions do not pay for importing rich.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.status import Status

_PATIENCE = 0.4


class ProgressLine:
    """A context manager; call it with (stage, one short line) as the pipeline's ``Progress``."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._latest = "starting"
        self._status: Status | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._timer = threading.Timer(_PATIENCE, self._show)
        self._timer.daemon = True

    def __enter__(self) -> ProgressLine:
        if sys.stderr.isatty():
            self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()
        with self._lock:
            self._closed = True
            if self._status is not None:
                self._status.stop()

    def __call__(self, stage: str, text: str) -> None:
        """Show what ``stage`` is doing."""
        self._latest = f"{stage}: {text}" if text else stage
        if self._status is not None:
            self._status.update(self._line())

    def _line(self) -> str:
        return f"{self._latest} ({time.monotonic() - self._started:.0f} s)".replace("[", r"\[")

    def _show(self) -> None:
        from rich.console import Console

        with self._lock:
            if not self._closed:
                self._status = Console(stderr=True).status(self._line())
                self._status.start()
