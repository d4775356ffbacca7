"""A rounded sum as a step function of the integer sum ``weight_a * a + weight_b * b`` (``FmaAdd.weights``), read off the interpreter.

The result depends on a little more than that sum: the weights are rounded, and so are the float32 additions. Hence two thresholds a
level: the least sum at which it can be reached, and the least from which it always is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bvverify.model.network import Network
from bvverify.model.ops import Add
from bvverify.run import interpreter

MOST_PAIRS = 1 << 20


def thresholds_of_add(network: Network, op: Add) -> tuple[int, Any, Any] | None:
    """The level below the first step, and early and late thresholds, int64 (1, steps): over every pair of values of the two types.

    None beyond 2^20 pairs.
    """
    a, b = (np.arange(network.tensors[t].qtype.lo, network.tensors[t].qtype.hi + 1) for t in (op.a, op.b))
    if len(a) * len(b) > MOST_PAIRS:
        return None
    weight_a, weight_b = op.rule.weights
    acc = (weight_a * a[:, None] + weight_b * b[None, :]).ravel()
    out = interpreter.evaluate(op, [np.repeat(a, len(b)), np.tile(b, len(a))])
    order = np.argsort(acc, kind="stable")
    acc, out = acc[order], out[order]
    levels = np.arange(out.min() + 1, out.max() + 1)
    highest_so_far, lowest_to_come = np.maximum.accumulate(out), np.minimum.accumulate(out[::-1])[::-1]
    early = acc[np.searchsorted(highest_so_far, levels)]
    # The last sum below a level, plus one.
    late = acc[np.searchsorted(lowest_to_come, levels) - 1] + 1
    return int(out.min()), early[None], late[None]
