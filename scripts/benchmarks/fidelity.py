"""`run` against ONNX Runtime and LiteRT in each kernel mode, on random networks and single layers: mismatches, ties included.

usage: scripts/bench fidelity [--networks N] [--inputs N] [--accumulators N] [--only onnx|tflite|formulas]

Requantisations that no runtime here computes are held against their formulas; PyTorch's are in fidelity_torch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import _requantisations
import numpy as np
import onnx_networks
from _litert import litert

from bvverify.load.load import load
from bvverify.run import interpreter, oracle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--accumulators", type=int, default=1_000_000, help="for each requantisation, and each kind of layer of LiteRT")
    parser.add_argument("--only", choices=("onnx", "tflite", "formulas"))
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bvverify-bench-"))
    if args.only in (None, "onnx"):
        onnx(args, folder)
        _requantisations.onnxruntime(args.accumulators)
    if args.only in (None, "tflite"):
        litert(args, folder)
    if args.only in (None, "formulas"):
        _requantisations.formulas(args.accumulators)


def onnx(args: argparse.Namespace, folder: Path) -> None:
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
    print(f"onnxruntime: {wrong} mismatches in {outputs} outputs of {args.networks} networks, {time.time() - started:.0f} s")


main()
