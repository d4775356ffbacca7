"""What a tensor of an ONNX graph is while it is read: a constant, integers, reals that stand for integers, or a sum in the making."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bvverify.model.types import UINT8, AnyArray, Float32Array, Int64Array, QType


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """An initialiser, a constant, or what was computed from such."""

    array: AnyArray


@dataclass(frozen=True, slots=True, eq=False)
class ConstantReals:
    """Dequantised constants: integers, scales and zero points (flat), and the axis that several scales run along."""

    array: AnyArray
    scale: Float32Array
    zero_point: Int64Array
    axis: int


@dataclass(frozen=True, slots=True)
class FloatInput:
    """The graph's float input, perhaps reshaped or transposed on its way to its QuantizeLinear."""

    moves: tuple[Move, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """A reshape (``axes`` None) or a transposition of a tensor without its batch axis."""

    name: str
    shape: tuple[int, ...]
    axes: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Integers:
    """Tensor ``index`` of the network.

    ``shift`` is 128 where the file's int8 runs as uint8 (ONNX Runtime's QDQ optimiser moves signed pairs there): what is stored is the
    file's integer plus ``shift``, and every zero point that the file names for it moves along. ``runtime``
    is the type that the runtime holds.
    """

    index: int
    shape: tuple[int, ...]
    qtype: QType
    shift: int = 0
    runtime: QType = UINT8


@dataclass(frozen=True, slots=True)
class Reals:
    """Dequantised integers: ``f(fl((q - zero_point) * scale))``, f the pointwise functions applied since, in their order.

    ``zero_point`` is that of the stored integers (shifted along with them).
    """

    integers: Integers
    scale: float
    zero_point: int
    functions: tuple[Pointwise, ...] = ()


@dataclass(frozen=True, slots=True)
class Pointwise:
    """A float function of one element: relu, clip or leaky relu, in float32."""

    name: str
    kind: str
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """The QuantizeLinear that ends a fused operator: float32 scale, zero point and type of the stored integers."""

    scale: float
    zero_point: int
    qtype: QType


@dataclass(frozen=True, slots=True)
class Pending:
    """The float result of an operator that ONNX Runtime fuses with the QuantizeLinear behind it; ``finish`` builds it then."""

    name: str
    op_type: str
    shape: tuple[int, ...]
    finish: Callable[[Target], Integers]
    functions: tuple[Pointwise, ...] = ()
    runtime: QType | None = None
    """The type of its activations, which its result has to have as well; None where it does not matter."""


Value = Constant | ConstantReals | FloatInput | Integers | Reals | Pending
