"""One set of AAAI-21 and QVIP tasks by every engine: the pipeline, bit-vector solvers alone, ILP readings under HiGHS and CP-SAT.

usage: scripts/bench versus [--timeout S] [--jobs J] [--tasks N] [--engines NAME ...]
The set is fixed: 20 tasks of AAAI-21 and 5 of each of four blocks of QVIP's table 3, at equal distances; --tasks takes the first N in an
order that mixes them. An answer of an ILP reading is a claim: "robust" where its program is infeasible, "non-robust" only where the
input replays, "invented" where it does not. Two answers to one task that cannot both be right are a contradiction. Seconds are those of
the tasks with an answer, loading of libraries left out; of auto's "robust" they include the certificate and its check, the others take
their solver's word. smt:bitwuzla and cpsat:exact need pip install 'bvverify[bench]'.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import _cpsat
import _data
import numpy as np
from search import tasks

SMT = ("--engine", "smt", "--trust-solver", "--solver")
ENGINES = {
    "auto": ("--engine", "auto"),
    "smt:z3": (*SMT, "z3"),
    "smt:bitwuzla": (*SMT, "bitwuzla"),
    "ilp:exact": ("--engine", "ilp:exact"),
    "ilp:aaai24": ("--engine", "ilp:aaai24"),
    "ilp:qvip": ("--engine", "ilp:qvip"),
    "cpsat:exact": None,
}
"""By name, what ``bvverify batch`` is told; CP-SAT is no engine of it."""
BLOCKS = ("P1-4:6", "P1-6:10", "P1-8:6", "P3-6:4")


def chosen(folder: Path) -> list[dict]:
    """The 40 tasks, every kind of them in each stretch of the list."""
    aaai21 = spread(tasks(folder, "aaai21"), 20)
    blocks = [spread(tasks(folder, block), 5) for block in BLOCKS]
    qvip = [row for several in zip(*blocks, strict=True) for row in several]
    return [row for pair in zip(aaai21, qvip, strict=True) for row in pair]


def spread(rows: list[dict], count: int) -> list[dict]:
    """``count`` rows at equal distances."""
    return rows[:: len(rows) // count][:count]


def run(engine: str, rows: list[dict], timeout: float, jobs: int) -> tuple[dict[tuple[str, ...], dict], float]:
    """The answers of one engine by task, and the seconds of wall clock."""
    work = Path(tempfile.mkdtemp(prefix="bvverify-bench-"))
    with (work / "instances.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "input", "label", "radius", "timeout", "semantics"])
        writer.writerows([r["model"], r["input"], r["label"], r["radius"], timeout, r["semantics"]] for r in rows)
    started = time.monotonic()
    options = ENGINES[engine]
    if options is None:
        answers = _cpsat.run(work / "instances.csv", timeout, jobs)
    else:
        command = [sys.executable, "-m", "bvverify.cli", "batch", work / "instances.csv", "--output", work / "out.jsonl"]
        subprocess.run([*command, "--jobs", str(jobs), *options], check=True, stdout=subprocess.DEVNULL)
        answers = [json.loads(line) for line in (work / "out.jsonl").read_text().splitlines()]
    wall = time.monotonic() - started
    return {(a["model"], a["input"], str(a["radius"])): a for a in answers}, wall


def kind(answer: dict) -> str:
    """``robust``, ``non-robust``, ``invented`` or ``open``; ``misclassified`` and ``error`` as they are."""
    verdict, reason = answer["verdict"], answer.get("reason") or ""
    if verdict == "unknown":
        return "robust" if "claims that there is no violation" in reason else "invented" if "does not replay" in reason else "open"
    return {"verified": "robust", "falsified": "non-robust"}.get(verdict, verdict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timeout", type=float, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    args = parser.parse_args()
    for name, there in (("smt:bitwuzla", find_spec("bitwuzla")), ("cpsat:exact", find_spec("ortools"))):
        if name in args.engines and there is None:
            print(f"{name} is left out: it needs pip install 'bvverify[bench]'")
            args.engines.remove(name)
    rows = chosen(_data.require())[: args.tasks]
    seen: dict[tuple[str, ...], dict[str, str]] = {}
    print(f"{len(rows)} tasks, {args.timeout:g} s each, {args.jobs} at a time; seconds are those of tasks with an answer")
    columns = ("robust", "non-robust", "invented", "open", "misclassified", "error")
    print(f"{'engine':12} {'answered':>9} " + " ".join(f"{c:>13}" for c in columns) + f" {'median s':>9} {'mean s':>7} {'wall s':>7}")
    for engine in args.engines:
        answers, wall = run(engine, rows, args.timeout, args.jobs)
        kinds = {task: kind(a) for task, a in answers.items()}
        for task, what in kinds.items():
            if what in ("robust", "non-robust"):
                seen.setdefault(task, {})[engine] = what
        counts = [sum(k == c for k in kinds.values()) for c in columns]
        seconds = [a["seconds"] for task, a in answers.items() if kinds[task] in ("robust", "non-robust")] or [float("nan")]
        cells = " ".join(f"{c:>13}" for c in counts)
        answered = f"{counts[0] + counts[1]}/{len(rows) - counts[4]}"
        print(f"{engine:12} {answered:>9} {cells} {np.median(seconds):>9.2f} {np.mean(seconds):>7.2f} {wall:>7.1f}", flush=True)
    parted = {task: said for task, said in seen.items() if len(set(said.values())) > 1}
    print(f"contradictions: {len(parted) or None}")
    for (model, source, radius), said in parted.items():
        print(f"  {Path(model).name} {source.rpartition('::')[2]} radius {radius}: {said}")


if __name__ == "__main__":
    main()
