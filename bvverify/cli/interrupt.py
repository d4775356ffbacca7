"""SIGTERM ends a command as Ctrl-C does: with what is known so far, and with its own exit code."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after SIGINT and SIGTERM: 128 and the signal's number, as shells have it."""


class Termination:
    """A context manager in which SIGTERM raises ``KeyboardInterrupt``; ``exit_code`` says which of the two came."""

    def __init__(self) -> None:
        self.exit_code = INTERRUPTED
        # Signals reach the main thread alone; what somebody else has set up is left alone.
        self._mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    def __enter__(self) -> Termination:
        if self._mine:
            signal.signal(signal.SIGTERM, self._stop)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.exit_code = TERMINATED
        raise KeyboardInterrupt
