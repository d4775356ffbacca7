"""Predict the byte: a neuron, an input and a rule are given."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from bvverify.exercise.neuron import Neuron, numbers, parse_byte, some_rounding, telling_accumulator


@dataclass(frozen=True, slots=True)
class Byte:
    """One number is right: the neuron's output for ``x``."""

    kind: ClassVar[str] = "byte"
    neuron: Neuron
    x: tuple[int, ...]

    @staticmethod
    def make(chance: random.Random) -> Byte:
        """A neuron of three inputs whose bias puts the accumulator where the rule matters."""
        rounding = some_rounding(chance)
        weights = tuple(chance.choice((-1, 1)) * chance.randint(1, 12) for _ in range(3))
        x, zero = tuple(chance.randint(-30, 30) for _ in range(3)), chance.randint(-10, 10)
        bias = telling_accumulator(chance, rounding.multiplier) - Neuron(weights, 0, zero, rounding).accumulator(x)
        return Byte(Neuron(weights, bias, zero, rounding), x)

    def text(self) -> list[str]:
        """The question, as lines of Markdown."""
        items = [f"- {line}" for line in [f"input x = ({numbers(self.x)})", *self.neuron.lines()]]
        return [
            "Predict the byte. A neuron, int8 in and out, acc = sum of (x - zero point of x) * w + bias:", "", *items, "",
            "Which integer comes out? (Or its byte in two's complement, as 0x90 for -112.)",
        ]  # fmt: skip

    def accepts(self, answer: str) -> bool:
        """Whether the answer is the output; ``UsageError`` where it is no int8."""
        return parse_byte(answer) == self.neuron.output(self.x)

    def key(self) -> str:
        """The answer."""
        return str(self.neuron.output(self.x))

    def solution(self) -> list[str]:
        """How to come to it."""
        return self.neuron.worked(self.x)
