"""The one tree of errors that a user can meet, and the exit code that each of them ends in.

``BvverifyError``
├── ``UsageError``            the question is wrong (exit code 1): a negative radius, an unknown semantics, an index out of range
├── ``InputError``            a file is unreadable or asks for something unsupported (exit code 2)
│   └── ``UnsupportedError``  an operator, attribute, type or constraint whose arithmetic bvverify does not model exactly
└── ``InternalError``         bvverify contradicts itself (exit code 6): a witness that does not replay, a reading that leaves its bound

Every message is one line that names the file, the place in it (node, row, line) and the mend. ``InternalError`` never
becomes ``unknown``: it is a bug, and it is loud.
"""

from __future__ import annotations

_LONGEST = 1500


class BvverifyError(Exception):
    """Root of the tree; ``exit_code`` is what the command line returns for it."""

    exit_code = 6

    def __str__(self) -> str:
        # A message quotes what it refuses, and a broken file can hold words of any length.
        text = super().__str__()
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


class UsageError(BvverifyError):
    """The command or the call is wrong, whatever the files hold."""

    exit_code = 1


class InputError(BvverifyError):
    """A file cannot be read as what it should be."""

    exit_code = 2


class UnsupportedError(InputError):
    """A file is readable, but holds something that bvverify does not model exactly."""


class InternalError(BvverifyError):
    """bvverify found a contradiction in its own answers."""

    exit_code = 6
