"""Fixed-point networks as Keras .h5 files of float32 weights.

They are those of AAAI-21 (Henzinger, Lechner, Zikelic) and QVIP (Zhang et al., ASE 2022).

The file holds float weights; the network is what comes out of quantising them, with Q the width:

* the input is an unsigned integer of I bits, all of them fractional;
* a weight is clipped to ``[-2^(Q-1), 2^(Q-1) - 1] / 2^(Q-1)``, multiplied by ``2^(Q-1)`` and rounded half *away from zero* (the authors'
  ``quantize_int``; half to even gives another network);
* a bias likewise with Q-2 fractional bits, then shifted left to the accumulator's scale;
* the accumulator is exact, with (input's fractional bits + Q - 1) fractional bits;
* a hidden layer clips to ``[0, 2^Q - 1]`` (this is the ReLU), the last one to ``[-2^(Q-1), 2^(Q-1) - 1]``; both with Q-2 fractional bits.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.errors import InputError, UnsupportedError
from bvverify.load import hdf5
from bvverify.load.profile import FixedPoint
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Dense
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import AnyArray, Int64Array, QType, Tensor


def load_fixed_point(path: Path, content: bytes, profile: FixedPoint) -> Network:
    """The fully connected network of a Keras .h5 file, quantised to ``profile.bits``."""
    layers = _read_layers(path, content)
    bits, fraction = profile.bits, profile.input_bits
    tensors = [Tensor("input", (layers[0][1].shape[0],), QType(profile.input_bits, signed=False))]
    ops = []
    for index, (name, kernel, bias) in enumerate(layers):
        if kernel.shape[0] != tensors[-1].shape[0]:
            raise InputError(f"{path}: layer {name} takes {kernel.shape[0]} values, the layer before it gives {tensors[-1].shape[0]}")
        last = index == len(layers) - 1
        qtype = QType(bits, signed=last)
        staircase = Staircase(ShiftHalfUp(fraction + 1), qtype.lo, qtype.hi)
        weight, shift = quantise(kernel, bits, bits - 1), quantise(bias, bits, bits - 2) << (fraction + 1)
        ops.append(Dense.of(name, index, weight.T, shift, staircase, accumulator_bits=None))
        tensors.append(Tensor(name, (kernel.shape[1],), qtype))
        fraction = bits - 2
    provenance = Provenance(str(path), "fixed-point h5", str(profile), hashlib.sha256(content).hexdigest())
    output = Output(len(ops), (1, *tensors[-1].shape))
    return Network(Input(tensors[0], (1, *tensors[0].shape)), tuple(ops), tuple(tensors), output, provenance)


def quantise(values: AnyArray, bits: int, fraction: int) -> Int64Array:
    """Float weights to ``bits``-bit signed integers with ``fraction`` fractional bits, half away from zero.

    Exact in float64: a float32 times a power of two, plus a half.
    """
    scaled = np.clip(values.astype(np.float64) * 2.0**fraction, -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)
    return (np.sign(scaled) * np.floor(np.abs(scaled) + 0.5)).astype(np.int64)


def _read_layers(path: Path, content: bytes) -> list[tuple[str, AnyArray, AnyArray]]:
    declared, arrays = hdf5.read(path, content)
    names = declared or sorted({name.split("/")[0] for name in arrays}, key=_natural)
    layers = []
    for name in names:
        mine = {key: value for key, value in arrays.items() if key.startswith(name + "/")}
        if not mine:
            continue  # dropout and flatten hold no weights
        kernels = [value for key, value in mine.items() if "kernel" in key.rsplit("/", 1)[-1]]
        biases = [value for key, value in mine.items() if "bias" in key.rsplit("/", 1)[-1]]
        if len(kernels) != 1 or len(biases) != 1 or len(mine) != 2:
            raise UnsupportedError(f"{path}: layer {name} holds {', '.join(sorted(mine))}; only dense layers with kernel and bias are read")
        layers.append((name, *_checked(path, name, kernels[0], biases[0])))
    if not layers:
        raise InputError(f"{path}: holds no layer with weights; Keras' save_weights writes what is read here")
    return layers


def _checked(path: Path, name: str, kernel: AnyArray, bias: AnyArray) -> tuple[AnyArray, AnyArray]:
    if kernel.ndim != 2 or bias.shape != kernel.shape[1:] or not kernel.size:
        raise UnsupportedError(f"{path}: layer {name} has a kernel of shape {kernel.shape} and a bias of shape {bias.shape}; dense only")
    if kernel.dtype.kind != "f" or bias.dtype.kind != "f" or not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
        raise InputError(f"{path}: layer {name} holds weights that are no finite floats")
    return kernel, bias


def _natural(name: str) -> list[Any]:
    """Sorts dense_10 behind dense_9, and dense before dense_1."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
