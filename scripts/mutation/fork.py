"""Tests against a mutant, each in a fork of one warm process.

Importing torch, Z3 and the rest takes seconds, a fork milliseconds. Before the first fork everything is imported that a mutant of the file
cannot change: the libraries, and of bvverify the modules that do not import the file, directly or by way of others. In the fork the file's
module is made from the mutant's text instead of the file; nothing is written to the checkout.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grimp
import hypothesis
import pytest

LIBRARIES = ["numpy", "torch", "z3", "onnx", "onnx.helper", "onnx.reference", "h5py", "PIL.Image", "rich.console", "typer", "vnnlib",
             "onnxruntime", "ai_edge_litert.interpreter", "flatbuffers", "highspy", "pysat.solvers", "dratify", "bitwuzla"]  # fmt: skip
_MEMORY = 6 << 30
"""Bytes of address space that a mutant may take beyond the warm process: some shift by huge numbers."""


class _Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes one module from a text."""

    def __init__(self, module: str, file: Path, text: str) -> None:
        self.module, self.file, self.text = module, file, text

    def find_spec(self, fullname: str, path: object, target: object = None) -> Any:
        return importlib.util.spec_from_file_location(fullname, self.file, loader=self) if fullname == self.module else None

    def exec_module(self, module: Any) -> None:
        exec(compile(self.text, str(self.file), "exec"), module.__dict__)


class Warm:
    """A process that tests mutants of one file; ``tests`` are paths for pytest, in the order in which they are tried."""

    def __init__(self, root: Path, file: str, tests: Sequence[str]) -> None:
        self.root, self.file, self.tests = root, root / file, list(tests)
        self.module = file.removesuffix(".py").replace("/", ".")
        for name in LIBRARIES:
            importlib.import_module(name)
        sys.modules["torch"].set_num_threads(1)
        graph = grimp.build_graph("bvverify")
        changed = {self.module, *graph.find_downstream_modules(self.module)}
        for name in sorted(graph.modules - changed):
            if not name.startswith("bvverify.cli") and not name.endswith("__main__"):
                importlib.import_module(name)
        assert self.module not in sys.modules, "as long as the module is not there, nothing imported rests on it"
        hypothesis.settings.register_profile("mutants", derandomize=True, database=None, deadline=None, max_examples=25)
        hypothesis.settings.load_profile("mutants")

    def test(self, text: str, limit: float) -> tuple[str, float, str]:
        """``survived``, ``killed`` or ``timed out``, the seconds that it took, and the end of what pytest printed."""
        start, (reading, writing) = time.monotonic(), os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            self._child(text, writing)
        os.close(writing)
        os.set_blocking(reading, False)
        said, status = b"", None
        while status is None and time.monotonic() - start < limit:
            done, code = os.waitpid(child, os.WNOHANG)
            said = _read(reading, said)
            if done:
                status = os.waitstatus_to_exitcode(code)
            else:
                time.sleep(0.02)
        _end(child)
        if status is None:
            os.waitpid(child, 0)
        said = _read(reading, said)
        os.close(reading)
        if status == pytest.ExitCode.NO_TESTS_COLLECTED:
            raise SystemExit(f"mutants: {self.tests} hold no tests")
        outcome = "timed out" if status is None else "killed" if status else "survived"
        return outcome, time.monotonic() - start, said.decode(errors="replace")

    def _child(self, text: str, writing: int) -> None:
        try:
            os.setsid()
            os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (now + _MEMORY, now + _MEMORY))
            sys.meta_path.insert(0, _Instead(self.module, self.file, text))
            code = pytest.main(["-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", f"--rootdir={self.root}", *self.tests])
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
            code = 1
        os._exit(code)


def _read(pipe: int, said: bytes) -> bytes:
    try:
        while more := os.read(pipe, 1 << 16):
            said = (said + more)[-4000:]
    except BlockingIOError:
        pass
    return said


def _end(child: int) -> None:
    """End the fork and what it has started; its session has its number."""
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
