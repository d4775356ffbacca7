"""Writing to stdout and to files that a user named."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bvverify.errors import BvverifyError, UsageError

SCHEMA_VERSION = 1
"""Version of every JSON object that bvverify prints; a field that changes its meaning raises it."""


def emit(text: str) -> None:
    """Print ``text`` in one write; a reader that closed the pipe (``| head -1``) does not change the exit code.

    ``UsageError`` where the system refuses, such as on a full disk.
    """
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as error:
        silence()
        if not isinstance(error, BrokenPipeError):
            raise UsageError(f"stdout cannot be written: {error.strerror}") from error


def silence() -> None:
    """Give up on stdout: what is left in its buffer would fail again when the interpreter exits."""
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
    """Write a whole file, or leave what was there as it was; ``UsageError`` when the system refuses."""
    data = content.encode() if isinstance(content, str) else content
    try:
        if path.exists() and (not path.is_file() or not os.access(path.resolve().parent, os.W_OK)):
            path.write_bytes(data)  # a device, a pipe, or a file in a folder that takes no second one
        else:
            _replace(path.resolve(), data)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error


def _replace(path: Path, data: bytes) -> None:
    """A disk that is full half-way costs the new content only."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def settle(code: int, refused: BvverifyError | None) -> int:
    """The exit code of an answer that has been printed: ``code``, or that of a file beside it that could not be written."""
    if refused is None:
        return code
    complain(f"error: {refused}")
    return refused.exit_code


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def make_folder(path: Path) -> None:
    """Make a folder that a user named, unless it is there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: the folder cannot be made: {error.strerror}") from error
