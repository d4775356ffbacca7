"""The 700 tasks of AAAI-21 through `bvverify batch`: decided by which stage, seconds, contradictions with what was published.

usage: scripts/bench aaai21 [--timeout S] [--jobs J] [--first N] [--keep OUT.jsonl]
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


def labels(folder: Path) -> dict[str, np.ndarray]:
    idx = gzip.decompress((folder / "images/mnist_t10k_labels.idx1.gz").read_bytes())
    fashion = np.load(folder / "images/fashion_mnist_test_first400.npz")["labels"]
    return {"mnist": np.frombuffer(idx, np.uint8, offset=8), "fashion-mnist": fashion}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timeout", type=float, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--first", type=int, default=10**9)
    parser.add_argument("--keep", type=Path, help="keep the results here")
    args = parser.parse_args()
    folder = _data.require()
    truth = labels(folder)
    with (folder / "tasks/aaai21.csv").open() as file:
        tasks = list(csv.DictReader(file))[: args.first]
    work = Path(tempfile.mkdtemp(prefix="bvverify-bench-"))
    out = args.keep or work / "out.jsonl"
    with (work / "instances.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "input", "label", "radius", "timeout", "semantics"])
        for row in tasks:
            image = f"{folder / 'images' / _data.IMAGES[row['dataset']]}::{row['sample']}"
            label = truth[row["dataset"]][int(row["sample"])]
            model = folder / "nets" / f"{row['network']}.h5"
            writer.writerow([model, image, label, row["radius"], args.timeout, "fixed-point:bits=6,input_bits=8"])
    started = time.time()
    command = [Path(sys.executable).with_name("bvverify"), "batch", work / "instances.csv", "--output", out, "--jobs", str(args.jobs)]
    subprocess.run(command, check=True)
    wall = time.time() - started
    results = {(r["model"], r["input"], r["radius"]): r for r in map(json.loads, out.read_text().splitlines())}
    report(folder, tasks, results, wall)


def report(folder: Path, tasks: list[dict[str, str]], results: dict[tuple[str, str, str], dict], wall: float) -> None:
    blocks: dict[tuple[str, str], list[dict]] = collections.defaultdict(list)
    contradictions, columns = [], []
    for row in tasks:
        image = f"{folder / 'images' / _data.IMAGES[row['dataset']]}::{row['sample']}"
        result = results[(str(folder / "nets" / f"{row['network']}.h5"), image, row["radius"])]
        blocks[row["dataset"], row["radius"]].append(result)
        published = {row["smt_aaai21"], row["ilp_qvip"]} & {"robust", "non-robust"}
        opposite = {"verified": "non-robust", "falsified": "robust"}.get(result["verdict"])
        if opposite in published:
            contradictions.append((row["dataset"], row["sample"], row["radius"], result["verdict"], sorted(published)))
        name = result["stage"] if result["verdict"] in ("verified", "falsified") else result["verdict"]
        result["column"] = f"{result['verdict']} ({name})" if result["verdict"] == "falsified" else name
        if result["column"] not in columns:
            columns.append(result["column"])
    columns.sort()
    print(f"{'dataset':14} {'radius':>6} {'tasks':>6} " + " ".join(f"{c:>20}" for c in columns) + f" {'median s':>9} {'max s':>7}")
    for (dataset, radius), block in sorted(blocks.items()):
        count = collections.Counter(r["column"] for r in block)
        seconds = [r["seconds"] for r in block if r["verdict"] != "misclassified"] or [0.0]
        cells = " ".join(f"{count[c]:>20}" for c in columns)
        print(f"{dataset:14} {radius:>6} {len(block):>6} {cells} {np.median(seconds):>9.4f} {max(seconds):>7.2f}")
    everything = [r for block in blocks.values() for r in block]
    decided = sum(r["verdict"] in ("verified", "falsified") for r in everything)
    asked = sum(r["verdict"] != "misclassified" for r in everything)
    print(f"decided {decided} of {asked}, misclassified {len(everything) - asked}, {wall:.1f} s of wall clock")
    print(f"contradictions with a published verdict: {contradictions or None}")


main()
