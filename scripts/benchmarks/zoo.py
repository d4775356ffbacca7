"""The zoo (scripts/train_zoo) on its first test images: decided at each radius, by which stage, seconds, and the root bounds' share.

usage: scripts/bench zoo [NETWORK ...] [--zoo DIR ...] [--radius N ...] [--first N] [--timeout S] [--jobs J]

How much is decided hangs on the networks: of several zoos (scripts/train_zoo --seed N --output DIR) each has a line, and all together one.
"""

from __future__ import annotations

import argparse
import collections
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _check import check

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["mlp100", "mlp3x100", "cnn", "cnn_adversarial", "mlp5x256"])
    parser.add_argument("--zoo", type=Path, nargs="+", default=[ROOT / "build" / "zoo"])
    parser.add_argument("--radius", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--first", type=int, default=100)
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    for zoo in args.zoo:
        if not (zoo / "test.npz").is_file():
            sys.exit(f"{zoo}: the zoo is not there; make it with scripts/train_zoo (Fashion-MNIST: Debian's dataset-fashion-mnist)")
    print(f"{'network':16} {'radius':>6} {'asked':>6} {'decided':>8} {'share':>6}  median s   max s  by stage")
    for network in args.networks:
        for radius in args.radius:
            everything = []
            for zoo in args.zoo:
                started = time.time()
                answers = _asked(zoo.resolve(), network, radius, args)
                _line(network, radius, answers, f"{time.time() - started:.0f} s" + (f", {zoo.name}" if len(args.zoo) > 1 else ""))
                check([a for a in answers if a["verdict"] == "verified"])
                everything += answers
            if len(args.zoo) > 1:
                _line(network, radius, everything, f"{len(args.zoo)} zoos together")


def _asked(zoo: Path, network: str, radius: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The answers about the images that are classified as they are labelled."""
    labels = np.load(zoo / "test.npz")["labels"]
    work = Path(tempfile.mkdtemp(prefix="bvverify-bench-"))
    with (work / "instances.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "input", "label", "radius", "timeout", "semantics"])
        for i in range(args.first):
            writer.writerow([zoo / f"{network}.onnx", f"{zoo / 'test.npz'}::{i}", labels[i], radius, args.timeout, ""])
    command = [Path(sys.executable).with_name("bvverify"), "batch", work / "instances.csv", "--output", work / "out.jsonl"]
    subprocess.run([*command, "--jobs", str(args.jobs), "--certificates", work / "certificates"], check=True, stderr=subprocess.DEVNULL)
    answers = [json.loads(line) for line in (work / "out.jsonl").read_text().splitlines()]
    return [a for a in answers if a["verdict"] != "misclassified"]


def _line(network: str, radius: int, asked: list[dict[str, Any]], more: str) -> None:
    decided = [a for a in asked if a["verdict"] in ("verified", "falsified")]
    stages = collections.Counter(f"{a['verdict']} by {a['stage']}" for a in decided)
    stages.update(a["reason"] for a in asked if a["verdict"] == "error")
    seconds = [a["seconds"] for a in asked]
    print(
        f"{network:16} {radius:>6} {len(asked):>6} {len(decided):>8} {len(decided) / len(asked):>6.1%} {np.median(seconds):>9.3f}"
        f" {max(seconds):>7.1f}  {', '.join(f'{n} {name}' for name, n in sorted(stages.items()))}; {more}",
        flush=True,
    )


main()
