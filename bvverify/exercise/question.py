"""Questions by kind and seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Protocol

from bvverify.exercise.byte import Byte
from bvverify.exercise.holds import Holds
from bvverify.exercise.rule import Rule
from bvverify.exercise.saturate import Saturate
from bvverify.exercise.shift import Shift

KINDS: dict[str, type[Byte | Rule | Saturate | Holds | Shift]] = {q.kind: q for q in (Byte, Rule, Saturate, Holds, Shift)}


class Question(Protocol):
    """What every kind of question can do; nothing of it depends on anything but its fields."""

    @property
    def kind(self) -> str:
        """Its name in ``KINDS``."""

    def text(self) -> list[str]:
        """The question, as lines of Markdown."""

    def accepts(self, answer: str) -> bool:
        """Whether an answer is right; ``UsageError`` where it is no answer to this question."""

    def key(self) -> str:
        """A right answer."""

    def solution(self) -> list[str]:
        """How to come to it, line by line."""


@dataclass(frozen=True, slots=True)
class Exercise:
    """A question and what brings it back."""

    kind: str
    seed: int
    question: Question

    @property
    def command(self) -> str:
        """The command that asks it again."""
        return f"bvverify exercise --kind {self.kind} --seed {self.seed}"


def exercise(seed: int, kind: str | None = None) -> Exercise:
    """The exercise of a seed; without a kind, the kinds take turns."""
    kind = kind or list(KINDS)[seed % len(KINDS)]
    # A text as seed is hashed (SHA-512), and the Mersenne twister is the same everywhere.
    return Exercise(kind, seed, KINDS[kind].make(random.Random(f"{kind} {seed}")))
