"""Which rule made this? Some accumulators and what became of them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from bvverify.errors import UsageError
from bvverify.exercise.neuron import RULES, Rounding, decimal, some_rounding, telling_accumulator

_OFFERED = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """Of the rules offered, exactly one gives every output observed; ``rounding`` is that one."""

    kind: ClassVar[str] = "rule"
    rounding: Rounding
    accumulators: tuple[int, ...]
    offered: tuple[str, ...]

    @staticmethod
    def make(chance: random.Random) -> Rule:
        """Draws until enough rules differ from the one that is asked for."""
        while True:
            rounding = some_rounding(chance)
            accumulators = tuple(sorted(telling_accumulator(chance, rounding.multiplier) for _ in range(2)))
            seen = [rounding.output(acc) for acc in accumulators]
            others = [
                other.rule
                for other in _alternatives(rounding)
                if other.rule != rounding.rule and [other.output(acc) for acc in accumulators] != seen
            ]
            if len(others) >= _OFFERED - 1 and accumulators[0] != accumulators[1]:
                offered = [rounding.rule, *chance.sample(others, _OFFERED - 1)]
                chance.shuffle(offered)
                return Rule(rounding, accumulators, tuple(offered))

    def text(self) -> list[str]:
        """The question, as lines of Markdown."""
        seen = [f"- acc = {acc} became {self.rounding.output(acc)}" for acc in self.accumulators]
        offered = [f"- {rule}: {RULES[rule]}" for rule in self.offered]
        made = self.rounding
        return [
            f"Which rule made this? The multiplier is M = {made.multiplier}, the zero point {made.zero_point}, the output int8:",
            "", *seen, "", "One of these did (Q and r store M: M = Q * 2^(-31-r), Q an integer in [2^30, 2^31)):", "",
            *offered, "", "Which one?",
        ]  # fmt: skip

    def accepts(self, answer: str) -> bool:
        """Whether the answer names the rule; ``UsageError`` where it names none of those offered."""
        if answer.strip() not in self.offered:
            raise UsageError(f"--answer {answer}: choose one of {', '.join(self.offered)}")
        return answer.strip() == self.rounding.rule

    def key(self) -> str:
        """The answer."""
        return self.rounding.rule

    def solution(self) -> list[str]:
        """What each rule offered makes of the accumulators."""
        reals = ", ".join(f"{acc} * M = {decimal(acc * self.rounding.multiplier)}" for acc in self.accumulators)
        made = [
            f"{other.rule}: {', '.join(str(other.output(acc)) for acc in self.accumulators)}"
            for other in _alternatives(self.rounding)
            if other.rule in self.offered
        ]
        return [reals, *made]


def _alternatives(rounding: Rounding) -> list[Rounding]:
    """Every rule with the same numbers; a shift takes powers of two and no zero point only."""
    shifts = rounding.multiplier.numerator == 1 and rounding.zero_point == 0
    return [Rounding(rule, rounding.multiplier, rounding.zero_point) for rule in RULES if shifts or rule != "shift-half-up"]
