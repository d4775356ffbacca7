"""`run` against ONNX Runtime on random QOperator and QDQ networks: mismatches, ties included.

usage: scripts/bench fidelity [--networks N] [--inputs N]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx_networks

from bvverify.load.load import load
from bvverify.run import interpreter, oracle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--inputs", type=int, default=1000)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bvverify-bench-"))
    started, wrong, outputs = time.time(), 0, 0
    for seed in range(args.networks):
        content, shape = onnx_networks.model(seed)
        path = folder / f"{seed}.onnx"
        path.write_bytes(content)
        network = load(path)
        x = onnx_networks.inputs(np.random.default_rng(seed), shape, args.inputs)
        expected = oracle.ask(network, x)
        got = interpreter.declared_output(network, interpreter.run(network, interpreter.quantise_input(network, x)))
        differ = int((got != expected).sum())
        if differ:
            print(f"network {seed}: {differ} of {expected.size} outputs differ")
        wrong, outputs = wrong + differ, outputs + expected.size
        path.unlink()
    print(f"{wrong} mismatches in {outputs} outputs of {args.networks} networks, {time.time() - started:.0f} s")


main()
