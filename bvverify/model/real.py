"""A network over the real numbers: what a float file means before anybody rounds; weights are the float32 values, taken exactly.

Layers in a row; arrays are float32 and finite, so that each is a dyadic rational. Tensors are without a batch axis, images channels first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bvverify.model.ops import Window
from bvverify.model.types import Float32Array


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """``y = weight @ x + bias``; (out, in) and (out,)."""

    name: str
    weight: Float32Array
    bias: Float32Array


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """A convolution over (C, H, W) that pads with zeros; weight (out, in / groups, height, width), bias (out,)."""

    name: str
    weight: Float32Array
    bias: Float32Array
    window: Window
    groups: int


@dataclass(frozen=True, slots=True)
class Relu:
    """``max(0, x)``."""

    name: str


@dataclass(frozen=True, slots=True)
class Largest:
    """Maximum over a window of (C, H, W); padded positions never win."""

    name: str
    window: Window


@dataclass(frozen=True, slots=True)
class Shaped:
    """The same elements, row-major, in another shape."""

    name: str
    shape: tuple[int, ...]


RealOp = Affine | Convolution | Relu | Largest | Shaped


@dataclass(frozen=True, slots=True, eq=False)
class RealNetwork:
    """``shapes[i]`` is what layer i reads, ``shapes[-1]`` the output."""

    path: str
    sha256: str
    file_shape: tuple[int, ...]
    ops: tuple[RealOp, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def outputs(self) -> int:
        """How many."""
        return int(np.prod(self.shapes[-1]))
