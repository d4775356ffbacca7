"""Find an input that saturates this neuron: a question with many right answers, each of which is checked."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import ClassVar

from bvverify.exercise.neuron import Neuron, numbers, parse_input, some_rounding
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8


@dataclass(frozen=True, slots=True)
class Saturate:
    """Right is every input within ``[-reach, reach]`` for which the output is ``level``, an end of int8."""

    kind: ClassVar[str] = "saturate"
    neuron: Neuron
    reach: int
    level: int

    @staticmethod
    def make(chance: random.Random) -> Saturate:
        """A neuron whose bias lets a corner of the box, and little else, reach the end of the range."""
        rounding, reach = some_rounding(chance), chance.randint(5, 20)
        weights = tuple(chance.choice((-1, 1)) * chance.randint(2, 12) for _ in range(3))
        question = Saturate(Neuron(weights, 0, chance.randint(-10, 10), rounding), reach, chance.choice((INT8.lo, INT8.hi)))
        spare = chance.randint(0, 2 * min(abs(w) for w in weights))
        first = int(Staircase(rounding.requant, INT8.lo, INT8.hi).thresholds[0, -1 if question.level > 0 else 0])
        wanted = first + spare if question.level > 0 else first - 1 - spare
        bias = wanted - question.neuron.accumulator(question._corner())
        return replace(question, neuron=replace(question.neuron, bias=bias))

    def _corner(self) -> tuple[int, ...]:
        """The input of the box with the accumulator farthest out."""
        sign = 1 if self.level > 0 else -1
        return tuple(self.reach * sign * (1 if w > 0 else -1) for w in self.neuron.weights)

    def text(self) -> list[str]:
        """The question, as lines of Markdown."""
        return [
            "Find an input that saturates this neuron, int8 in and out, acc = sum of (x - zero point of x) * w + bias:", "",
            *(f"- {line}" for line in self.neuron.lines()), "",
            f"Three integers, each from {-self.reach} to {self.reach}, for which {self.level} comes out?",
        ]  # fmt: skip

    def accepts(self, answer: str) -> bool:
        """Whether the input saturates the neuron; ``UsageError`` where it is no input of the box."""
        ends = [self.reach] * len(self.neuron.weights)
        return self.neuron.output(parse_input(answer, [-end for end in ends], ends)) == self.level

    def key(self) -> str:
        """One of the answers."""
        return numbers(self._corner())

    def solution(self) -> list[str]:
        """Why that one."""
        far = "largest" if self.level > 0 else "smallest"
        return [f"The accumulator is {far} where every x_j goes as far as its weight's sign says: x = ({self.key()}).",
                *self.neuron.worked(self._corner())]  # fmt: skip
