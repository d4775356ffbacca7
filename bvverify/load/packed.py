"""Compressed files, unpacked within a limit: a few bytes can unpack to more than any machine holds."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib

MOST = 2 << 30
"""Bytes that a compressed file may unpack to; the largest files of inputs hold a few hundred megabytes."""


def gunzip(content: bytes) -> bytes:
    """The contents of a .gz file; ``ValueError`` where it is none, is cut off, or unpacks to more than ``MOST`` bytes."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            data = file.read(MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"is no whole .gz file: {error}") from error
    if len(data) > MOST:
        raise ValueError(f"unpacks to more than {MOST >> 20} MiB")
    return data


def check_archive(content: bytes) -> None:
    """``ValueError`` for an .npz file that unpacks to more than ``MOST`` bytes; what is no archive is left to the reader."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, UnicodeDecodeError):
        return
    if total > MOST:
        raise ValueError(f"unpacks to more than {MOST >> 20} MiB")
