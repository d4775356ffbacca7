"""Flipped bits under a box of inputs: decided for each layer's weights, seconds, proofs checked again.

usage: scripts/bench bitflip [NETWORK ...] [--zoo DIR] [--images N] [--radius R] [--bits N ...] [--parameters M] [--timeout S] [--all]
NETWORK is digits (bundled), or one of scripts/train_zoo (mlp100, ...). --all: any parameter of the network, biases too, instead of the
weights of one layer at a time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from bvverify import examples
from bvverify.bitflip import proof_file
from bvverify.bitflip.ask import Question
from bvverify.bitflip.search import search
from bvverify.bitflip.single import predicted
from bvverify.cli.question import read_input
from bvverify.load import arrays
from bvverify.load.load import load
from bvverify.model.box import around
from bvverify.model.network import Network
from bvverify.model.ops import Conv2d, Dense

ROOT = Path(__file__).resolve().parents[2]


def subject(name: str, zoo: Path, images: int) -> tuple[Network, list[np.ndarray], np.ndarray]:
    """The network, inputs and their labels: the first that it classifies right."""
    if name == "digits":
        model, file = examples.path("digits_mlp_qop.onnx"), examples.path(examples.IMAGES)
    else:
        model, file = zoo / f"{name}.onnx", zoo / "test.npz"
        if not file.is_file():
            sys.exit(f"{zoo}: the zoo is not there; make it with scripts/train_zoo (Fashion-MNIST: Debian's dataset-fashion-mnist)")
    network, labels = load(model), np.load(file)["labels"]
    inputs: list[np.ndarray] = []
    chosen: list[int] = []
    for i in range(len(arrays.read(str(file)))):
        x = read_input(network, f"{file}::{i}").x
        if predicted(network, x) == labels[i] and len(inputs) < images:
            inputs.append(x)
            chosen.append(int(labels[i]))
    return network, inputs, np.array(chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["digits", "mlp100"])
    parser.add_argument("--zoo", type=Path, default=ROOT / "build" / "zoo")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--radius", type=int, default=1)
    parser.add_argument("--bits", type=int, nargs="+", default=[1])
    parser.add_argument("--parameters", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--all", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"radius {args.radius}, up to {args.parameters} parameters, {args.timeout:g} s each")
    print(f"{'network':10} {'hit':16} {'bits':>4}  decided  verified  falsified  median s   max s  check s  by stage")
    for name in args.networks:
        network, inputs, labels = subject(name, args.zoo, args.images)
        layers = [op.name for op in network.ops if isinstance(op, Dense | Conv2d)]
        blocks = [("all", ("weight", "bias"), None)] if args.all else [(layer, ("weight",), (layer,)) for layer in layers]
        for hit, kinds, chosen in blocks:
            for bits in args.bits:
                seconds, checks, how = [], [], Counter()
                for x, label in zip(inputs, labels.tolist(), strict=True):
                    box = around(x, args.radius, network.input.tensor.qtype)
                    asked = Question(network, box, label, kinds, chosen, bits, args.parameters)
                    begun = time.monotonic()
                    found = search(asked, x, args.timeout)
                    seconds.append(time.monotonic() - begun)
                    how[found.verdict, found.stage] += 1
                    if found.verdict == "verified":
                        begun = time.monotonic()
                        proof_file.checked(asked, found.steps, found.certificates)
                        checks.append(time.monotonic() - begun)
                by = Counter({v: sum(n for (w, _), n in how.items() if w == v) for v in ("verified", "falsified")})
                print(
                    f"{name:10} {hit:16} {bits:>4}  {by.total():3} of {len(inputs):<3}{by['verified']:8} {by['falsified']:10}"
                    f"  {statistics.median(seconds):8.2f}  {max(seconds):6.1f}  {max(checks, default=0):7.2f}  "
                    + ", ".join(f"{n} {v} by {s}" for (v, s), n in sorted(how.items())),
                    flush=True,
                )


main()
