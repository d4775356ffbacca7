"""The ILP of Zhang et al., "QVIP: An ILP-based Formal Verification Approach for Quantized Neural Networks" (ASE 2022).

A layer's rounding and clamp together are a piecewise constant function of the real number ``p`` (``bvverify.ilp.line``): it is ``k`` on
``[k - 1/2, k + 1/2)``, and the lowest and the highest value reach on without end. One binary ``h_k`` for every value that
interval analysis leaves reachable:

    sum h_k = 1,   y = sum k h_k
    sum over k > lo of (k - 1/2) h_k  -  M h_lo  <=  p  <=  sum over k < hi of (k + 1/2 - epsilon) h_k  +  M h_hi

What is guessed: how exactly the pieces are put into rows (here one sum for each side), and both constants; this was written without the
paper's full text, and what its authors publish are networks and results, not the tool. M is 10^6, above every ``p`` of those networks; a
network in which ``p`` could pass it is refused. The strict inequality takes the margin 1e-4 of a later tool by some of the authors
(QEBVerif, CAV 2023). That tool's code takes M from each neuron's range, and asks its solver for integers up to 1e-9; both would keep what
is described next from happening.

Where this parts from a device: all that is said of ``aaai24``; and a binary is one up to the solver's tolerance only. With
``h_lo`` = 1e-6 the lower inequality is off by M * 1e-6, a whole unit, and the neuron may take a neighbour's value.
"""

from __future__ import annotations

from bvverify.errors import UnsupportedError
from bvverify.ilp.gadgets import equals, saturated
from bvverify.ilp.line import MARGIN, Line, before, half_up
from bvverify.ilp.model import Model, Neuron, Number, Role, Value

BIG_M = 10**6
EPSILON = MARGIN
_HALF = 0.5


def rounded(model: Model, neuron: Neuron, line: Line) -> Value:
    """The column ``y`` of one neuron; ``UnsupportedError`` where M is too small for it."""
    if max(abs(line.least), abs(line.most)) + 1 > BIG_M:
        raise UnsupportedError(f"node {neuron.op}: neuron {neuron.index} could pass {BIG_M:,} before it saturates, the M of reading qvip")
    lo, hi = line.lo, line.hi
    bottom, top = saturated(Value(-1, half_up(line.least), half_up(line.most)), lo, hi)
    # An integer by the equation below: asking for it again would only add a second tolerance.
    y = model.element(neuron, bottom, top, integer=False)
    if bottom == top:
        return y
    reachable = range(bottom, top + 1)
    h = [model.column(neuron, "h", 0, 1, equals(y, k), suffix=f"_{k - lo}") for k in reachable]
    model.row(f"one_{neuron.label}", [(b, 1) for b in h], "=", 1, Role.CHOICE, neuron)
    model.row(f"value_{neuron.label}", [*((b, k) for k, b in zip(reachable, h, strict=True)), (y, -1)], "=", 0, Role.CHOICE, neuron)
    lower: list[tuple[Value, Number]] = [(b, -BIG_M if k == lo else k - _HALF) for k, b in zip(reachable, h, strict=True)]
    upper: list[tuple[Value, Number]] = [(b, BIG_M if k == hi else k + _HALF - EPSILON) for k, b in zip(reachable, h, strict=True)]
    bound = before(line.constant)
    model.row(f"lower_{neuron.label}", [*lower, *line.minus()], "<=", bound, Role.BIG_M, neuron)
    model.row(f"upper_{neuron.label}", [*upper, *line.minus()], ">=", bound, Role.BIG_M, neuron)
    return y
