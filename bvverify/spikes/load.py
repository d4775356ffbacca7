"""Reads the authors' weights: ``T_IN_HIDDEN_OUT_weights_L.npy``, float64, one file a layer; (out, 28, 28) or (out, in, 1)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from bvverify.errors import InputError
from bvverify.load import arrays
from bvverify.model.types import Int64Array
from bvverify.spikes.network import Spiking

THRESHOLD = 100
GRID = 20
_LARGEST = 2**62


def load(path: Path, *, strict: bool = True, grid: int = GRID, steps: int | None = None) -> Spiking:
    """A network from one of its files, or from what their names share; ``steps`` where the name does not begin with it.

    ``InputError`` names the file and the mend.
    """
    stem = re.sub(r"_weights_\d+\.npy$", "", path.name)
    files: list[Path] = []
    while (file := path.with_name(f"{stem}_weights_{len(files)}.npy")).is_file():
        files.append(file)
    if not files:
        raise InputError(
            f"{path}: there is no {stem}_weights_0.npy; give one of the network's files NAME_weights_0.npy, NAME_weights_1.npy, …"
        )
    if steps is None:
        told = re.match(r"(\d+)_", stem)
        if told is None:
            raise InputError(f"{files[0]}: the name does not begin with the number of time steps, as in 20_784_50_10; give --steps")
        steps = int(told[1])
    if steps < 3:
        raise InputError(f"{files[0]}: {steps} time steps leave none at which a neuron can spike; at least 3 are needed")
    weights: list[Int64Array] = []
    for file in files:
        weight = _weight(file, grid)
        if weights and weight.shape[1] != len(weights[-1]):
            raise InputError(f"{file}: {weight.shape[1]} inputs, but the layer before has {len(weights[-1])} neurons")
        weights.append(weight)
    return Spiking(stem, tuple(weights), THRESHOLD << grid, steps, grid, strict)


def _weight(file: Path, grid: int) -> Int64Array:
    real = arrays.read(str(file))
    if real.dtype.kind != "f" or real.ndim < 2 or not real.size or not np.isfinite(real).all():
        raise InputError(f"{file}: finite weights of floats are expected, shaped (neurons, inputs …)")
    # What is too large for float64 becomes infinite, and is refused with what is too large for sums of 64 bits.
    with np.errstate(over="ignore"):
        scaled = np.rint(np.ldexp(real.reshape(len(real), -1).astype(np.float64), grid))
        largest = float(np.abs(scaled).sum(axis=1).max())
    if not largest < _LARGEST:
        raise InputError(f"{file}: sums of its weights leave 64 bits on a grid of 2^-{grid}; give a coarser --grid")
    return scaled.astype(np.int64)
