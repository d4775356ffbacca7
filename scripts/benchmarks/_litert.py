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


def litert(args: argparse.Namespace, folder: Path) -> None:
    for mode in _MODES:
        started, wrong, outputs = time.time(), 0, 0
        for seed in range(args.networks):
            content, shape = tflite_networks.model(seed)
            x = tflite_networks.inputs(np.random.default_rng(seed), shape, args.inputs)
            wrong, outputs = _add(wrong, outputs, _compare(folder / f"{mode}-{seed}.tflite", content, mode, x))
        print(f"{mode}: {wrong} mismatches in {outputs} outputs of {args.networks} networks, {time.time() - started:.0f} s", flush=True)
        for kind in ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"):
            started, wrong, outputs, seed = time.time(), 0, 0, 0
            while outputs < args.accumulators:
                rng, per_channel = np.random.default_rng(seed), seed % 4 == 0
                path = folder / f"{mode}-{kind}-{seed}.tflite"
                channels = 200 if per_channel or kind == "DEPTHWISE_CONV_2D" else 4000
                content, x = tflite_networks.at_thresholds(rng, path, kind, mode, per_channel, channels)
                # An input is one unit of every accumulator: the steps themselves, and what lies around them.
                x = np.clip(x + _OFFSETS.reshape(-1, 1), -128, 127).astype(np.int8)
                wrong, outputs = _add(wrong, outputs, _compare(path, content, mode, x))
                seed += 1
            print(f"{mode} {kind}: {wrong} mismatches in {outputs} accumulators next to steps, {time.time() - started:.0f} s", flush=True)


def _compare(path: Path, content: bytes, mode: str, x: np.ndarray) -> tuple[int, int]:
    path.write_bytes(content)
    network = load(path, mode)
    expected = oracle_litert.ask(network, x)
    got = interpreter.declared_output(network, interpreter.run(network, interpreter.quantise_input(network, x)))
    path.unlink()
    differ = int((got != expected).sum())
    if differ:
        print(f"{path.stem}: {differ} of {expected.size} outputs differ", flush=True)
    return differ, expected.size


def _add(wrong: int, outputs: int, more: tuple[int, int]) -> tuple[int, int]:
    return wrong + more[0], outputs + more[1]
