"""Writing to stdout and to files that a user named."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bvverify.errors import UsageError

SCHEMA_VERSION = 1
"""Version of every JSON object that bvverify prints; a field that changes its meaning raises it."""


def emit(text: str) -> None:
    """Print ``text`` in one write; a reader that closed the pipe (``| head -1``) does not change the exit code."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer would fail again when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: str) -> None:
    """Print one line on stderr."""
    sys.stderr.write(f"bvverify: {text}\n")
    sys.stderr.flush()


def check_writable(path: Path | None, *suffixes: str) -> None:
    """Refuse an output path that cannot work before the work is done; ``suffixes`` are those that are understood (none: any)."""
    if path is None:
        return
    if suffixes and path.suffix not in suffixes:
        raise UsageError(f"{path}: an output file ends in {' or '.join(suffixes)}")
    if path.is_dir():
        raise UsageError(f"{path}: is a directory; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{path}: may not be written")


def write(path: Path, content: str | bytes) -> None:
    """Write a whole file; ``UsageError`` when the system refuses."""
    try:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def make_folder(path: Path) -> None:
    """Make a folder that a user named, unless it is there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: the folder cannot be made: {error.strerror}") from error
