"""The interpreter against LiteRT: random networks, and accumulators next to the steps of single layers."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import tflite_networks

from bvverify.load.load import load
from bvverify.run import interpreter, oracle_litert

_MODES = ("tflite-reference", "tflite-optimised", "tflite-xnnpack")
_OFFSETS = np.arange(-12, 13)


class _Tally:
    """Mismatches between the interpreter and LiteRT, over files; and the requantisations that the files had."""

    def __init__(self) -> None:
        self.started, self.wrong, self.outputs, self.names = time.time(), 0, 0, set[str]()

    def compare(self, path: Path, content: bytes, mode: str, x: np.ndarray) -> None:
        path.write_bytes(content)
        network = load(path, mode)
        expected = oracle_litert.ask(network, x)
        got = interpreter.declared_output(network, interpreter.run(network, interpreter.quantise_input(network, x)))
        path.unlink()
        differ = int((got != expected).sum())
        if differ:
            print(f"{path.stem}: {differ} of {expected.size} outputs differ", flush=True)
        self.wrong, self.outputs = self.wrong + differ, self.outputs + expected.size
        self.names.update(network.requantisations())

    def report(self, what: str, of: str) -> None:
        names = ", ".join(sorted(self.names))
        print(f"{what}: {self.wrong} mismatches in {self.outputs} {of}, {time.time() - self.started:.0f} s ({names})", flush=True)


def litert(args: argparse.Namespace, folder: Path) -> None:
    for mode in _MODES:
        tally = _Tally()
        for seed in range(args.networks):
            content, shape = tflite_networks.model(seed)
            x = tflite_networks.inputs(np.random.default_rng(seed), shape, args.inputs)
            tally.compare(folder / f"{mode}-{seed}.tflite", content, mode, x)
        tally.report(mode, f"outputs of {args.networks} networks")
        for kind in ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"):
            tally, seed = _Tally(), 0
            while tally.outputs < args.accumulators:
                rng, per_channel = np.random.default_rng(seed), seed % 4 == 0
                path = folder / f"{mode}-{kind}-{seed}.tflite"
                channels = 200 if per_channel or kind == "DEPTHWISE_CONV_2D" else 4000
                content, x = tflite_networks.at_thresholds(rng, path, kind, mode, per_channel, channels)
                # An input is one unit of every accumulator: the steps themselves, and what lies around them.
                tally.compare(path, content, mode, np.clip(x + _OFFSETS.reshape(-1, 1), -128, 127).astype(np.int8))
                seed += 1
            tally.report(f"{mode} {kind}", "accumulators at steps")
