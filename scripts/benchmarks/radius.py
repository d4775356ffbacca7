"""The largest radius that verifies and the smallest that falsifies: adjacent or not, seconds, and both sides checked again.

usage: scripts/bench radius [NETWORK ...] [--samples N] [--timeout S] [--jobs J] [--keep FOLDER]
NETWORK is digits (the bundled one, on scikit-learn's images that it was not trained on) or one of QVIP's (P1-4, P1-6, P1-8, P3-6,
P3-8, on the first samples of its table 3); without one, digits and P1-4. Certificates are checked in a process of its own, without torch
or z3; witnesses are run again here.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _data
import numpy as np
from _check import check
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from bvverify import examples
from bvverify.cli.question import read_input
from bvverify.load.load import load
from bvverify.radii import Around
from bvverify.run.replay import violates

DIGITS = "digits"


def unseen(folder: Path) -> Path:
    """scikit-learn's digits that scripts/train_digits keeps for testing, as its networks take them."""
    digits = load_digits()
    images = (digits.images.astype(np.float32) / 16).reshape(-1, 1, 8, 8)
    _, test, _, labels = train_test_split(images, digits.target, test_size=400, random_state=0, stratify=digits.target)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "digits.npz", images=test, labels=labels.astype(np.int64))
    return folder / "digits.npz"


def rows(network: str, samples: int, work: Path) -> list[dict]:
    """Model, image and semantics of each sample."""
    if network == DIGITS:
        images = unseen(work)
        return [
            {"model": examples.path("digits_mlp_qop.onnx"), "input": f"{images}::{i}", "semantics": ""} for i in range(min(samples, 400))
        ]
    folder = _data.require()
    file, bits = _data.NETWORKS[network]
    numbers = dict.fromkeys(
        int(row["sample"]) for row in csv.DictReader((folder / "tasks/qvip_table3.csv").open()) if row["network"] == network
    )
    image = folder / "images" / _data.IMAGES["mnist"]
    semantics = f"fixed-point:bits={bits},input_bits=8"
    return [{"model": folder / "nets" / file, "input": f"{image}::{i}", "semantics": semantics} for i in list(numbers)[:samples]]


def run(network: str, asked: list[dict], timeout: float, jobs: int, work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    with (work / "instances.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "input", "label", "radius", "timeout", "semantics"])
        writer.writerows([r["model"], r["input"], "", "max", timeout, r["semantics"]] for r in asked)
    started = time.time()
    command = [sys.executable, "-m", "bvverify.cli", "batch", work / "instances.csv", "--output", work / "out.jsonl"]
    subprocess.run([*command, "--jobs", str(jobs), "--certificates", work / "certificates"], check=True)
    report(network, [json.loads(line) for line in (work / "out.jsonl").read_text().splitlines()], time.time() - started)


def report(network: str, answers: list[dict], wall: float) -> None:
    failed = [a for a in answers if a["verdict"] == "error"]
    answers = [a for a in answers if a["verdict"] != "error"]
    found = [a for a in answers if a["verdict"] == "found"]
    print(f"{network}: adjacent {len(found)} of {len(answers)}, errors {failed or None}, {wall:.1f} s of wall clock")
    print(f"  largest radius that verifies: {', '.join(str(a['verified']) for a in found)}")
    for a in answers:
        if a["verdict"] != "found":
            print(f"  {Path(a['input']).name}: verified {a['verified']}, falsified {a['falsified']}: {a['reason']}")
    seconds, nodes = [a["seconds"] for a in answers], [a["nodes"] for a in answers]
    times = f"median {np.median(seconds):.2f} mean {np.mean(seconds):.2f} max {max(seconds):.2f}"
    print(f"  seconds a sample: {times}; nodes: median {int(np.median(nodes))} max {max(nodes)}")
    print(
        f"  witnesses that replay at exactly their radius: {sum(map(replays, answers))} of {sum(a['witness'] is not None for a in answers)}"
    )
    check([a for a in answers if a["certificate"]])


def replays(answer: dict) -> bool:
    """Whether the witness has another class, at exactly the distance that is falsified."""
    if answer["witness"] is None:
        return False
    net = load(Path(answer["model"]), answer["semantics"])
    around = Around.of(net, read_input(net, answer["input"]).x)
    x = np.array(answer["witness"]).reshape(around.x.shape)
    query = around.query(answer["falsified"])
    return around.distance(x) == answer["falsified"] and bool(violates(query, x[None])[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=[DIGITS, "P1-4"])
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="keep the answers and certificates in this folder; go on where an earlier run stopped")
    args = parser.parse_args()
    keep = args.keep or Path(tempfile.mkdtemp(prefix="bvverify-bench-"))
    for network in args.networks:
        run(network, rows(network, args.samples, keep / network), args.timeout, args.jobs, keep / network)


main()
