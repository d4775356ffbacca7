"""The complete engine on AAAI-21 and QVIP tasks: by stage, seconds, nodes, certificates and their check, beside what was published.

usage: scripts/bench search [BLOCK ...] [--timeout S] [--jobs J] [--first N] [--prototype]
BLOCK is aaai21 or NETWORK:RADIUS of QVIP's table 3 (P1-4:2, P3-6:10, ...); without one, aaai21. Certificates are checked again in a
process of its own, without torch or z3. --prototype runs ../shared/prototype on the same tasks, in one thread.
"""

from __future__ import annotations

import argparse
import collections
import csv
import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _data
import numpy as np
from _check import check


def tasks(folder: Path, block: str) -> list[dict]:
    """Rows with model, image, label, radius, semantics and the published verdicts."""
    idx = gzip.decompress((folder / "images/mnist_t10k_labels.idx1.gz").read_bytes())
    labels = {
        "mnist": np.frombuffer(idx, np.uint8, offset=8),
        "fashion-mnist": np.load(folder / "images/fashion_mnist_test_first400.npz")["labels"],
    }
    out = []
    if block == "aaai21":
        for row in csv.DictReader((folder / "tasks/aaai21.csv").open()):
            published = {row["smt_aaai21"], row["ilp_qvip"]} & {"robust", "non-robust"}
            out.append((f"{row['network']}.h5", 6, row["dataset"], int(row["sample"]), row["radius"], published))
    else:
        network, radius = block.split(":")
        file, bits = _data.NETWORKS[network]
        for row in csv.DictReader((folder / "tasks/qvip_table3.csv").open()):
            if row["network"] == network and row["radius"] == radius:
                # Only the rows of P1-4 fit their sample numbers: see the benchmarks' README.
                published = {row["published_verdict"]} & {"robust", "non-robust"} if network == "P1-4" else set()
                out.append((file, bits, "mnist", int(row["sample"]), radius, published))
    return [
        {
            "model": folder / "nets" / file,
            "input": f"{folder / 'images' / _data.IMAGES[dataset]}::{sample}",
            "label": labels[dataset][sample],
            "radius": radius,
            "semantics": f"fixed-point:bits={bits},input_bits=8",
            "published": published,
        }
        for file, bits, dataset, sample, radius, published in out
    ]


def run(block: str, rows: list[dict], timeout: float, jobs: int) -> None:
    work = Path(tempfile.mkdtemp(prefix="bvverify-bench-"))
    with (work / "instances.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "input", "label", "radius", "timeout", "semantics"])
        writer.writerows([r["model"], r["input"], r["label"], r["radius"], timeout, r["semantics"]] for r in rows)
    started = time.time()
    command = [Path(sys.executable).with_name("bvverify"), "batch", work / "instances.csv", "--output", work / "out.jsonl"]
    subprocess.run([*command, "--jobs", str(jobs), "--certificates", work / "certificates"], check=True)
    wall = time.time() - started
    answers = {(a["model"], a["input"], a["radius"]): a for a in map(json.loads, (work / "out.jsonl").read_text().splitlines())}
    results = [answers[str(r["model"]), r["input"], r["radius"]] | {"published": r["published"]} for r in rows]
    report(block, results, wall)
    check([a for a in results if a["verdict"] == "verified"])


def report(block: str, results: list[dict], wall: float) -> None:
    asked = [a for a in results if a["verdict"] != "misclassified"]
    decided = [a for a in asked if a["verdict"] in ("verified", "falsified")]
    wrong = [
        (a["input"], a["radius"], a["verdict"])
        for a in decided
        if {"verified": "non-robust", "falsified": "robust"}[a["verdict"]] in a["published"]
    ]
    seconds, nodes = [a["seconds"] for a in asked], [a["nodes"] for a in asked if a["nodes"]]
    stages = collections.Counter(f"{a['verdict']} by {a['stage']}" for a in decided)
    published = sum(bool(a["published"]) for a in asked)
    print(f"{block}: decided {len(decided)} of {len(asked)}, published {published}, contradictions {wrong or None}")
    print(f"  {', '.join(f'{count} {name}' for name, count in sorted(stages.items()))}")
    times = f"median {np.median(seconds):.4f} mean {np.mean(seconds):.3f} max {max(seconds):.2f}"
    print(f"  seconds a task: {times}; {wall:.1f} s of wall clock in all")
    if nodes:
        print(f"  nodes where there was a search: median {int(np.median(nodes))} max {max(nodes)}, {len(nodes)} tasks")
    by_stage = collections.Counter()
    for a in asked:
        by_stage.update(a["stages"])
    print(f"  seconds by stage: {', '.join(f'{name} {total:.1f}' for name, total in by_stage.most_common())}", flush=True)


def prototype(block: str, first: int, timeout: float) -> None:
    folder = _data.FOLDER.parent / "prototype"
    if not folder.is_dir():
        print("  prototype: not here")
        return
    command = [sys.executable, "run.py", block, str(first), str(timeout)]
    out = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    print(f"  prototype, one thread: {out.stdout.strip()}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("blocks", nargs="*", default=["aaai21"])
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--first", type=int, default=10**9)
    parser.add_argument("--prototype", action="store_true")
    args = parser.parse_args()
    folder = _data.require()
    for block in args.blocks:
        run(block, tasks(folder, block)[: args.first], args.timeout, args.jobs)
        if args.prototype:
            prototype(block, args.first, args.timeout)


if __name__ == "__main__":
    main()
