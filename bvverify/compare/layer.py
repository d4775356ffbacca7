"""One layer alone: can two semantics differ on it, for any input that its own input tensor's type allows? Exact.

Each gap between two thresholds is a set of accumulators; whether inputs of the type's whole range add up to one of them is a bounded
subset sum (``reach``). In a convolution every position of a channel sums the same numbers, but for padding: it adds nothing, as an input
at the zero point does, so that one window that lies inside the image stands for all.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from bvverify.bounds import interval
from bvverify.bounds.interval import Bounds, Range
from bvverify.compare.agreement import gaps, may_part, same_accumulator, staircase_of
from bvverify.compare.answer import Answer
from bvverify.compare.parting import Parting, rounded
from bvverify.compare.reach import Unsettled, form, search, solve
from bvverify.compare.rebase import rebase
from bvverify.errors import InternalError, UnsupportedError, UsageError
from bvverify.model.network import Network
from bvverify.model.ops import Add, AvgPool, Clamp, Conv2d, Lookup, inputs
from bvverify.model.types import AnyArray, Int64Array
from bvverify.run import interpreter

_STARTS = 32


@dataclass(frozen=True, slots=True, eq=False)
class LayerComparison:
    """The answer for one layer. ``xs`` are the tensors that it reads, on which it parts; ``gaps`` counts the sets of accumulators."""

    answer: Answer
    layer: str
    reason: str
    seconds: float
    gaps: int
    xs: tuple[Int64Array, ...] = ()
    parting: Parting | None = None


@dataclass(frozen=True, slots=True)
class _Gap:
    """An output element (flat index) and the accumulators ``first .. last`` on which its two roundings differ."""

    unit: int
    first: int
    last: int


def compare_layer(a: Network, b: Network, name: str, *, seed: int = 0, timeout: float | None = None) -> LayerComparison:
    """Decide for one layer, named by its node or by the tensor that it makes. ``UsageError`` names the layers that there are."""
    started = time.monotonic()
    deadline = None if timeout is None else started + timeout
    b = rebase(b, a)
    index = _find(a, name)
    _check_same_inputs(a, b, index)
    bounds = _whole(a, index)
    candidates = may_part(a, b, index, bounds)
    gaps_met = _gaps(a, b, index, bounds, candidates)
    answer, reason, xs = Answer.EQUAL, "the two roundings agree on every accumulator in the layer's range", None
    if gaps_met:
        answer, reason, xs = _reach(a, index, gaps_met, np.random.default_rng(seed), deadline)
    elif candidates.any():
        answer, reason, xs = _enumerate(a, b, index)
    parting = None if xs is None else _parting(a, b, index, xs)
    return LayerComparison(answer, a.ops[index].name, reason, time.monotonic() - started, len(gaps_met), xs or (), parting)


def _find(network: Network, name: str) -> int:
    nodes, tensors = [op.name for op in network.ops], [t.name for t in network.tensors[1:]]
    for names in (nodes, tensors):
        if name in names:
            return names.index(name)
    raise UsageError(f"--layer {name}: {network.provenance.path} has no such layer; it has {', '.join(nodes)}")


def _check_same_inputs(a: Network, b: Network, index: int) -> None:
    reads = [[(n.tensors[t].shape, n.tensors[t].qtype) for t in inputs(n.ops[index])] if index < len(n.ops) else None for n in (a, b)]
    if reads[0] != reads[1] or type(a.ops[index]) is not type(b.ops[index]):
        raise UnsupportedError(
            f"{a.provenance.path}: node {a.ops[index].name}: is another layer, or reads other integers, under {b.semantics};"
            " compare two semantics that read the same, or whole networks"
        )


def _whole(network: Network, index: int) -> Bounds:
    """Bounds for the operation alone, on everything that its inputs' types allow; other operations' stay at their types."""
    ends = [(np.full(t.shape, t.qtype.lo, np.int64), np.full(t.shape, t.qtype.hi, np.int64)) for t in network.tensors]
    _, acc = interval.step(network.ops[index], [Range(*ends[t]) for t in inputs(network.ops[index])])
    lows, highs = (tuple(None if i != index or acc is None else side for i in range(len(network.ops))) for side in _sides(acc))
    return Bounds(tuple(lo for lo, _ in ends), tuple(hi for _, hi in ends), lows, highs)


def _sides(acc: Range | None) -> tuple[Int64Array | None, Int64Array | None]:
    return (None, None) if acc is None else (acc.lo, acc.hi)


def _gaps(a: Network, b: Network, index: int, bounds: Bounds, candidates: AnyArray) -> list[_Gap]:
    """The gaps that the accumulators' ranges meet; one element stands for all of a channel where their sums are the same."""
    op = a.ops[index]
    one, other, lo, hi = staircase_of(op), staircase_of(b.ops[index]), bounds.acc_lo[index], bounds.acc_hi[index]
    if one is None or other is None or lo is None or hi is None:
        return []
    if not same_accumulator(op, b.ops[index]):
        raise UnsupportedError(
            f"{a.provenance.path}: node {op.name}: sums up other numbers under {b.semantics}; a layer alone is compared by its rounding"
        )
    if interval.wraps(op, Range(lo, hi)):
        raise UnsupportedError(f"{a.provenance.path}: node {op.name}: its accumulator may wrap on its whole input range; compare on a box")
    first, last = gaps(one, other)
    found = []
    for unit in _representatives(a, index):
        if candidates.flat[unit]:
            channel = int(np.unravel_index(unit, lo.shape)[0]) if len(first) > 1 else 0
            from_, to = np.maximum(first[channel], lo.flat[unit]), np.minimum(last[channel], hi.flat[unit])
            found += [_Gap(unit, int(from_[k]), int(to[k])) for k in np.flatnonzero(from_ <= to)]
    return found


def _representatives(network: Network, index: int) -> list[int]:
    """Elements whose sums stand for all: all of a dense layer; of a convolution one whole window a channel, or all where none is whole."""
    shape = network.tensors[index + 1].shape
    units = np.arange(int(np.prod(shape))).reshape(shape)
    op = network.ops[index]
    if not isinstance(op, Conv2d | AvgPool):
        return [int(u) for u in units.ravel()]
    height, width = network.tensors[op.x].shape[1:]
    inside = interval.windows(np.ones((1, height, width), np.int64), op.window, 0)[0].all(axis=(-2, -1))
    if not inside.any():
        return [int(u) for u in units.ravel()]
    row, column = np.argwhere(inside)[0]
    return [int(u) for u in units[:, row, column]]


def _reach(
    network: Network, index: int, found: list[_Gap], rng: np.random.Generator, deadline: float | None
) -> tuple[Answer, str, tuple[Int64Array, ...] | None]:
    """Whether some input adds up to one of the gaps: a quick search in all of them first, then the exact answer for each."""
    tensor = network.tensors[inputs(network.ops[index])[0]]
    lo, hi = np.full(tensor.size, tensor.qtype.lo, np.int64), np.full(tensor.size, tensor.qtype.hi, np.int64)
    forms = {g.unit: form(network, index, g.unit) for g in found}
    unsettled = 0
    for quick in (True, False):
        for gap in found:
            of = forms[gap.unit]
            assert of is not None
            if deadline is not None and time.monotonic() > deadline:
                return Answer.UNKNOWN, "the time limit ran out while sums were looked for", None
            x: Int64Array | Unsettled | None
            if quick:
                hits = search(of, lo, hi, gap.first, gap.last, rng, _STARTS)
                x = hits[0] if len(hits) else None
            else:
                x = solve(of, lo, hi, gap.first, gap.last)
            if isinstance(x, Unsettled):
                unsettled += 1
            elif x is not None:
                return (
                    Answer.DIFFERS,
                    f"an input of {tensor.qtype} adds up to an accumulator that they round differently",
                    (x.reshape(tensor.shape),),
                )
    if unsettled:
        return Answer.UNKNOWN, f"whether any input adds up to them was not settled for {unsettled} of {len(found)} gaps", None
    return Answer.EQUAL, f"no input adds up to an accumulator in any of the {len(found)} gaps between the roundings, exactly", None


def _enumerate(a: Network, b: Network, index: int) -> tuple[Answer, str, tuple[Int64Array, ...] | None]:
    """Functions of one or two values, on all of them."""
    one, other = a.ops[index], b.ops[index]
    tensors = [a.tensors[t] for t in inputs(one)]
    if not isinstance(one, Lookup | Clamp | Add):
        raise UnsupportedError(
            f"{a.provenance.path}: node {one.name}: is neither a rounded sum nor a function of one or two values; compare on a box"
        )
    ranges = [np.arange(t.qtype.lo, t.qtype.hi + 1) for t in tensors]
    if isinstance(one, Add) and one.a == one.b:
        xs = [ranges[0], ranges[0]]
    else:
        xs = [np.ascontiguousarray(g).ravel() for g in np.meshgrid(*ranges, indexing="ij")]
    differ = interpreter.evaluate(one, xs) != interpreter.evaluate(other, xs)
    if not differ.any():
        return Answer.EQUAL, f"the two give the same for all {differ.size} values", None
    at = int(differ.argmax())
    shown = tuple(np.full(t.shape, x[at], np.int64) for t, x in zip(tensors, xs, strict=True))
    return Answer.DIFFERS, f"the two differ on {int(differ.sum())} of {differ.size} values", shown


def _parting(a: Network, b: Network, index: int, xs: tuple[Int64Array, ...]) -> Parting:
    """Where the layer parts on the input that was found."""
    ours, theirs = (interpreter.evaluate(n.ops[index], [x[None] for x in xs])[0] for n in (a, b))
    if (ours == theirs).all():
        raise InternalError(f"{a.ops[index].name}: an input on which it parts does not replay: please report this")
    at = np.unravel_index(int((ours != theirs).argmax()), ours.shape)
    element = tuple(int(i) for i in at)
    return rounded(a, b, index, element, xs[0][None], (int(ours[at]), int(theirs[at])))
