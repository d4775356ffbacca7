"""Runs what the pages of the course show, and compares it with what they print; with ``--write`` puts the new output in its place.

A page is Markdown. What runs is in two kinds of fenced block:

* ``console``: lines ``$ COMMAND``, each followed by its output. ``bvverify ...`` is called in this process, everything else (and what
  stands behind a pipe or ``>``) by bash. A command without a pipe may end in ``; echo $?``, for its exit code.
* ``pycon``: an interactive Python session with ``>>>`` and ``...``; the blocks of a page share their variables.

Pages run in a temporary folder in which ``bvverify`` and ``encodings`` are the checkout's, so that what they write is theirs alone.
Outputs are compared to the letter, but for seconds and the versions of runtimes (``comparable``).
"""

from __future__ import annotations

import argparse
import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bvverify.cli import main as bvverify

ROOT = Path(__file__).parent.parent
PAGES = (*sorted((ROOT / "encodings" / "course").glob("*.md")), ROOT / "encodings" / "README.md")
_STATUS = "; echo $?"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a page runs: ``shown`` are its lines as the page has them, ``output`` those that follow."""

    language: str
    source: str
    shown: tuple[str, ...]
    output: tuple[str, ...]


def parse(text: str) -> list[str | Step]:
    """The page, in order: lines that are only read, and steps."""
    parts: list[str | Step] = []
    language, block = "", list[str]()
    for line in text.splitlines():
        if language and line == "```":
            parts += _steps(language, block)
            parts.append(line)
            language, block = "", []
        elif language:
            block.append(line)
        else:
            parts.append(line)
            if line in ("```console", "```pycon"):
                language = line[3:]
    if language:
        raise ValueError(f"a block of {language} does not end")
    return parts


def _steps(language: str, block: list[str]) -> Iterator[Step]:
    if language == "pycon":
        lines = [*block, ""]
        for example in doctest.DocTestParser().get_examples("\n".join(lines)):
            first = example.lineno
            shown = lines[first : first + example.source.count("\n")]
            yield Step(language, example.source, tuple(shown), tuple(example.want.splitlines()))
        return
    starts = [i for i, line in enumerate(block) if line.startswith("$ ")]
    if not starts or starts[0]:
        raise ValueError("a console block begins with a line '$ COMMAND'")
    for start, end in zip(starts, [*starts[1:], len(block)], strict=True):
        stop = start + 1
        while block[stop - 1].endswith("\\"):
            stop += 1
        source = "\n".join(block[start:stop])[2:].replace("\\\n", " ")
        yield Step(language, source, tuple(block[start:stop]), tuple(block[stop:end]))


def run(text: str) -> str:
    """The page with the output that its steps have now; a line that is comparable to what the page says stays as it is."""
    lines, variables = list[str](), dict[str, Any]()
    with workplace():
        for part in parse(text):
            if isinstance(part, str):
                lines.append(part)
                continue
            now = _console(part.source) if part.language == "console" else _python(part.source, variables)
            lines += part.shown
            if [comparable(line) for line in now] == [comparable(line) for line in part.output]:
                lines += part.output
            else:
                lines += now
    return "\n".join(lines) + "\n"


def comparable(line: str) -> str:
    """A line of output without what differs from run to run and from machine to machine: seconds, and the versions of runtimes."""
    line = re.sub(r"\b\d+(\.\d+)? s\b", "N s", line)
    return re.sub(r"\b(onnxruntime|litert \(\w+\)) \d+(\.\d+)+", r"\1 N", line)


@contextlib.contextmanager
def workplace() -> Iterator[None]:
    """A temporary folder as the working folder, with the checkout's ``bvverify`` and ``encodings`` in it."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("bvverify", "encodings"):
            (Path(folder) / name).symlink_to(ROOT / name)
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def _console(command: str) -> list[str]:
    first, behind, rest = re.match(r"(.*?)(?: ([|>]) (.*))?$", command.removesuffix(_STATUS), re.DOTALL).groups()
    words = shlex.split(first)
    if words[0] != "bvverify":
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        return (done.stdout + done.stderr).splitlines()
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = bvverify(words[1:])
    said = out.getvalue()
    if behind:
        reader = rest if behind == "|" else f"cat > {rest}"
        said = subprocess.run(["bash", "-c", reader], input=said, capture_output=True, text=True, check=False).stdout
    said = err.getvalue() + said
    return said.splitlines() + ([str(code)] if command.endswith(_STATUS) else [])


def _python(source: str, variables: dict[str, Any]) -> list[str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(source, "page", "single"), variables)
    return out.getvalue().splitlines()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="Put the new output into the pages.")
    parser.add_argument("pages", nargs="*", type=Path, default=PAGES)
    arguments = parser.parse_args()
    stale = 0
    for page in arguments.pages:
        text = page.read_text()
        now = run(text)
        stale += now != text
        print(f"{page}: {'as it says' if now == text else 'differs'}")
        if now != text and arguments.write:
            page.write_text(now)
    return int(bool(stale) and not arguments.write)


if __name__ == "__main__":
    sys.exit(main())
