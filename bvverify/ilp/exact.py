"""The reading that is exact: integer rows that hold for an input and its tensors precisely when the device computes them.

No tolerance is left but the solver's own. A step function is written in one of two ways, both from its thresholds:

*Quotient and residue.* Where integers n, c, d give all thresholds that the accumulator can reach, ``acc >= T[k]`` being ``n * acc + c >=
d * k``:

    n * acc + c = d * q + r,   0 <= r <= d - 1,   y = min(max(q, lo), hi)

For a rounding shift that is n = 1, c = 2^(s-1), d = 2^s. For other multipliers n / d is looked for among the fractions near the real
multiplier, with n and d small enough for a solver's float64.

*Steps.* Where there is no such triple (round half to even on a power of two alternates): a binary ``b_j`` for each reachable threshold,

    acc >= L + sum (T[j] - T[j-1]) b_j,   acc <= T[1] - 1 + sum (T[j+1] - T[j]) b_j,   b_1 >= b_2 >= ...,   y = bottom + sum b_j

with ``T[0] = L`` and ``T[last + 1] = U + 1`` the ends of the accumulator's range: no constant is larger than that range. The ranges
are the exact intervals and linear bounds that the pipeline itself uses.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import assert_never

import numpy as np

from bvverify.errors import UnsupportedError
from bvverify.ilp.gadgets import clip, reaches, saturated
from bvverify.ilp.model import Exact, Model, Neuron, Role, Value, Values
from bvverify.model import requant as rq
from bvverify.model.ops import Add, FmaAdd, Q31Add, ShiftAdd
from bvverify.model.staircase import Staircase
from bvverify.model.types import Int64Array

_LARGEST = 1 << 32
"""No term of ``n * acc + c`` beyond it: float64 then keeps a solver's tolerance of 1e-6 apart from rounding errors."""


def staircase(model: Model, neuron: Neuron, steps: Staircase, channel: int, acc: Value) -> Value:
    """The column ``y`` of one neuron, from its accumulator."""
    thresholds = steps.thresholds[channel % len(steps.thresholds)]
    bottom = steps.lo + int(np.searchsorted(thresholds, acc.lo, side="right"))
    top = steps.lo + int(np.searchsorted(thresholds, acc.hi, side="right"))
    y = model.element(neuron, bottom, top)
    if bottom == top:
        return y
    reachable = thresholds[bottom - steps.lo : top - steps.lo]
    multipliers = rq.real_multiplier(steps.requant)
    found = quotient(reachable, bottom + 1, multipliers[channel % len(multipliers)], acc)
    if found is None:
        _steps(model, neuron, acc, [int(t) for t in reachable], y)
    else:
        _divide(model, neuron, acc, found, y)
    return y


def add(model: Model, neuron: Neuron, op: Add, a: Value, b: Value) -> Value:
    """The column ``y`` of an addition; ``UnsupportedError`` for one that is no function of an integer sum."""
    match op.rule:
        case ShiftAdd(ma=ma, mb=mb, bias=bias, shift=shift, zero_point=zero_point):
            d = 1 << shift
            constant = bias + zero_point * d
            lo, hi = ma * a.lo + mb * b.lo + constant, ma * a.hi + mb * b.hi + constant
            if max(-lo, hi) > _LARGEST:
                raise UnsupportedError(f"node {op.name}: its sums pass 2^32, more than an ILP solver keeps exact")
            quotients = Value(-1, lo // d, hi // d)
            y = model.element(neuron, *saturated(quotients, op.lo, op.hi))
            sums = [(a, ma), (b, mb)]
            _quotient_rows(model, neuron, sums, constant, d, quotients, op.lo, op.hi, y)
            return y
        case FmaAdd() | Q31Add():
            raise UnsupportedError(
                f"node {op.name}: an addition that rounds more than once has no exact ILP reading; readings aaai24 and qvip do"
            )
        case _:
            assert_never(op.rule)


def quotient(thresholds: Int64Array, first: int, multiplier: Fraction, acc: Value) -> tuple[int, int, int] | None:
    """``(n, c, d)`` with ``acc >= thresholds[j]`` exactly when ``n * acc + c >= d * (first + j)``; None where none is small enough."""
    levels = [first + j for j in range(len(thresholds))]
    rows = [int(t) for t in thresholds]
    for n, d in _fractions(multiplier):
        least = max(d * k - n * t for k, t in zip(levels, rows, strict=True))
        most = min(d * k - n * (t - 1) - 1 for k, t in zip(levels, rows, strict=True))
        if least <= most:
            c = (least + most) // 2
            if max(abs(n * acc.lo + c), abs(n * acc.hi + c)) <= _LARGEST:
                return n, c, d
    return None


def _fractions(multiplier: Fraction) -> list[tuple[int, int]]:
    """The convergents of the multiplier's continued fraction, smallest first, as long as they are small."""
    out, rest = [], multiplier
    (n0, d0), (n1, d1) = (0, 1), (1, 0)
    for _ in range(40):
        whole = rest.numerator // rest.denominator
        (n0, d0), (n1, d1) = (n1, d1), (whole * n1 + n0, whole * d1 + d0)
        if max(n1, d1) > 1 << 24:
            break
        if n1:
            out.append((n1, d1))
        if rest == whole:
            break
        rest = 1 / (rest - whole)
    return out


def _divide(model: Model, neuron: Neuron, acc: Value, by: tuple[int, int, int], y: Value) -> None:
    n, c, d = by
    quotients = Value(-1, (n * acc.lo + c) // d, (n * acc.hi + c) // d)
    # Beyond the reachable thresholds the quotient may go on; what it saturates to is the range of y.
    _quotient_rows(model, neuron, [(acc, n)], c, d, quotients, y.lo, y.hi, y)


def _quotient_rows(
    model: Model, neuron: Neuron, terms: list[tuple[Value, int]], c: int, d: int, quotients: Value, lo: int, hi: int, y: Value
) -> None:
    """``sum of terms + c = d * q + r`` and ``y = clip(q, lo, hi)``."""
    pairs = [(v.column, n) for v, n in terms]

    def whole(values: Values) -> Exact:
        return sum((n * values[column] for column, n in pairs), start=c) // d

    def rest(values: Values) -> Exact:
        return sum((n * values[column] for column, n in pairs), start=c) % d

    q = model.column(neuron, "q", quotients.lo, quotients.hi, whole)
    r = model.column(neuron, "r", 0, d - 1, rest)
    model.row(f"divide_{neuron.label}", [*terms, (q, -d), (r, -1)], "=", -c, Role.ROUNDING, neuron)
    if q.lo >= lo and q.hi <= hi:
        model.row(f"equal_{neuron.label}", [(y, 1), (q, -1)], "=", 0, Role.CLIP, neuron)
    else:
        clip(model, neuron, q, lo, hi, y)


def _steps(model: Model, neuron: Neuron, acc: Value, thresholds: list[int], y: Value) -> None:
    b = [model.column(neuron, "b", 0, 1, reaches(acc, t), suffix=f"_{j}") for j, t in enumerate(thresholds)]
    ends = [acc.lo, *thresholds, acc.hi + 1]
    widths = [after - before for before, after in pairwise(ends)]
    at_least, at_most = list(zip(b, widths[:-1], strict=True)), list(zip(b, widths[1:], strict=True))
    model.row(f"from_{neuron.label}", [(acc, -1), *at_least], "<=", -acc.lo, Role.ROUNDING, neuron)
    model.row(f"below_{neuron.label}", [(acc, -1), *at_most], ">=", 1 - thresholds[0], Role.ROUNDING, neuron)
    for j, (before, after) in enumerate(pairwise(b)):
        model.row(f"order_{neuron.label}_{j}", [(before, 1), (after, -1)], ">=", 0, Role.ROUNDING, neuron)
    model.row(f"value_{neuron.label}", [*((step, 1) for step in b), (y, -1)], "=", -y.lo, Role.CHOICE, neuron)
