"""The commands put together, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import contextvars
import errno
import inspect
import json
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from bvverify._version import __version__
from bvverify.cli import (
    attack,
    batch,
    bitflip,
    check,
    compare,
    crosscheck,
    demo,
    doctor,
    exercise,
    explain,
    export,
    html,
    radius,
    replay,
    robust,
    run,
    spikes,
    trace,
    verify,
)
from bvverify.cli.interrupt import INTERRUPTED, Termination
from bvverify.cli.output import SCHEMA_VERSION, complain, emit, silence
from bvverify.errors import BvverifyError, InternalError, UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_TRACEBACK = "BVVERIFY_TRACEBACK"
# Typer and, before it, Click call it UsageError and do not export it from one stable place; BadParameter is its child in both.
_TyperUsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="bvverify",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich costs more to import than all the rest of --help
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        emit(f"bvverify {__version__}")
        raise typer.Exit


def _paragraphs(text: str) -> str:
    """Help text for typer, which fills paragraphs: those with an indented line are kept as they are."""
    parts = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(f"\b\n{part}" if any(line.startswith(" ") for line in part.splitlines()) else part for part in parts)


_HELP = """Decide properties of int8 neural networks, bit for bit.

  verified   no input of the box violates the property
  falsified  an input does; it was replayed by the exact interpreter and, where
             it is installed, by the runtime that ships the model
  unknown    something ran out; the reason says what

The verdict is the first line on stdout; --json prints one JSON object instead. Logs and progress go to stderr.

Start with: bvverify demo

Exit codes: 0 verified (or done), 10 falsified, 5 unknown, 1 wrong usage, 2 unreadable or unsupported input, 6 internal error.
130 after Ctrl-C and 143 after SIGTERM, with what is known so far; 1 as well where a file could not be saved.
"""


@app.callback(help=_paragraphs(_HELP))
def _bvverify(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Options before the command."""


_COMMANDS = (
    verify,
    robust,
    radius,
    attack,
    compare,
    bitflip,
    spikes,
    run,
    trace,
    explain,
    check,
    replay,
    html,
    export,
    batch,
    crosscheck,
    exercise,
    doctor,
    demo,
)
for _module in _COMMANDS:
    app.command(_module.NAME, help=_paragraphs(_module.command.__doc__ or ""))(_module.command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (without the program's name; ``sys.argv`` when None) and return the exit code.

    Prints what the program prints. Every error is one line on stderr, and with ``--json`` also an object on stdout;
    the environment variable ``BVVERIFY_TRACEBACK=1`` adds the traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    with Termination() as termination:
        # What an option permits for one command (--allow-pickle) ends with it, for a caller in the same process as well.
        code = contextvars.copy_context().run(_answered, arguments)
    if code != INTERRUPTED:
        return code
    complain("interrupted")
    return termination.exit_code


def _answered(arguments: list[str]) -> int:
    try:
        if not arguments:
            # A script whose variable is empty must not read this as exit code 0, "verified".
            _invoke(["--help"])
            return UsageError.exit_code
        return _invoke(arguments)
    except BvverifyError as error:
        return _fail(error, arguments)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except OSError as error:
        if error.errno not in _FULL:
            return _internal(error, arguments)
        silence()
        return _fail(UsageError(f"nothing can be written: {error.strerror}"), arguments)
    # The outermost handler: whatever else escapes is a bug in bvverify, and a bug must not look like a verdict.
    except Exception as error:
        return _internal(error, arguments)


def _invoke(arguments: list[str]) -> int:
    try:
        code = app(arguments, prog_name="bvverify", standalone_mode=False)
    except _TyperUsageError as error:
        message = str(getattr(error, "message", "")) or str(error)
        formatted = error.format_message() if hasattr(error, "format_message") else message
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "bvverify"
        raise UsageError(f"{formatted.rstrip('.')} (see {command} --help)") from None
    return int(code or 0)


def _internal(error: Exception, arguments: list[str]) -> int:
    hint = "" if os.environ.get(_TRACEBACK) else f" ({_TRACEBACK}=1 shows where)"
    return _fail(InternalError(f"internal error: {type(error).__name__}: {error}{hint}"), arguments)


def _fail(error: BvverifyError, arguments: list[str]) -> int:
    if os.environ.get(_TRACEBACK):
        traceback.print_exc()
    message = " ".join(str(error).split())
    if "--json" in arguments:
        kind = type(error).__name__
        # A stdout that takes nothing is what the error is about, or worse than it.
        with suppress(UsageError):
            emit(json.dumps({"schema_version": SCHEMA_VERSION, "error": kind, "message": message, "exit_code": error.exit_code}))
    complain(f"error: {message}")
    return error.exit_code
