"""The question of a leaf as clauses: whether an input of a part of the box can meet a conjunction.

The part is given by the kernel's ranges of it (``bvverify.certify.ranges``), which hold every tensor and accumulator of each of its
inputs: all of them are required, and with them the splits above the leaf. Each input of the part that meets the conjunction satisfies the
clauses with its true values; so a refutation of the clauses leaves none. The converse may fail in two places: a float32 mean is any value
of its range, and nothing is said of the differences inside a max pooling.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np

from bvverify.certify.ranges import Ranges
from bvverify.model import ops
from bvverify.model.network import Network
from bvverify.model.query import Conjunction, Linear
from bvverify.model.staircase import Staircase
from bvverify.model.types import AnyArray, Int64Array
from bvverify.proofs import words
from bvverify.proofs.gates import FALSE, Gates
from bvverify.proofs.words import Word, const
from bvverify.run import interpreter

SCHEME = "bvverify clauses 1"
"""Names the translation; a proof of other clauses than today's is of no use."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """The clauses, and every tensor as words in their variables (object arrays)."""

    gates: Gates
    tensors: list[AnyArray]

    def tensor(self, index: int, true: Collection[int]) -> Int64Array:
        """A tensor's values under an assignment, given by its true variables."""
        return _each(lambda _, x: x.value(true), self.gates, self.tensors[index]).astype(np.int64)


def question(network: Network, ranges: Ranges, conjunction: Conjunction) -> Question:
    """The clauses; ``ranges`` have one row. ``TooLarge`` when they are too many."""
    gates = Gates()
    if ranges.empty.any():
        gates.require(FALSE)
    tensors = [_each(words.free, gates, ranges.lo[0][0], ranges.hi[0][0])]
    for index, op in enumerate(network.ops):
        acc = ranges.acc.get(index)
        lo, hi = ranges.lo[index + 1][0], ranges.hi[index + 1][0]
        made = _operation(gates, op, [tensors[t] for t in ops.inputs(op)], None if acc is None else (acc[0][0], acc[1][0]), lo, hi)
        tensors.append(_each(lambda g, a, b, x: words.restrict(g, x, a, b), gates, lo, hi, made))
    x, y = list(tensors[0].flat), list(tensors[network.output.tensor].flat)
    for row in conjunction:
        gates.require(-words.at_least(gates, _row(gates, row, x, y), row.bound + 1))
    return Question(gates, tensors)


Accumulators = tuple[Int64Array, Int64Array] | None
"""The least and the largest accumulator of each unit, flat."""


def _operation(gates: Gates, op: ops.Op, xs: list[AnyArray], acc: Accumulators, lo: Int64Array, hi: Int64Array) -> AnyArray:
    """The result, without its range ``lo .. hi``, which only a float32 mean needs."""
    x = xs[0]
    match op:
        case ops.Dense() | ops.Conv2d() | ops.AvgPool(rule=ops.SumThenRequantise()):
            assert acc is not None
            return _layer(gates, op, x, acc, lo.shape)
        case ops.Add():
            return _each(lambda g, a, b: _sum(g, op, a, b), gates, *xs)
        case ops.MaxPool():
            out = np.empty(lo.shape, object)
            for place, elements in _windows(op.window, x):
                out[place] = words.maximum(gates, [v for _, v in elements])
            return out
        case ops.AvgPool(rule=ops.SequentialFloat32()):
            return _each(words.free, gates, lo, hi)
        case ops.Clamp(lo=low, hi=high):
            return _each(lambda g, v: words.clamp(g, v, low, high), gates, x)
        case ops.Lookup(table=table, input_lo=first):
            return _each(lambda g, v: _looked_up(g, v, table[v.lo - first : v.hi - first + 1]), gates, x)
        case ops.Concat():
            return np.concatenate(xs, axis=op.axis)
        case ops.Reshape():
            return x.reshape(op.shape)
        case ops.Transpose():
            return x.transpose(op.axes)
        case ops.AvgPool():
            raise ValueError(f"{op.name}: an unknown rule")
        case _:
            assert_never(op)


def _layer(gates: Gates, op: ops.Dense | ops.Conv2d | ops.AvgPool, x: AnyArray, acc: tuple[Any, Any], shape: tuple[int, ...]) -> AnyArray:
    """A weighted sum for each output, in its range, through the staircase."""
    out = np.empty(shape, object)
    for unit, (place, terms, offset, staircase, bits) in enumerate(_sums(op, x)):
        whole = words.restrict(gates, words.total(gates, terms, offset), int(acc[0][unit]), int(acc[1][unit]))
        row = staircase.thresholds[place[0] if len(staircase.thresholds) > 1 else 0]
        out[place] = words.steps(gates, _wrapped(gates, whole, bits), staircase.lo, row.tolist())
    return out


_Sum = tuple[tuple[int, ...], list[tuple[int, Word]], int, Staircase, int | None]
"""Where the output stands, the terms and the offset of its accumulator, the staircase, the accumulator's width."""


def _sums(op: ops.Dense | ops.Conv2d | ops.AvgPool, x: AnyArray) -> Iterator[_Sum]:
    """The accumulator of each output element, in row-major order."""
    match op:
        case ops.Dense():
            for i, weights in enumerate(op.centred.tolist()):
                offset = int(op.bias[i]) - op.input_zero_point * sum(weights)
                yield (i,), list(zip(weights, x, strict=True)), offset, op.staircase, op.accumulator_bits
        case ops.Conv2d():
            inputs, outputs = len(x) // op.groups, len(op.centred) // op.groups
            for o, kernel in enumerate(op.centred):
                first = o // outputs * inputs
                at = dict[tuple[int, ...], list[tuple[int, Word]]]()
                for c in range(inputs):
                    for (_, *place), elements in _windows(op.window, x[first + c : first + c + 1]):
                        at.setdefault((o, *place), []).extend((int(kernel[(c, *offset)]), v) for offset, v in elements)
                for where, terms in at.items():
                    # A padded position holds the zero point and adds nothing.
                    offset = int(op.bias[o]) - op.input_zero_point * sum(w for w, _ in terms)
                    yield where, terms, offset, op.staircase, op.accumulator_bits
        case ops.AvgPool(rule=ops.SumThenRequantise(input_zero_point=zero, staircase=staircase)):
            for where, elements in _windows(op.window, x):
                yield where, [(1, v) for _, v in elements], -zero * len(elements), staircase, None
        case _:
            raise ValueError(f"{op.name} is no weighted sum")


def _windows(window: ops.Window, x: AnyArray) -> Iterator[tuple[tuple[int, int, int], list[tuple[tuple[int, int], Word]]]]:
    """Every position of the window over (C, H, W), row-major, with its elements inside the image and their places in the window."""
    channels, height, width = x.shape
    for c, i, j in np.ndindex(channels, *window.output(height, width)):
        elements = []
        for u, v in np.ndindex(*window.kernel):
            r = i * window.strides[0] - window.padding[0] + u * window.dilations[0]
            s = j * window.strides[1] - window.padding[1] + v * window.dilations[1]
            if 0 <= r < height and 0 <= s < width:
                elements.append(((u, v), x[c, r, s]))
        yield (c, i, j), elements


def _wrapped(gates: Gates, x: Word, bits: int | None) -> Word:
    """Two's complement modulo ``2^bits``, where the range leaves that width."""
    if bits is None or (-(1 << (bits - 1)) <= x.lo and x.hi < 1 << (bits - 1)):
        return x
    half = 1 << (bits - 1)
    if x.constant:
        return const(((x.lo + half) & ((1 << bits) - 1)) - half)
    return Word(-half, words.modulo(gates, [(1, x)], half, bits), -half, half - 1)


def _looked_up(gates: Gates, x: Word, entries: Int64Array) -> Word:
    """``entries[x - x.lo]``."""
    borders = np.flatnonzero(np.diff(entries)) + 1
    return words.piecewise(gates, x, (x.lo + borders).tolist(), entries[[0, *borders]].tolist())


def _sum(gates: Gates, op: ops.Add, a: Word, b: Word) -> Word:
    """Thresholds over a weighted sum, and each pair of values for which the interpreter says that they are wrong."""
    wa, wb = op.rule.weights
    p, q = (v.ravel() for v in np.meshgrid(np.arange(a.lo, a.hi + 1), np.arange(b.lo, b.hi + 1), indexing="ij"))
    result, acc = interpreter.evaluate(op, [p[None], q[None]])[0], wa * p + wb * q
    first = int(result.min())
    least = np.full(int(result.max()) - first + 1, acc.max() + 1)
    np.minimum.at(least, result - first, acc)
    # From the least sum at which a level or one above it occurs.
    thresholds = np.minimum.accumulate(least[::-1])[::-1][1:]
    out = words.steps(gates, words.total(gates, [(wa, a), (wb, b)], 0), first, thresholds.tolist())
    for k in np.flatnonzero(first + np.searchsorted(thresholds, acc, side="right") != result):
        hit = gates.both(_equals(gates, a, int(p[k])), _equals(gates, b, int(q[k])))
        out = words.choose(gates, hit, const(int(result[k])), out)
    return out


def _equals(gates: Gates, x: Word, value: int) -> int:
    return gates.both(words.at_least(gates, x, value), -words.at_least(gates, x, value + 1))


def _row(gates: Gates, row: Linear, x: list[Word], y: list[Word]) -> Word:
    """``outputs . y + inputs . x``."""
    over = [] if row.inputs is None else zip(row.inputs.tolist(), x, strict=True)
    return words.total(gates, [(c, v) for c, v in [*zip(row.outputs.tolist(), y, strict=True), *over] if c], 0)


def _each(make: Any, gates: Gates, *arrays: AnyArray) -> AnyArray:
    """``make(gates, ...)`` of the elements of arrays of one shape; integers come as Python's."""
    out = np.empty(arrays[0].shape, object)
    for place in np.ndindex(out.shape):
        out[place] = make(gates, *(v if isinstance(v := array[place], Word) else int(v) for array in arrays))
    return out
