"""What the PyTorch reader knows while it reads: values, the operations so far, and how to refuse a step by name."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bvverify.errors import UnsupportedError
from bvverify.load.torch_trace import Step
from bvverify.model.ops import Op
from bvverify.model.saturating_pairs import EXCESS
from bvverify.model.types import UINT8, Quantisation, Tensor


@dataclass(frozen=True, slots=True)
class FloatInput:
    """The module's input before a quantiser has read it, reshaped to ``shape`` (without the batch axis)."""

    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Integers:
    """A quint8 tensor of the network: its index, and the least and largest value that it can hold by its clamp."""

    index: int
    lo: int = 0
    hi: int = 255


@dataclass(frozen=True, slots=True)
class Reals:
    """A tensor of the network, dequantised."""

    integers: Integers
    meaning: Quantisation


Value = FloatInput | Integers | Reals


class Reader:
    """The network as far as it has been read; ``label`` names the file or the module in messages."""

    def __init__(self, label: str, engine: str, *, saturating_pairs: bool = False) -> None:
        self.label = label
        self.engine = engine
        self.saturating_pairs = saturating_pairs
        self.quantiser: Quantisation | None = None
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []
        self.values: dict[int, Value] = {}
        self.storages: dict[int, int] = {}
        self.made: list[tuple[int, int]] = []
        """(step, tensor of the network): what can be compared when the module runs again."""

    def unsupported(self, step: Step, why: str) -> UnsupportedError:
        """The error that a step ends in."""
        return UnsupportedError(f"{self.label}: {step.name}: {why}")

    def integers(self, step: Step, x: torch.Tensor) -> Integers:
        """The network's tensor behind an operand; refused where it is a float."""
        match self.values.get(id(x)):
            case Integers() as value:
                return value
            case FloatInput():
                raise self.unsupported(
                    step, "computes on floats before any Quantize; bvverify reads modules after torch.ao.quantization.convert"
                )
            case Reals():
                raise self.unsupported(step, "computes on floats after a DeQuantize; leave it out, or keep it in front of the DeQuantize")
            case None:
                raise self.unsupported(step, "reads a tensor that another operator has changed in place")

    def operand(self, step: Step, name: str = "self") -> tuple[torch.Tensor, Integers]:
        """The operand of that name (in the operator's schema), or the first one, as a tensor and as the network's."""
        x = step.argument(name)
        x = step.reads[0] if x is None else x
        return x, self.integers(step, x)

    def add(self, step: Step, op: Op, shape: tuple[int, ...], lo: int = 0, hi: int = 255, meaning: Quantisation | None = None) -> Integers:
        """A new operation and the tensor that it makes."""
        self.ops.append(op)
        self.tensors.append(Tensor(op.name, shape, UINT8, meaning if meaning is not None else meaning_of(step.result)))
        return Integers(len(self.ops), lo, hi)

    def add_excess(self, op: Op, shape: tuple[int, ...]) -> None:
        """An operation that makes, or passes on, the excess of pairs: nothing that the module itself has."""
        self.ops.append(op)
        self.tensors.append(Tensor(op.name, shape, EXCESS))

    def shape(self, step: Step, t: torch.Tensor) -> tuple[int, ...]:
        """The shape without the batch axis, which has to stay first and of length 1."""
        if t.dim() < 2 or t.shape[0] != 1:
            raise self.unsupported(step, f"makes the shape {tuple(t.shape)}; the first axis has to stay the batch's, as in flatten(1)")
        return tuple(int(d) for d in t.shape[1:])


def meaning_of(t: torch.Tensor) -> Quantisation | None:
    """What the integers of a quantised tensor stand for."""
    return Quantisation(float(torch.tensor(t.q_scale(), dtype=torch.float32)), t.q_zero_point()) if t.is_quantized else None
