"""A mutation run: small faults put into the code one at a time, each of which a test must notice.

Prints for each folder how many mutants there are, how many a test killed, how many ran out of time (an endless loop is noticed as well),
how many the list tests/mutants.toml explains, and each survivor with its change. Exits with 1 if one is left that is neither killed nor
explained. A run that was stopped goes on where it was: what has been killed stays so while the mutated file reads alike, what survived
while the tests do; --fresh forgets both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mutation.explained import Explained, read
from mutation.mutants import Mutant, of_file

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "build" / "mutants.jsonl"
COLUMNS = f"{'':28} {'mutants':>8} {'killed':>8} {'timed out':>10} {'explained':>10} {'survivors':>10} {'score':>8} {'seconds':>8}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", help="folders or files of bvverify, as certify or model/requant.py (default: all in the list)")
    parser.add_argument("--sample", type=int, metavar="N", help="only N mutants of those, always the same ones")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs found")
    parser.add_argument("--list", action="store_true", help="print the mutants and test nothing")
    parser.add_argument("--again", action="store_true", help="test the survivors of earlier runs again and nothing else")
    return parser.parse_args()


def _digest(tests: Sequence[str]) -> str:
    """Of everything that the tests of a target are made of."""
    files = sorted(
        {f for t in tests for f in ([ROOT / t] if t.endswith(".py") else (ROOT / t).rglob("*.py"))} | set((ROOT / "tests").glob("*.py"))
    )
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()


def _known(fresh: bool) -> dict[str, dict[str, Any]]:
    if fresh:
        RESULTS.unlink(missing_ok=True)
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {record["key"]: record for record in map(json.loads, lines)}


def _test(file: str, tests: Sequence[str], mutants: Sequence[Mutant], digest: str) -> None:
    """Test mutants of one file, in a process of its own, and append what is found."""
    from mutation.fork import Warm

    warm = Warm(ROOT, file, tests)
    outcome, seconds, said = warm.test((ROOT / file).read_text(), 600)
    if outcome != "survived":
        raise SystemExit(f"mutants: the tests of {file} fail without a mutant\n{said}")
    limit = 3 * seconds + 10
    with RESULTS.open("a") as out:
        for mutant in mutants:
            outcome, seconds, said = warm.test(mutant.text, limit)
            place = {"file": file, "function": mutant.function, "line": mutant.line, "change": mutant.change}
            by = next((line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))), "")
            print(
                json.dumps({"key": mutant.key, "outcome": outcome, "seconds": round(seconds, 2), "tests": digest, "by": by, **place}),
                file=out,
            )
            out.flush()


def _row(name: str, of: Sequence[Mutant], known: dict[str, dict[str, Any]], explained: Explained) -> tuple[str, list[Mutant]]:
    outcomes = [known[m.key]["outcome"] if m.key in known else "untested" for m in of]
    left = [m for m, o in zip(of, outcomes, strict=True) if o in ("survived", "untested")]
    survivors = [m for m in left if not explained.reason(m)]
    killed, late = outcomes.count("killed"), outcomes.count("timed out")
    counted = killed + late + len(survivors)
    score = f"{100 * (killed + late) / counted:7.1f}%" if counted else f"{'':>8}"
    seconds = sum(known[m.key]["seconds"] for m in of if m.key in known)
    text = f"{name:28} {len(of):8} {killed:8} {late:10} {len(left) - len(survivors):10} {len(survivors):10} {score} {seconds:8.0f}"
    return text, survivors


def main() -> int:
    arguments = _arguments()
    targets, explained = read(ROOT / "tests" / "mutants.toml")
    RESULTS.parent.mkdir(exist_ok=True)
    known = _known(arguments.fresh)
    wanted = [f"bvverify/{path.removeprefix('bvverify/').rstrip('/')}" for path in arguments.paths]
    files = [f for f in sorted(targets.files(ROOT)) if not wanted or any(f == w or f.startswith(f"{w}/") for w in wanted)]
    if not files:
        sys.exit(f"mutants: none of {arguments.paths} is in tests/mutants.toml")
    mutants = {file: list(of_file(ROOT / file, ROOT)) for file in files}
    if arguments.sample is not None:
        chosen = {m.key for m in sorted((m for of in mutants.values() for m in of), key=lambda m: m.key)[: arguments.sample]}
        mutants = {file: [m for m in of if m.key in chosen] for file, of in mutants.items()}
    if arguments.list:
        for m in (m for of in mutants.values() for m in of):
            print(f"{m.file}:{m.number} {m.function} | {m.line} | {m.change}")
        return 0
    folders: dict[str, list[Mutant]] = {}
    for file, of in mutants.items():
        tests = targets.tests(file)
        digest = _digest(tests)
        due = [m for m in of if _due(m, known.get(m.key), digest, explained, arguments.again)]
        if due:
            process = multiprocessing.get_context("spawn").Process(target=_test, args=(file, tests, due, digest))
            process.start()
            process.join()
            if process.exitcode:
                return 2
            known = _known(False)
        folders.setdefault(file.split("/")[1], []).extend(of)
        print(_row(file.removeprefix("bvverify/"), of, known, explained)[0], file=sys.stderr, flush=True)
    print(COLUMNS)
    survivors: list[Mutant] = []
    for folder, of in folders.items():
        row, left = _row(folder, of, known, explained)
        survivors += left
        print(row)
    if len(folders) > 1:
        print(_row("all", [m for of in folders.values() for m in of], known, explained)[0])
    for m in survivors:
        state = "survived" if m.key in known else "untested"
        print(f"\n{state}: {m.file}:{m.number} {m.function}\n  change = {m.change!r}\n{m.diff((ROOT / m.file).read_text())}")
    unused = [] if wanted or arguments.sample is not None else explained.unused([m for of in mutants.values() for m in of])
    for line in unused:
        print(f"\nin tests/mutants.toml, but no such mutant: {line}")
    return 1 if survivors or unused else 0


def _due(mutant: Mutant, record: dict[str, Any] | None, digest: str, explained: Explained, again: bool) -> bool:
    if record is None:
        return not again
    return record["outcome"] == "survived" and record["tests"] != digest and not explained.reason(mutant)
