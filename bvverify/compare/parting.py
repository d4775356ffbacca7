"""Where two readings of a model part on one input: the first tensor and element that differ, its accumulator, and the tie between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from bvverify.compare.agreement import same_accumulator, staircase_of
from bvverify.compare.reach import form
from bvverify.errors import InternalError
from bvverify.model import requant as rq
from bvverify.model.network import Network
from bvverify.model.ops import Conv2d, Dense, inputs
from bvverify.model.staircase import Staircase
from bvverify.model.types import Int64Array
from bvverify.run import interpreter


@dataclass(frozen=True, slots=True)
class Rounding:
    """What one semantics makes of an accumulator: the exact multiplier, the real number before rounding, and the integer after it.

    ``value``, ``tie`` and ``result`` count the ``zero_point`` in, which is added behind the rounding; ``saturated`` says that the integer
    is an end of the staircase's range.
    """

    semantics: str
    rule: str
    multiplier: Fraction
    value: Fraction
    result: int
    saturated: bool
    zero_point: int = 0

    @property
    def tie(self) -> Fraction:
        """The tie (an integer and a half) that is nearest to the value."""
        return math.floor(self.value) + Fraction(1, 2)

    @property
    def distance(self) -> Fraction:
        """The value minus its nearest tie: 0 is a tie itself."""
        return self.value - self.tie


@dataclass(frozen=True, slots=True)
class Parting:
    """The first element, in the order of operations, that differs. ``roundings`` are A's and B's, or none where there is no accumulator.

    ``element`` is the position in the tensor. ``accumulator`` is what both round, after any wrap; None where the two sum up different
    numbers already, as networks of different widths do.
    """

    tensor: str
    op: int
    element: tuple[int, ...]
    results: tuple[int, int]
    accumulator: int | None = None
    roundings: tuple[Rounding, ...] = ()


def part(a: Network, b: Network, x: Int64Array) -> Parting | None:
    """The first difference on input ``x`` (the input tensor's shape); None where nothing differs, or the two have no tensors in common."""
    if len(a.ops) != len(b.ops) or any(s.shape != t.shape for s, t in zip(a.tensors, b.tensors, strict=True)):
        return None
    ours, theirs = interpreter.trace(a, x[None]), interpreter.trace(b, x[None])
    for index, (s, t) in enumerate(zip(ours[1:], theirs[1:], strict=True)):
        if (s != t).any():
            flat = int((s != t).ravel().argmax())
            element = tuple(int(i) for i in np.unravel_index(flat, s.shape[1:]))
            before = ours[inputs(a.ops[index])[0]]
            return rounded(a, b, index, element, before, (int(s.ravel()[flat]), int(t.ravel()[flat])))
    return None


def rounded(a: Network, b: Network, index: int, element: tuple[int, ...], before: Int64Array, results: tuple[int, int]) -> Parting:
    """The parting at one element of operation ``index``, which reads ``before`` (1, *shape) under both."""
    name, (one, other) = a.tensors[index + 1].name, (a.ops[index], b.ops[index])
    both = staircase_of(one), staircase_of(other)
    of = form(a, index, int(np.ravel_multi_index(element, a.tensors[index + 1].shape)))
    if both[0] is None or both[1] is None or of is None or not same_accumulator(one, other):
        return Parting(name, index, element, results)
    exact = of.value(before.reshape(1, -1))
    acc = int(interpreter.wrap(exact, one.accumulator_bits if isinstance(one, Dense | Conv2d) else None)[0])
    roundings = tuple(_rounding(n, s, element[0], acc) for n, s in ((a, both[0]), (b, both[1])))
    if tuple(r.result for r in roundings) != results:
        raise InternalError(f"{one.name}: an accumulator of {acc} does not explain the outputs {results}: please report this")
    return Parting(name, index, element, results, acc, roundings)


def _rounding(network: Network, staircase: Staircase, channel: int, acc: int) -> Rounding:
    multipliers = rq.real_multiplier(staircase.requant)
    result = int(staircase.at(np.full((1, max(channel + 1, len(staircase.thresholds))), acc))[0, channel])
    return Rounding(
        network.semantics,
        rq.name(staircase.requant),
        multipliers[channel % len(multipliers)],
        rq.before_rounding(staircase.requant, channel, acc),
        result,
        result in (staircase.lo, staircase.hi),
        rq.zero_point_of(staircase.requant, channel),
    )
