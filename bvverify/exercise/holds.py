"""Is this property true? A network of two layers, a box, a bound on its output."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import ClassVar

import numpy as np

from bvverify.bounds import interval
from bvverify.exercise.neuron import RULES, Rounding, multiplier_text, numbers, parse_input
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Dense
from bvverify.model.query import Box, Linear, Property, Query
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, Int64Array, Tensor, frozen_array
from bvverify.run import interpreter


@dataclass(frozen=True, slots=True)
class Holds:
    """Right is ``true`` where the output is at most ``bound`` on the whole box, and else every input of the box for which it is not.

    Hidden neurons are clamped to [0, 127] (a ReLU). The box has at most 49 inputs, and the answer comes from all of them.
    """

    kind: ClassVar[str] = "property"
    hidden: tuple[tuple[int, ...], ...]
    biases: tuple[int, ...]
    last: tuple[int, ...]
    rounding: Rounding
    lo: tuple[int, ...]
    hi: tuple[int, ...]
    bound: int

    @staticmethod
    def make(chance: random.Random) -> Holds:
        """A bound that the output just keeps, or just breaks."""
        while True:
            hidden = tuple(tuple(chance.choice((-1, 1)) * chance.randint(1, 7) for _ in range(2)) for _ in range(2))
            biases = tuple(chance.randint(-15, 15) for _ in range(2))
            last = tuple(chance.choice((-1, 1)) * chance.randint(1, 6) for _ in range(2))
            # The last multiplier as well as the hidden one: the page stays short, and the numbers stay small.
            rounding = Rounding(chance.choice(("float32-half-even", "float64-away", "q31-half-up")), Fraction(1, chance.choice((2, 4))))
            lo = tuple(chance.randint(-12, 8) for _ in range(2))
            hi = tuple(v + chance.randint(2, 6) for v in lo)
            question = Holds(hidden, biases, last, rounding, lo, hi, 0)
            _, varied, outputs = _trace(question)
            # A hidden neuron that is off everywhere would leave nothing for intervals to lose.
            if np.ptp(varied, axis=0).min() >= 2 and np.ptp(outputs) >= 3:
                return Holds(hidden, biases, last, rounding, lo, hi, int(outputs.max()) - chance.randint(0, 1))

    def query(self) -> Query:
        """The question as bvverify decides it."""
        return _query(self)

    def _counterexample(self) -> tuple[int, ...] | None:
        points, _, outputs = _trace(self)
        return None if outputs.max() <= self.bound else tuple(points[outputs.argmax()].tolist())

    def text(self) -> list[str]:
        """The question, as lines of Markdown."""
        rule = self.rounding.rule
        layers = [
            f"h{i} = clamp(round({_sum(w, 'x')} {'-' if b < 0 else '+'} {abs(b)}), 0, 127)"
            for i, (w, b) in enumerate(zip(self.hidden, self.biases, strict=True))
        ]
        items = [*layers, f"y = clamp(round({_sum(self.last, 'h')}), -128, 127)",
                 f"round: multiplier M = {multiplier_text(self.rounding.rule, self.rounding.multiplier)}; {rule}: {RULES[rule]}",
                 f"x0 is an integer from {self.lo[0]} to {self.hi[0]}, x1 one from {self.lo[1]} to {self.hi[1]}"]  # fmt: skip
        return [
            "Is this property true? All zero points are 0, `round` multiplies by M and rounds:", "", *(f"- {line}" for line in items), "",
            f"For every such input, y <= {self.bound}. Answer true, or an input for which it is not.",
        ]  # fmt: skip

    def accepts(self, answer: str) -> bool:
        """Whether it holds and the answer says so, or it does not and the answer is an input that shows it; ``UsageError`` for neither."""
        if answer.strip().lower() == "true":
            return self._counterexample() is None
        x = np.array([parse_input(answer, self.lo, self.hi)])
        return bool(interpreter.run(self.query().network, x)[0, 0] > self.bound)

    def key(self) -> str:
        """``true``, or one of the inputs that show the contrary."""
        found = self._counterexample()
        return "true" if found is None else numbers(found)

    def solution(self) -> list[str]:
        """What intervals say, and what all inputs say."""
        asked, outputs, found = self.query(), _trace(self)[2], self._counterexample()
        bounds = interval.propagate(asked.network, asked.box)
        h, y = ([f"[{a}, {b}]" for a, b in zip(bounds.lo[t], bounds.hi[t], strict=True)] for t in (1, 2))
        lines = [f"Intervals: h0 in {h[0]}, h1 in {h[1]}, so y in {y[0]}.",
                 f"All {len(outputs)} inputs: y in [{outputs.min()}, {outputs.max()}]."]  # fmt: skip
        if found is None:
            enough = int(bounds.hi[2][0]) <= self.bound
            return [*lines, "True, and intervals prove it." if enough else "True, though intervals cannot prove it."]
        hidden = interpreter.trace(asked.network, np.array([found]))[1][0]
        return [*lines, f"False: x = ({numbers(found)}) gives h = ({numbers(tuple(hidden.tolist()))}) and y = {outputs.max()}."]


@lru_cache(maxsize=64)
def _staircase(rounding: Rounding, lo: int) -> Staircase:
    return Staircase(rounding.requant, lo, INT8.hi)


@lru_cache(maxsize=64)
def _query(q: Holds) -> Query:
    relu, end = _staircase(q.rounding, 0), _staircase(q.rounding, INT8.lo)
    ops = (
        Dense.of("hidden", 0, np.array(q.hidden), np.array(q.biases), relu),
        Dense.of("last", 1, np.array([q.last]), np.array([0]), end),
    )
    tensors = (Tensor("x", (2,), INT8), Tensor("h", (2,), INT8), Tensor("y", (1,), INT8))
    made = Provenance("exercise", "exercise", q.rounding.rule, "")
    network = Network(Input(tensors[0], (1, 2)), ops, tensors, Output(2, (1, 1)), made)
    above = Linear(frozen_array([-1], np.int64), -q.bound - 1)
    return Query(network, Box.of(np.array(q.lo), np.array(q.hi)), Property(((above,),), f"y <= {q.bound}"))


@lru_cache(maxsize=64)
def _trace(q: Holds) -> list[Int64Array]:
    """Every input of the box, (number, 2), and what the layers make of them, (number, 2) and (number, 1)."""
    axes = [np.arange(a, b + 1) for a, b in zip(q.lo, q.hi, strict=True)]
    return interpreter.trace(_query(q).network, np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2))


def _sum(weights: Sequence[int], name: str) -> str:
    """``2*x0 - 3*x1``."""
    first, second = weights
    return f"{first}*{name}0 {'-' if second < 0 else '+'} {abs(second)}*{name}1"
