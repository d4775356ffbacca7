"""Shift a byte: two's complement and nothing else."""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from bvverify.exercise.neuron import decimal, parse_byte
from bvverify.model.types import INT8


@dataclass(frozen=True, slots=True)
class Shift:
    """One number is right: the int8 ``value``, half a unit added where it is ``rounding``, shifted right by ``places``, sign copied."""

    kind: ClassVar[str] = "shift"
    value: int
    places: int
    rounding: bool

    @staticmethod
    def make(chance: random.Random) -> Shift:
        """A byte, negative more often than not, of which the shift drops something."""
        places, rounding = chance.randint(1, 4), chance.random() < 0.5
        while True:
            value = chance.randint(INT8.lo, -1) if chance.random() < 0.75 else chance.randint(0, INT8.hi)
            if value % (1 << places):
                return Shift(value, places, rounding)

    @property
    def result(self) -> int:
        """What comes out."""
        return (self.value + ((1 << self.places) >> 1 if self.rounding else 0)) >> self.places

    def text(self) -> list[str]:
        """The question, as lines of Markdown."""
        half = (
            f"{(1 << self.places) >> 1} is added to it (in more than eight bits, so that nothing wraps), then it" if self.rounding else "it"
        )
        return [
            f"The byte 0x{self.value & 0xFF:02x} holds an int8:", "",
            f"- {half} is shifted right by {self.places}: an arithmetic shift, which copies the sign", "",
            "Which integer comes out? (Or its byte in two's complement, as 0x90 for -112.)",
        ]  # fmt: skip

    def accepts(self, answer: str) -> bool:
        """Whether the answer is the result; ``UsageError`` where it is no int8."""
        return parse_byte(answer) == self.result

    def key(self) -> str:
        """The answer."""
        return str(self.result)

    def solution(self) -> list[str]:
        """How to come to it."""
        pattern = f"{self.value & 0xFF:08b}"
        ones = [(-128 if place == 7 else 1 << place) for place in range(7, -1, -1) if self.value >> place & 1]
        total = self.value + ((1 << self.places) >> 1 if self.rounding else 0)
        added = f"{self.value} + {(1 << self.places) >> 1} = {total}; " if self.rounding else ""
        exact = decimal(Fraction(total, 1 << self.places))
        return [
            f"0x{self.value & 0xFF:02x} = {pattern[:4]} {pattern[4:]}: {' + '.join(map(str, ones))} = {self.value}",
            f"{added}{total} / {1 << self.places} = {exact}, rounded down: {self.result} = 0x{self.result & 0xFF:02x}",
        ]
