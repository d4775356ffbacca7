"""A batch on a local Dask cluster whose workers, and whose driver, are killed at random: rows lost, rows answered twice, wrong answers.

usage: scripts/bench cluster [--rows N] [--workers W] [--kills K] [--drivers D] [--seed S]
Rows are the bundled digits at radius 0 to 3, 20 s each. A killed worker is replaced by a new one; after a killed driver the same command
is given again. The verdicts are held against those of the same rows in this process.
"""

from __future__ import annotations

import argparse
import collections
import csv
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dask_processes import Cluster

from bvverify import examples
from bvverify.cli import batch_row
from bvverify.cli.batch_row import Task
from bvverify.load.instances import read_instances
from bvverify.pipeline import Options


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []


def key(answer: dict) -> tuple[str, str, str]:
    return answer["model"], answer["input"], answer["radius"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--drivers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, work = random.Random(args.seed), Path(tempfile.mkdtemp(prefix="bvverify-bench-"))
    rows, out = work / "rows.csv", work / "out.jsonl"
    models = [examples.path(name) for name in ("digits_mlp_qop.onnx", "digits_mlp_qdq.onnx", "digits_mlp.tflite")]
    asked = [(m, f"{examples.path(examples.IMAGES)}::{i}", radius) for radius in range(4) for m in models for i in range(20)][: args.rows]
    with rows.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "input", "label", "radius", "timeout"])
        writer.writerows([m, image, "", radius, 20] for m, image, radius in asked)
    # Whom to kill once so many rows have their line.
    places = sorted(
        (rng.randrange(1, len(asked)), kind) for kind, n in (("worker", args.kills), ("driver", args.drivers)) for _ in range(n)
    )
    killed: collections.Counter[str] = collections.Counter()
    started = time.monotonic()
    with Cluster(work, args.workers) as cluster:
        command = [sys.executable, "-m", "bvverify.cli", "batch", rows, "--output", out, "--cluster", cluster.address]

        def drive() -> subprocess.Popen:
            return subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)

        driver = drive()
        while driver.poll() is None:
            while places and len(lines(out)) >= places[0][0]:
                kind = places.pop(0)[1]
                killed[kind] += 1
                if kind == "worker":
                    cluster.add()
                    cluster.kill(rng.randrange(args.workers))
                else:
                    driver.send_signal(signal.SIGKILL)
                    driver.wait()
                    driver = drive()
            time.sleep(0.05)
    seconds, found = time.monotonic() - started, lines(out)
    print(f"{len(asked)} rows, {args.workers} workers, killed: {dict(killed)}; {seconds:.1f} s; exit code {driver.returncode}")
    times = collections.Counter(map(key, found))
    expected = {key(a): a for a in (batch_row.decide(Task(r, Options(), None)) for r in read_instances(rows))}
    lost = sum(k not in times for k in expected)
    # What time alone decides may come out either way.
    decided = [a for a in found if {a["verdict"], expected[key(a)]["verdict"]} <= {"verified", "falsified"}]
    wrong = sum(a["verdict"] != expected[key(a)]["verdict"] for a in decided)
    errors = [a["reason"] for a in found if a["verdict"] == "error"]
    twice = sum(n > 1 for n in times.values())
    print(f"lost {lost}, answered twice {twice}, wrong {wrong} of {len(decided)}, given up {len(errors)} {errors[:2]}")
    print(f"verdicts: {dict(collections.Counter(a['verdict'] for a in found))}")


main()
