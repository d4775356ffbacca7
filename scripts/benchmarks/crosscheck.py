"""Published verdicts of AAAI-21 and QVIP against exact ones: claimed, ours, confirmed, refuted, decided here only, seconds.

usage: scripts/bench crosscheck [BLOCK ...] [--timeout S] [--jobs J] [--output FOLDER]
BLOCK is aaai21, qvip_table3, NETWORK or NETWORK:RADIUS of QVIP's table 3 (P1-8, P3-8:20, ...); without one, everything. --output keeps
the lines (a second run goes on from them) and a page for each table.

"wrong" is how many published robust verdicts of a block must be wrong in whatever order its rows stand: more are published than samples of
the block are left that were not falsified here. It counts where rows do not fit their sample numbers (P1-6 and P3).
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import _data

_COLUMNS = ("network", "radius", "source", "robust/not", "ours", "confirmed", "refuted", "wrong", "here only", "undecided", "seconds")


def table(folder: Path, name: str, blocks: list[str], work: Path) -> Path | None:
    """The rows of a table that belong to the blocks, as a table of their own; None where there are none."""
    with (folder / "tasks" / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = [r for r in rows if not blocks or {name.removesuffix(".csv"), r["network"], f"{r['network']}:{r['radius']}"} & set(blocks)]
    if not wanted:
        return None
    with (work / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, wanted[0])
        writer.writeheader()
        writer.writerows(wanted)
    return work / name


def crosscheck(folder: Path, claims: Path, work: Path, timeout: float, jobs: int) -> dict:
    command = [Path(sys.executable).with_name("bvverify"), "crosscheck", claims, "--benchmarks", folder, "--json"]
    files = ["--output", work / f"{claims.stem}.jsonl", "--html", work / f"{claims.stem}.html"]
    run = subprocess.run([*command, *files, "--timeout", str(timeout), "--jobs", str(jobs)], stdout=subprocess.PIPE, text=True)
    if run.returncode not in (0, 5, 10):
        sys.exit(f"bvverify crosscheck {claims} ended with {run.returncode}")
    return json.loads(run.stdout)


def line(group: dict) -> tuple[str, ...]:
    claimed, ours, status = (group[name] for name in ("claimed", "ours", "statuses"))
    # A published robust verdict can only stand on a sample that is verified or undecided here.
    could = ours.get("verified", 0) + ours.get("unknown", 0)
    return (
        group["model"].removesuffix(".h5").removeprefix("qvip_"),
        group["radius"],
        group["source"],
        f"{claimed.get('verified', 0)}/{claimed.get('falsified', 0)}",
        f"{ours.get('verified', 0)}/{ours.get('falsified', 0)}",
        str(status.get("confirmed", 0)),
        str(status.get("refuted", 0)),
        str(max(0, claimed.get("verified", 0) - could)),
        str(status.get("decided here only", 0)),
        str(status.get("undecided", 0)),
        f"{group['seconds']:.1f}",
    )


def report(name: str, found: dict) -> None:
    rows = [_COLUMNS, *map(line, found["groups"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    print(f"{name}: {found['claims']} claims, {found['counts']['refuted']} refuted, {found['seconds']:.1f} s of wall clock")
    for row in rows:
        print(
            "  " + "  ".join(f"{cell:<{w}}" if i in (0, 2) else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        )
    wrong = sum(int(row[_COLUMNS.index("wrong")]) for row in rows[1:])
    print(f"  published robust verdicts that must be wrong, in whatever order the rows of a block stand: {wrong}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("blocks", nargs="*")
    parser.add_argument("--timeout", type=float, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    folder = _data.require()
    work = args.output or Path(tempfile.mkdtemp(prefix="bvverify-crosscheck-"))
    work.mkdir(parents=True, exist_ok=True)
    asked = False
    for name in ("aaai21.csv", "qvip_table3.csv"):
        claims = table(folder, name, args.blocks, work)
        if claims is not None:
            asked = True
            report(name, crosscheck(folder, claims, work, args.timeout, args.jobs))
    if not asked:
        sys.exit(f"no row of the tables belongs to {' '.join(args.blocks)}")


main()
