"""Spiking networks: decided at each delta, seconds, proofs checked again; verdicts on the Iris networks against enumeration.

usage: scripts/bench spikes [NETWORK ...] [--images N] [--delta D ...] [--timeout S] [--iris N]
NETWORK is one of the published 20_784_50_10 and 256_784_128_10 (both without one); the first N correctly classified MNIST test images.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from pathlib import Path

import _data
import numpy as np
from sklearn.datasets import load_iris
from tiny_spikes import scalar, violates

from bvverify.load import arrays
from bvverify.spikes import kernel
from bvverify.spikes.ask import Question, replays
from bvverify.spikes.load import load
from bvverify.spikes.network import Spiking, predicted, run, spike_times
from bvverify.spikes.search import search

MNIST, IRIS = ("20_784_50_10", "256_784_128_10"), ("20_4_10_3", "5_4_10_3")


def digits(folder: Path, name: str, images: int, deltas: list[int], timeout: float) -> None:
    """One line for each delta."""
    network = load(folder / "snn" / name)
    values = arrays.read(str(folder / "images" / _data.IMAGES["mnist"]))[:500].reshape(500, -1).astype(np.int64)
    labels = arrays.read(str(folder / "images/mnist_t10k_labels.idx1.gz"))[:500].astype(np.int64)
    times = spike_times(values, network.steps)
    right = np.flatnonzero(predicted(run(network, times)[-1]) == labels)
    real = np.load(folder / "snn" / f"{name}_weights_0.npy"), np.load(folder / "snn" / f"{name}_weights_1.npy")
    fine = predicted(floats(real, times, network.steps))
    print(f"{name}: {len(right) / 5:.1f}% of 500 images on the grid 2^-{network.grid}, {(fine == labels).mean():.1%} in floats")
    print(f"{'delta':>5}  decided  verified  falsified  {'median s':>8}  {'max s':>6}  {'check s':>8}  {'max':>6}  by stage")
    for delta in deltas:
        seconds, checks, how = [], [], Counter()
        for i in right[:images]:
            asked = Question(network, times[i], int(labels[i]), delta, None, True)
            begun = time.monotonic()
            found = search(asked, timeout)
            seconds.append(time.monotonic() - begun)
            how[found.verdict, found.stage] += 1
            if found.witness is not None and not replays(asked, found.witness):
                raise SystemExit(f"image {i}: the witness does not replay")
            if found.verdict == "verified":
                begun = time.monotonic()
                kernel.check(asked, [step.listed() for step in found.tree])
                checks.append(time.monotonic() - begun)
        by = Counter({v: sum(n for (w, _), n in how.items() if w == v) for v in ("verified", "falsified")})
        print(
            f"{delta:5}  {by.total():3} of {len(seconds):3}  {by['verified']:5}  {by['falsified']:8}  {statistics.median(seconds):8.3f}"
            f"  {max(seconds):6.1f}  {sum(checks):8.1f}  {max(checks, default=0):6.1f}  "
            + ", ".join(f"{n} {v} by {s}" for (v, s), n in sorted(how.items())),
            flush=True,
        )


def floats(weights: tuple[np.ndarray, ...], times: np.ndarray, steps: int) -> np.ndarray:
    """Output times in float64, as the authors compute them."""
    for weight in weights:
        found = np.full((len(times), len(weight)), steps - 1)
        for t in range(steps - 2, 0, -1):
            found[(times < t) @ weight.reshape(len(weight), -1).T > 100] = t
        times = found
    return times


def iris(folder: Path, name: str, samples: int) -> None:
    """Every delta to 4, both thresholds and both readings of ties, against enumeration from the definition."""
    data = load_iris().data
    values = np.rint((data - data.min(axis=0)) / np.ptp(data, axis=0) * 255).astype(np.int64)
    grid = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 4, indexing="ij"), -1).reshape(-1, 4)
    verdicts: Counter[str] = Counter()
    for strict in (True, False):
        network: Spiking = load(folder / "snn" / name, strict=strict)
        for times in spike_times(values[:: len(values) // samples], network.steps):
            near = times + grid[np.abs(grid).sum(axis=1) <= 4]
            near = near[((near >= 0) & (near < network.steps)).all(axis=1)]
            outputs = [scalar(network, x) for x in near.tolist()]
            label = scalar(network, times.tolist())[1]
            for delta in range(5):
                for ties in (True, False):
                    asked = Question(network, times, label, delta, None, ties)
                    false = any(violates(asked, *o) for o, x in zip(outputs, near, strict=True) if np.abs(x - times).sum() <= delta)
                    found = search(asked, 60)
                    if found.verdict != ("falsified" if false else "verified"):
                        raise SystemExit(f"{name}: {found.verdict}, but enumeration says otherwise: {times}, delta {delta}")
                    if found.witness is None:
                        kernel.check(asked, [step.listed() for step in found.tree])
                    verdicts[found.verdict] += 1
    print(f"{name}: {verdicts.total()} verdicts equal enumeration ({dict(verdicts)})", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=MNIST)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--delta", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--iris", type=int, default=50, help="samples of the Iris networks")
    told = parser.parse_args()
    folder = _data.require()
    for name in IRIS if told.iris else ():
        iris(folder, name, told.iris)
    for name in told.networks:
        digits(folder, name, told.images, told.delta, told.timeout)


if __name__ == "__main__":
    main()
