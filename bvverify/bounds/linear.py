"""Linear bounds through a whole network, decided in exact integers.

To bound a linear form over the outputs (or over an accumulator) from below, walk the network backwards. At each step function
``z(a)`` with coefficient ``c``, replace ``c * z`` by ``lambda * a`` plus the smallest value of ``c * z - lambda * a`` over the corners of
the staircase (``bounds.stairs``); then ``lambda * a`` is again a linear form over earlier tensors. Every lambda gives a sound bound: weak
duality, the exact inner minimum is all that it rests on. The choice of lambda is CROWN's (Zhang et al., NeurIPS 2018), the slope of the
lower or the upper hull of the stairs, and floats make it; the bound itself is evaluated in integers.

Numbers are held as integers times a power of two (``Form.exponent``): lambda is rounded to about 20 bits, so that sums of
products stay far below 2^53 and float64 BLAS is exact. ``bounds.forms`` checks that at every product.
"""

from __future__ import annotations

from typing import assert_never

import numpy as np

from bvverify.bounds import interval, stairs
from bvverify.bounds.adjoint import add_at_position, adjoint, spread_windows
from bvverify.bounds.forms import TOTAL_EXPONENT, DoesNotFit, Form, accumulate, check, concretise, shifted, times, to_total
from bvverify.bounds.interval import Bounds, Range
from bvverify.bounds.stairs import Corners
from bvverify.errors import InternalError
from bvverify.model.certificate import Multipliers, Tightening
from bvverify.model.network import Network
from bvverify.model.ops import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv2d,
    Dense,
    Lookup,
    MaxPool,
    Op,
    Reshape,
    SequentialFloat32,
    SumThenRequantise,
    Transpose,
    inputs,
)
from bvverify.model.query import Box
from bvverify.model.types import AnyArray, Int64Array

_LAMBDA_BITS = 20
_ROWS = 256
"""Forms bounded at a time: their coefficients for the widest tensor have to fit into the cache."""


def tighten(network: Network, box: Box, bounds: Bounds) -> tuple[Bounds, list[Tightening]]:
    """``bounds`` with the accumulator ranges of every layer after the first intersected with linear bounds, layer by layer.

    Only accumulators whose output is not yet one value are bounded. Exact integers throughout; never looser than ``bounds``. The
    tightenings are the proof of every number that is tighter.
    """
    values = [Range(box.lo, box.hi)]
    accumulators: list[Range | None] = []
    proof: list[Tightening] = []
    for index, op in enumerate(network.ops):
        lo, hi = bounds.acc_lo[index], bounds.acc_hi[index]
        known = None if lo is None or hi is None else Range(lo, hi)
        value, acc = interval.step(op, [values[i] for i in inputs(op)], known)
        if acc is not None and isinstance(op, Dense | Conv2d) and not reads_input(network, op):
            open_neurons = np.flatnonzero((value.lo < value.hi).reshape(-1))
            if len(open_neurons):
                so_far = _assemble([*values, value], [*accumulators, acc])
                bound, steps = _accumulator_bounds(network, so_far, index, op, acc, open_neurons)
                proof += steps
                value, acc = interval.step(op, [values[i] for i in inputs(op)], interval.intersect(acc, bound))
        values.append(value)
        accumulators.append(acc)
    return _assemble(values, accumulators), proof


def lower(network: Network, bounds: Bounds, outputs: Int64Array, over_inputs: Int64Array | None = None) -> tuple[Int64Array, Multipliers]:
    """Lower bounds of ``outputs . y + over_inputs . x`` over the box, int64 (rows,), and the multipliers that prove them.

    ``outputs`` is int64 (rows, number of outputs), ``over_inputs`` (rows, number of inputs) or None; both over flattened tensors.
    """
    last = network.output.tensor
    forms = {last: Form(outputs.reshape(len(outputs), *bounds.lo[last].shape), 0)}
    if over_inputs is not None:
        accumulate(forms, 0, Form(over_inputs.reshape(len(over_inputs), *bounds.lo[0].shape), 0))
    return _lower_from(network, bounds, forms, last)


def reads_input(network: Network, op: Op) -> bool:
    """Whether an operation sees the input directly: then its interval is exact already."""
    x = inputs(op)[0]
    while x > 0 and isinstance(network.ops[x - 1], Reshape | Transpose):
        x = inputs(network.ops[x - 1])[0]
    return x == 0


def _assemble(values: list[Range], accumulators: list[Range | None]) -> Bounds:
    return Bounds(
        tuple(v.lo for v in values),
        tuple(v.hi for v in values),
        tuple(None if a is None else a.lo for a in accumulators),
        tuple(None if a is None else a.hi for a in accumulators),
    )


def bound_accumulators(network: Network, bounds: Bounds, index: int, op: Dense | Conv2d, neurons: Int64Array) -> Tightening:
    """Lower, then upper linear bounds of the accumulators ``neurons`` (flat indices) of operation ``index``, whatever is known already."""
    one_hot = np.zeros((len(neurons), bounds.lo[index + 1].size), np.int64)
    one_hot[np.arange(len(neurons)), neurons] = 1
    coefficients, constant = adjoint(op, one_hot.reshape(len(neurons), *bounds.lo[index + 1].shape), bounds.lo[op.x].shape)
    both = Form(np.concatenate([coefficients, -coefficients]), 0)
    least, multipliers = _lower_from(network, bounds, {op.x: both}, op.x)
    claim = np.concatenate([least[: len(neurons)] + constant, -least[len(neurons) :] + constant])
    unit, upper = np.concatenate([neurons, neurons]), np.arange(2 * len(neurons)) >= len(neurons)
    return Tightening(index, unit, upper, claim, multipliers)


def _accumulator_bounds(
    network: Network, bounds: Bounds, index: int, op: Dense | Conv2d, acc: Range, neurons: Int64Array
) -> tuple[Range, list[Tightening]]:
    """Linear bounds of the accumulators ``neurons`` of operation ``index``, the others as they are; and the proof of what is better."""
    lo, hi = acc.lo.reshape(-1).copy(), acc.hi.reshape(-1).copy()
    proof = []
    for start in range(0, len(neurons), _ROWS):
        t = bound_accumulators(network, bounds, index, op, neurons[start : start + _ROWS])
        better = np.flatnonzero(np.where(t.upper, t.claim < hi[t.unit], t.claim > lo[t.unit]))
        proof.append(Tightening(index, t.unit[better], t.upper[better], t.claim[better], t.multipliers.at(better)))
        np.maximum.at(lo, t.unit[~t.upper], t.claim[~t.upper])
        np.minimum.at(hi, t.unit[t.upper], t.claim[t.upper])
    if (lo > hi).any():
        raise InternalError(f"{op.name}: linear bounds leave no value for an accumulator")
    return Range(lo.reshape(acc.lo.shape), hi.reshape(acc.hi.shape)), [step for step in proof if len(step.unit)]


def _lower_from(network: Network, bounds: Bounds, forms: dict[int, Form], last: int) -> tuple[Int64Array, Multipliers]:
    """Walk backwards from tensor ``last`` to the input; ``forms`` holds what is to be bounded, by tensor."""
    used: dict[int, Form] = {}
    try:
        total = _walk(network, bounds, dict(forms), last, used)
    except DoesNotFit:
        total, used = np.sum([concretise(form, bounds.lo[t], bounds.hi[t]) for t, form in forms.items()], axis=0), {}
    rows = len(total)
    values = {op: form.coefficients.reshape(rows, -1) for op, form in used.items()}
    multipliers = Multipliers(rows, values, {op: form.exponent for op, form in used.items()})
    return -(-total >> TOTAL_EXPONENT), multipliers  # rounded up: the form takes integer values only


def _walk(network: Network, bounds: Bounds, forms: dict[int, Form], last: int, used: dict[int, Form]) -> Int64Array:
    total = np.zeros(len(forms[last].coefficients), np.int64)
    for tensor in range(last, 0, -1):
        form = forms.pop(tensor, None)
        if form is not None:
            total += _step_back(network, tensor - 1, form, bounds, forms, used)
    if 0 in forms:
        total += concretise(forms[0], bounds.lo[0], bounds.hi[0])
    return total


def _step_back(network: Network, index: int, form: Form, bounds: Bounds, forms: dict[int, Form], used: dict[int, Form]) -> Int64Array:
    """Replace a form over the result of operation ``index`` by forms over its inputs; returns the constant, in units of 2^-20.

    ``used`` receives the multipliers of its units.
    """
    op = network.ops[index]
    c, exponent = form.coefficients, form.exponent
    xs = [Range(bounds.lo[i], bounds.hi[i]) for i in inputs(op)]
    match op:
        case Dense() | Conv2d():
            acc = Range(_known(bounds.acc_lo[index]), _known(bounds.acc_hi[index]))
            if interval.wraps(op, acc):
                return concretise(form, bounds.lo[index + 1], bounds.hi[index + 1])
            multiplier, constant = _relax(stairs.corners(stairs.of_staircase(op.staircase), acc), form)
            used[index] = multiplier
            coefficients, offset = adjoint(op, multiplier.coefficients, xs[0].lo.shape)
            accumulate(forms, op.x, Form(coefficients, multiplier.exponent))
            return constant + to_total(offset, multiplier.exponent)
        case Add():
            added = stairs.of_add(op, network.tensors[op.a].qtype, network.tensors[op.b].qtype)
            if added is None:
                return concretise(form, bounds.lo[index + 1], bounds.hi[index + 1])
            acc = Range(added.ma * xs[0].lo + added.mb * xs[1].lo, added.ma * xs[0].hi + added.mb * xs[1].hi)
            multiplier, constant = _relax(stairs.corners(added.stairs, acc), form)
            used[index] = multiplier
            for x, scale in ((op.a, added.ma), (op.b, added.mb)):
                accumulate(forms, x, times(multiplier, scale))
            return constant
        case AvgPool(rule=rule):
            match rule:
                case SumThenRequantise(input_zero_point=zero, staircase=staircase):
                    acc = Range(_known(bounds.acc_lo[index]), _known(bounds.acc_hi[index]))
                    multiplier, constant = _relax(stairs.corners(stairs.of_staircase(staircase), acc), form)
                    used[index] = multiplier
                    coefficients = spread_windows(op, multiplier.coefficients, xs[0].lo.shape)
                    accumulate(forms, op.x, Form(coefficients, multiplier.exponent))
                    return constant + to_total(-zero * coefficients.reshape(len(c), -1).sum(axis=1), multiplier.exponent)
                case SequentialFloat32():
                    return concretise(form, bounds.lo[index + 1], bounds.hi[index + 1])
                case _:
                    assert_never(rule)
        case MaxPool():
            parts, constant = _relax_max(op, form, xs[0], network.tensors[op.x].qtype.lo)
            inside = interval.windows(np.ones(xs[0].lo.shape, np.int64), op.window, 0)
            for k, of_position in enumerate(parts):
                position = divmod(k, op.window.kernel[1])
                here = inside[..., position[0], position[1]]
                spread = np.zeros((len(c), *xs[0].lo.shape), np.int64)
                add_at_position(spread, of_position.coefficients * here, op, position)
                accumulate(forms, op.x, Form(spread, of_position.exponent))
                padded = (of_position.coefficients * (1 - here)).reshape(len(c), -1).sum(axis=1)
                constant = constant + to_total(padded * network.tensors[op.x].qtype.lo, of_position.exponent)
            if len(parts) > 1:
                used[index] = _stack(parts[1:])
            return constant
        case Clamp():
            multiplier, constant = _relax(stairs.corners(stairs.of_clamp(op), xs[0]), form)
            used[index] = multiplier
            accumulate(forms, op.x, multiplier)
            return constant
        case Lookup():
            return _relax_table(op, form, xs[0], forms, used, index)
        case Concat():
            ends = np.cumsum([x.lo.shape[op.axis] for x in xs])[:-1]
            for x, part in zip(op.xs, np.split(c, ends, axis=op.axis + 1), strict=True):
                accumulate(forms, x, Form(part, exponent))
        case Reshape():
            accumulate(forms, op.x, Form(c.reshape(len(c), *xs[0].lo.shape), exponent))
        case Transpose():
            back = np.argsort(op.axes)
            accumulate(forms, op.x, Form(c.transpose(0, *(int(a) + 1 for a in back)), exponent))
        case _:
            assert_never(op)
    return np.zeros(len(c), np.int64)


def _stack(parts: list[Form]) -> Form:
    """Forms (rows, *shape) of several exponents as one (rows, parts, *shape)."""
    exponent = max(part.exponent for part in parts)
    return Form(np.stack([shifted(part.coefficients, exponent - part.exponent) for part in parts], axis=1), exponent)


def _known(part: Int64Array | None) -> Int64Array:
    if part is None:
        raise InternalError("an operation with an accumulator has no accumulator range")
    return part


def _relax(corners: Corners, form: Form) -> tuple[Form, Int64Array]:
    """The multipliers of a form over a step function's results, and the constant that they leave (units of 2^-20).

    lambda = c * slope, the slope of the lower hull where c is positive, of the upper hull where it is negative.
    """
    c = form.coefficients
    rising, falling = _slopes(corners)
    target = c * np.where(c > 0, rising, falling)
    largest = float(np.abs(target).max(initial=0.0))
    shift = _LAMBDA_BITS - int(np.frexp(largest)[1]) if largest > 0 else 0
    multiplier = Form(np.rint(np.ldexp(target, shift)).astype(np.int64), form.exponent + shift)
    common = max(form.exponent, multiplier.exponent)
    c_scaled = shifted(c, common - form.exponent)
    m_scaled = shifted(multiplier.coefficients, common - multiplier.exponent)
    check(c_scaled, corners.z, m_scaled, corners.a)
    least = c_scaled * corners.z[0] - m_scaled * corners.a[0]
    for a, z in zip(corners.a[1:], corners.z[1:], strict=True):
        np.minimum(least, c_scaled * z - m_scaled * a, out=least)
    return multiplier, to_total(least, common).reshape(len(c), -1).sum(axis=1)


def _slopes(corners: Corners) -> tuple[AnyArray, AnyArray]:
    """Slopes of the lower and of the upper hull, as CROWN chooses them: the steep edge, or the flat one where it is longer."""
    a, z = corners.a.astype(np.float64), corners.z
    low, high, rise = a[0], a[1], (z[1] - z[0]).astype(np.float64)
    inner = np.divide(rise - 1, a[3] - a[2], out=np.zeros_like(low), where=a[3] > a[2])
    to_end = np.divide(1.0, high - a[3], out=np.full_like(low, np.inf), where=high > a[3])
    chord = np.divide(rise, high - a[2], out=np.zeros_like(low), where=high > a[2])
    rising = np.where((rise > 1) & (to_end >= inner), inner, chord)
    rising = np.where((a[2] - low > high - a[2]) | (rise <= 0), 0.0, rising)
    inner = np.divide(rise - 1, a[5] - a[4], out=np.zeros_like(low), where=a[5] > a[4])
    from_start = np.divide(1.0, a[4] - low, out=np.full_like(low, np.inf), where=a[4] > low)
    chord = np.divide(rise, a[5] - low, out=np.zeros_like(low), where=a[5] > low)
    falling = np.where((rise > 1) & (from_start >= inner), inner, chord)
    falling = np.where((high - a[5] > a[5] - low) | (rise <= 0), 0.0, falling)
    return rising, falling


def _relax_max(op: MaxPool, form: Form, x: Range, least: int) -> tuple[list[Form], Int64Array]:
    """The maximum of a window as ``m = m + max(0, x_k - m)``, from the last position to the first; each step function has its multiplier.

    ``least`` is the type's least value, which stands at padded positions. Returns a form for each position of the windows (rows,
    *output shape), the first of them what is left for the first position, and the constant.
    """
    shape, positions = form.coefficients.shape[1:], op.window.kernel[0] * op.window.kernel[1]
    lows = interval.windows(x.lo, op.window, least).reshape(*shape, positions)
    highs = interval.windows(x.hi, op.window, least).reshape(*shape, positions)
    most_lo, most_hi = np.maximum.accumulate(lows, axis=-1), np.maximum.accumulate(highs, axis=-1)
    relu = stairs.of_relu(int(highs.max() - lows.min()))
    total, parts = np.zeros(len(form.coefficients), np.int64), []
    for k in range(positions - 1, 0, -1):
        acc = Range(lows[..., k] - most_hi[..., k - 1], highs[..., k] - most_lo[..., k - 1])
        multiplier, constant = _relax(stairs.corners(relu, acc), form)
        total += constant
        parts.append(multiplier)
        left = {0: form}
        accumulate(left, 0, Form(-multiplier.coefficients, multiplier.exponent))
        form = left[0]
    return [form, *parts[::-1]], total


def _relax_table(op: Lookup, form: Form, x: Range, forms: dict[int, Form], used: dict[int, Form], index: int) -> Int64Array:
    """A table: lambda from the chord of its ends, the inner minimum over every entry in the range."""
    c, table = form.coefficients, op.table
    at_lo, at_hi = table[x.lo - op.input_lo], table[x.hi - op.input_lo]
    slope = np.divide(at_hi - at_lo, x.hi - x.lo, out=np.zeros(x.lo.shape), where=x.hi > x.lo)
    shift = 8
    multiplier = np.rint(np.ldexp(c * slope, shift)).astype(np.int64)
    scaled = shifted(c, shift)
    check(scaled, table, multiplier, np.array([x.lo.min(), x.hi.max()]))
    least = np.full(c.shape, np.iinfo(np.int64).max)
    for value in range(int(x.lo.min()), int(x.hi.max()) + 1):
        term = scaled * table[value - op.input_lo] - multiplier * value
        np.minimum(least, term, out=least, where=np.broadcast_to((x.lo <= value) & (value <= x.hi), c.shape))
    used[index] = Form(multiplier, form.exponent + shift)
    accumulate(forms, op.x, used[index])
    return to_total(least, form.exponent + shift).reshape(len(c), -1).sum(axis=1)
