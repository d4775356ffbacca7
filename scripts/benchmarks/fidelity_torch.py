"""`run` against PyTorch's engines: accumulators at steps, single layers at the edges of their arithmetic, and whole modules.

usage: scripts/bench fidelity_torch [--layers N] [--modules N] [--inputs N] [--accumulators N] [--only ENGINE]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter

import _requantisations
import numpy as np
import torch
import torch_modules as tm

import bvverify
from bvverify.errors import UnsupportedError
from bvverify.model.box import dequantise
from bvverify.model.network import Network
from bvverify.model.types import Int64Array
from bvverify.run import interpreter, oracle_torch

LAYERS = ("linear", "conv", "grouped", "depthwise")
MODULES = {"mlp": (lambda _rng: tm.Mlp(), (64,)), "cnn": (tm.Cnn, (1, 8, 8)), "residual": (lambda _rng: tm.Residual(), (6,))}


def compare(network: Network, x: Int64Array) -> tuple[int, int]:
    """Outputs and mismatches."""
    expected = oracle_torch.ask(network, dequantise(x, network.input.quantiser))
    got = interpreter.declared_output(network, interpreter.run(network, x))
    return expected.size, int((got != expected).sum())


def made(kind: str, engine: str, seed: int) -> tuple[Network, tuple[int, ...]]:
    """A random layer or module, and its network."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    if kind in LAYERS:
        with tm.engine(engine):
            module, shape = tm.layer(rng, kind)
            return bvverify.load(module, torch.zeros(1, *shape)), shape
    make, shape = MODULES[kind]
    x = torch.randn(32, *shape)
    return bvverify.load(tm.quantised(make(rng), x, engine), x, f"pytorch-{engine}"), shape


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=150, help="of each kind")
    parser.add_argument("--modules", type=int, default=60, help="of each kind")
    parser.add_argument("--inputs", type=int, default=100)
    parser.add_argument("--accumulators", type=int, default=1_000_000, help="for each requantisation")
    parser.add_argument("--only", choices=tm.ENGINES, help="one engine")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*quantized tensor creation functions")
    print(f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    engines = [args.only] if args.only else list(tm.ENGINES)
    _requantisations.pytorch(engines, args.accumulators)
    for engine in engines:
        for kind in (*LAYERS, *MODULES):
            started, outputs, wrong, refused = time.time(), 0, 0, Counter()
            number = args.layers if kind in LAYERS else args.modules
            for seed in range(number):
                try:
                    network, shape = made(kind, engine, seed)
                except UnsupportedError as error:
                    refused[str(error).rpartition("): ")[2][:60]] += 1
                    continue
                size, differ = compare(network, np.random.default_rng(seed).integers(0, 256, (args.inputs, *shape)))
                outputs, wrong = outputs + size, wrong + differ
            networks, seconds = number - refused.total(), time.time() - started
            print(f"{engine:8} {kind:10} {wrong} mismatches in {outputs} outputs of {networks} networks, {seconds:.0f} s")
            for why, count in refused.items():
                print(f"{'':19} {count} refused: {why}")


main()
