"""The ideal twin of a network: the same integers, the same real multipliers, and nothing but one exact rounding in each layer.

Each requantisation becomes ``rational-half-up`` of its own real multiplier, exactly (a float32 multiplier as the rational that it is, a
shift as a power of two, a Q31 multiplier as ``mantissa * 2^(shift - 31)``). What is no requantisation stays as it is: additions,
float means and tables. No runtime computes it; held against one, it says what that runtime's rounding does.
"""

from __future__ import annotations

from dataclasses import replace

from bvverify.errors import UnsupportedError
from bvverify.model.network import Network
from bvverify.model.ops import AvgPool, Conv2d, Dense, Op, SumThenRequantise
from bvverify.model.requant import idealised
from bvverify.model.staircase import Staircase

SUFFIX = "+rational-half-up"
"""Behind a profile's name: the network as that profile reads it, made ideal."""


def ideal(network: Network) -> Network:
    """The ideal twin; ``UnsupportedError`` names the operation that has none."""
    made = network.provenance
    ops = tuple(_ideal_op(made.path, op) for op in network.ops)
    return replace(network, ops=ops, provenance=replace(made, semantics=made.semantics + SUFFIX))


def _ideal_op(path: str, op: Op) -> Op:
    match op:
        case Dense(staircase=staircase) | Conv2d(staircase=staircase):
            return replace(op, staircase=_ideal_staircase(path, op.name, staircase))
        case AvgPool(rule=SumThenRequantise(input_zero_point=zero, staircase=staircase)):
            return replace(op, rule=SumThenRequantise(zero, _ideal_staircase(path, op.name, staircase)))
        case _:
            return op


def _ideal_staircase(path: str, name: str, staircase: Staircase) -> Staircase:
    try:
        return Staircase(idealised(staircase.requant), staircase.lo, staircase.hi)
    except ValueError as error:
        raise UnsupportedError(f"{path}: node {name}: has no ideal twin: {error}; compare with another profile") from None
