"""One instance of VNN-COMP: the answer in the first line of the results file, a counterexample below ``sat``.

The file says ``timeout`` from the beginning, so that whatever ends this process leaves an answer that is true. SIGTERM, Ctrl-C and an
alarm at the time limit end the search.
"""

from __future__ import annotations

import argparse
import ast
import os
import signal
import sys
import time
from pathlib import Path

BEGUN = time.monotonic()
RESERVE = 1.0
"""Seconds that are kept back for checking and writing."""
STOPPED: list[int] = []
LONG = 10 * 365 * 86_400


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prepare", action="store_true", help="look whether the files are there, and end")
    parser.add_argument("category", help="the benchmark's name; no option depends on it")
    parser.add_argument("model", type=model_path, help="an ONNX file, or [('name', 'file')] as benchmarks of VNN-LIB 2 write it")
    parser.add_argument("property", type=Path)
    parser.add_argument("results", type=Path, nargs="?")
    parser.add_argument("seconds", type=seconds, nargs="?")
    try:
        arguments = parser.parse_args()
    except SystemExit as stop:
        return 1 if stop.code else 0
    if arguments.prepare:
        missing = [str(p) for p in (arguments.model, arguments.property) if not p.is_file()]
        if missing:
            print(f"prepare_instance: {', '.join(missing)}: no such file", file=sys.stderr)
        return 2 if missing else 0
    if arguments.seconds is None:
        print("run_instance: CATEGORY MODEL PROPERTY RESULTS SECONDS", file=sys.stderr)
        return 1
    return run(arguments.model, arguments.property, arguments.results, arguments.seconds)


def model_path(text: str) -> Path:
    """The file of a model; where networks are named, of the only one."""
    if not text.lstrip().startswith("["):
        return Path(text)
    try:
        ((_, path),) = ast.literal_eval(text)
        return Path(path)
    except (ValueError, SyntaxError, TypeError):
        raise argparse.ArgumentTypeError(f"{text}: bvverify decides about one network") from None


def seconds(text: str) -> float:
    """A time limit."""
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit <= LONG:
        raise argparse.ArgumentTypeError(f"{text}: a time limit is a positive number of seconds")
    return limit


def run(model: Path, property_file: Path, results: Path, limit: float) -> int:
    """Decide, and leave the answer in ``results``."""
    try:
        put(results, "timeout\n")
    except OSError as error:
        print(f"run_instance: {results}: cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    try:
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, stop)
        signal.setitimer(signal.ITIMER_REAL, limit)
        answer = decided(model, property_file, limit)
        # From here on nothing interrupts; a complete file takes the place of the other in one step.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        put(results, answer + "\n")
    except KeyboardInterrupt:
        answer = "timeout"
    except OSError as error:
        print(f"run_instance: {results}: cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    # Whatever else escapes is a bug, which must not look like a time limit.
    except Exception:
        if not STOPPED:
            put(results, "error\n")
            raise
        answer = "timeout"
    print(answer.partition("\n")[0])
    return 0


def stop(number: int, frame: object) -> None:
    """End the search; a library in the middle of its import may make another exception of it."""
    STOPPED.append(number)
    raise KeyboardInterrupt


def decided(model: Path, property_file: Path, limit: float) -> str:
    """``sat`` with its counterexample, ``unsat``, ``unknown``, ``timeout``, or ``error`` with the reason on stderr."""
    # A limit that runs out while this is imported has to end the process as well.
    from bvverify.errors import BvverifyError

    try:
        return answered(model, property_file, limit)
    except BvverifyError as error:
        print(f"run_instance: {' '.join(str(error).split())}", file=sys.stderr)
        return "error"


def answered(model: Path, property_file: Path, limit: float) -> str:
    from bvverify.load import property_file as properties
    from bvverify.load.assignment import assignment
    from bvverify.load.load import load
    from bvverify.model.query import Query
    from bvverify.model.result import Verdict
    from bvverify.pipeline import Options, decide_all

    network = load(model)
    queries = [Query(network, box, prop) for box, prop in properties.read(property_file, network)]
    if not queries:
        return "unsat"  # every box of the file is empty
    left = max(limit - (time.monotonic() - BEGUN) - min(RESERVE, limit / 4), 0.1)
    result = decide_all(queries, Options(timeout=left, threads=len(os.sched_getaffinity(0))))
    match result.verdict:
        case Verdict.VERIFIED:
            return "unsat"
        case Verdict.FALSIFIED:
            assert result.witness is not None
            return "sat\n" + assignment(property_file, network, result.witness.input, result.witness.output)
        case Verdict.UNKNOWN:
            return "timeout" if result.open is not None and result.open.ran_out == "time" else "unknown"


def put(path: Path, text: str) -> None:
    """Replace the file in one step, where it is a file."""
    if path.exists() and not path.is_file():
        path.write_text(text)
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(path)


if __name__ == "__main__":
    sys.exit(main())
