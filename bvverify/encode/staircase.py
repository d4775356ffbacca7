"""A requantisation and its clamp, for the solver: a tree of comparisons over the thresholds that the accumulator's range can reach."""

from __future__ import annotations

import z3

from bvverify.encode.values import Value, at_width, clamped, const, steps
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.staircase import Staircase


def requantise(staircase: Staircase, channel: int, acc: Value) -> Value:
    """The output of one neuron of ``channel`` for its exact (or already wrapped) accumulator."""
    if staircase.requant == ShiftHalfUp(0):
        # A level for each accumulator: a tree would have as many leaves as there are values.
        return clamped(acc, staircase.lo, staircase.hi)
    row = staircase.thresholds[channel if len(staircase.thresholds) > 1 else 0]
    first, last = (staircase.lo + int(row.searchsorted(end, side="right")) for end in (acc.lo, acc.hi))
    return const(first) if acc.constant else steps(acc, lambda k: int(row[k - staircase.lo - 1]), first, last)


def wrapped(acc: Value, bits: int | None) -> Value:
    """Two's complement: the accumulator modulo ``2^bits`` where its range leaves that width."""
    if bits is None or (-(1 << (bits - 1)) <= acc.lo and acc.hi < 1 << (bits - 1)):
        return acc
    half = 1 << (bits - 1)
    if acc.constant:
        return const(((acc.lo + half) & ((1 << bits) - 1)) - half)
    return Value(z3.Extract(bits - 1, 0, at_width(acc, max(bits, acc.term.size()))), -half, half - 1)
