"""A witness as an assignment of a VNN-LIB file's variables: what VNN-COMP and the solver interface of VNN-LIB 2 call a counterexample.

In version 1.0 ``((X_0 v) ... (Y_0 v))``; in version 2 the name, type and shape of each tensor in a line, then its values, one a line.
A real box is mapped through the model's quantiser, so that many reals stand for one integer: those that are written lie in the file's
own box.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from bvverify.load import property_file, vnnlib2
from bvverify.model.box import nearest_float32, quantise
from bvverify.model.network import Network
from bvverify.model.types import AnyArray, Float32Array, Int64Array
from bvverify.run.interpreter import declared_output
from bvverify.run.replay import file_input


def assignment(path: Path, network: Network, x: Int64Array, y: Int64Array) -> str:
    """The text, without a last line feed, for integer input ``x`` and output ``y`` (the tensors' shapes) that violate the file's property.

    Numbers are exact: the shortest decimals that float64 reads back.
    """
    inputs = _numbers(_given(path, network, x, y))
    outputs = _numbers(declared_output(network, y[None]))
    tensors = vnnlib2.tensors(property_file.text_of(path))
    if tensors is None:
        named = [f"(X_{i} {v})" for i, v in enumerate(inputs)] + [f"(Y_{i} {v})" for i, v in enumerate(outputs)]
        return "(" + "\n".join(named) + ")"
    lines: list[str] = []
    for kind, name, element, shape in tensors:
        lines += [f"{name} {element} [{','.join(map(str, shape))}]", *(inputs if kind == "X" else outputs)]
    return "\n".join(lines)


def _numbers(values: AnyArray) -> list[str]:
    return [repr(v) for v in np.asarray(values).ravel().tolist()]


def _given(path: Path, network: Network, x: Int64Array, y: Int64Array) -> AnyArray:
    """The input as the model's file takes it, inside the file's box wherever a float32 lies there that the quantiser maps to ``x``."""
    quantiser, qtype = network.input.quantiser, network.input.tensor.qtype
    middle = file_input(network, x).ravel()
    if quantiser is None:
        return middle
    flat = x.ravel()
    box = property_file.real_box(path, network, x, y)
    lo, hi = _single(box.lo, up=True), _single(box.hi, up=False)
    inside = np.clip(middle, lo, hi)
    # Where no float32 in the box does, the end itself does: it reaches the quantiser as the nearest float32.
    nearest = np.clip(middle, *(np.array([nearest_float32(v) for v in side], np.float32) for side in (box.lo, box.hi)))
    return np.where((quantise(inside, quantiser, qtype) == flat) & (lo <= hi), inside, nearest)


def _single(values: Sequence[Fraction], *, up: bool) -> Float32Array:
    """The float32 next to each rational, upwards or downwards."""
    out = np.array([nearest_float32(v) for v in values], np.float32)
    for i, value in enumerate(values):
        beyond = not np.isfinite(out[i])
        if beyond or (Fraction(float(out[i])) < value if up else Fraction(float(out[i])) > value):
            out[i] = np.nextafter(out[i], np.float32(np.inf if up else -np.inf))
    return out
