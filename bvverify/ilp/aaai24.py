"""The ILP of Huang, Wu, Yang, Daukantas, Wu, Zhang and Barrett, "Towards Efficient Verification of Quantized Neural Networks" (AAAI 2024).

Each layer is ``y = clip(round(p), lo, hi)`` of a real number ``p`` (``bvverify.ilp.line``). Their baseline writes it with an integer ``t``,
two inequalities and binaries:

    -1/2 + epsilon <= t - p <= 1/2          rounding, half up
    u = max(t, lo),  y = min(u, hi)         saturation: one binary for each, with the ranges of t as constants

Ranges come from interval arithmetic and, for accumulators, from linear bounds of the ideal network (``bvverify.model.ideal``), an abstract
interpretation of the kind that they use. What is guessed: ``epsilon``, for which we know no number of theirs. It is 1e-4 here, the
margin that the public code of QEBVerif (Zhang et al., CAV 2023; one author in common) has in the same inequality.

Where this parts from a device: a tie goes up, whatever the runtime does; no integer at all lies within the inequalities when
``p`` is less than epsilon below a tie, so that such inputs vanish; and the device's multiplication is not exact.
"""

from __future__ import annotations

from bvverify.ilp.gadgets import clip, saturated
from bvverify.ilp.line import MARGIN, Line, before, half_up
from bvverify.ilp.model import Exact, Model, Neuron, Role, Value, Values

EPSILON = MARGIN
_HALF = 0.5


def rounded(model: Model, neuron: Neuron, line: Line) -> Value:
    """The column ``y`` of one neuron."""
    lo, hi = line.lo, line.hi
    least, most = half_up(line.least), half_up(line.most)
    bottom, top = saturated(Value(-1, least, most), lo, hi)
    y = model.element(neuron, bottom, top)
    if bottom == top:
        return y
    if lo <= least and most <= hi:
        _round(model, neuron, line, y)
        return y

    def nearest(values: Values) -> Exact:
        """Of the integers that saturate to the neuron's output, the one that the inequalities are least hard on."""
        out, integer = values[y.column], half_up(line.at(values))
        if out < hi:
            integer = min(integer, int(out))
        return max(integer, int(out)) if out > lo else integer

    t = model.column(neuron, "t", least, most, nearest)
    _round(model, neuron, line, t)
    clip(model, neuron, t, lo, hi, y)
    return y


def _round(model: Model, neuron: Neuron, line: Line, t: Value) -> None:
    low, high = before(line.constant, _HALF - EPSILON), before(line.constant, -_HALF)
    model.row(f"round1_{neuron.label}", [(t, 1), *line.minus()], ">=", low, Role.ROUNDING, neuron)
    model.row(f"round2_{neuron.label}", [(t, 1), *line.minus()], "<=", high, Role.ROUNDING, neuron)
