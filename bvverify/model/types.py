"""Integer types and tensors.

Every number in a bvverify network is an integer of a declared width. A ``QType`` says which integers a tensor may hold;
``Quantisation`` says which real number such an integer stands for, and is carried along for printing and for the
float ends of a model file only: no verdict is computed from a real number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Int64Array = NDArray[np.int64]
Float32Array = NDArray[np.float32]
AnyArray = NDArray[Any]


@dataclass(frozen=True, slots=True)
class QType:
    """A fixed-width integer type of 2 to 16 bits, two's complement when signed."""

    bits: int
    signed: bool

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise ValueError(f"a tensor's type has 2 to 16 bits, not {self.bits}")

    @property
    def lo(self) -> int:
        """The smallest value of the type."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def hi(self) -> int:
        """The largest value of the type."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def __str__(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.bits}"


def union(a: QType, b: QType) -> QType:
    """The narrowest type that holds the values of both."""
    if a == b:
        return a
    lo, hi = min(a.lo, b.lo), max(a.hi, b.hi)
    return next(t for t in (QType(bits, lo < 0) for bits in range(2, 17)) if t.lo <= lo and hi <= t.hi)


UINT8 = QType(8, signed=False)
INT8 = QType(8, signed=True)


Rounding = Literal["divide-half-even", "divide-half-away", "multiply-half-even", "multiply-add-half-even"]
"""How a quantiser makes integers of float32: ``rne(fl(x / scale))`` (ONNX), ``away(fl(x / scale))`` and ``rne(fl(x * fl(1 / scale)))``
(LiteRT), then plus the zero point; or ``rne(fma(x, fl(1 / scale), zero_point))`` (PyTorch)."""


@dataclass(frozen=True, slots=True)
class Quantisation:
    """The real number that an integer stands for: ``real = (q - zero_point) * scale``.

    ``scale`` is the value of a float32 (held as a Python float, exactly). ``rounding`` matters where the model's file begins in float only.
    """

    scale: float
    zero_point: int
    rounding: Rounding = "divide-half-even"


@dataclass(frozen=True, slots=True)
class Cells:
    """A quantiser that is no division: a real number is the integer that counts the ``starts`` at or below it.

    ``starts`` are float32 values, ascending. Two quantisers have such cells in common (``bvverify.compare.align``).
    """

    starts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """What is known of a tensor before any input is: its name, shape (without the batch axis), type and meaning."""

    name: str
    shape: tuple[int, ...]
    qtype: QType
    quantisation: Quantisation | None = None

    @property
    def size(self) -> int:
        """Number of elements of one input's tensor."""
        return int(np.prod(self.shape, dtype=np.int64))


def frozen_array(values: Any, dtype: Any) -> AnyArray:
    """A read-only, contiguous copy of ``values``; operations hold nothing else, so that frozen means frozen."""
    array = np.array(values, dtype=dtype, order="C", copy=True)
    array.setflags(write=False)
    return array
