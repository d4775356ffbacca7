"""A network some of whose units get something added to their accumulators, as a network of more inputs.

What is added to an accumulator is ``e`` in ``[lo, hi]``, written in digits: ``e = least + sum_k stride_k * digit_k``. Each digit is an
input of the network's own input type, behind the inputs that it has; ``strides`` makes them so that all of ``[lo, hi]`` can be written and
little else. The new network's input is flat. Where the unit's operation reads the input itself, the digits are further columns of its
weight; elsewhere an identity picks them, and they are concatenated to what the operation reads. In a convolution a position's digit
lies at the anchor of that position's window (``model.saturating_pairs``), in channels of their own.

For every input and every such ``e`` the new network computes what the old one would with ``e`` added to the accumulator, wrapped as the
accumulator wraps. So a property of the one on its box is a property of the other for all that can be added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bvverify.model.network import Input, Network, Output
from bvverify.model.ops import Concat, Conv2d, Dense, Op, Reshape, inputs, moved
from bvverify.model.query import Box
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.saturating_pairs import anchor
from bvverify.model.staircase import Staircase
from bvverify.model.types import Int64Array, QType, Tensor, union

_MOST_INPUTS = 20_000
_FLAT = -1
"""For a tensor: the first inputs of the new network, in order."""


@dataclass(frozen=True, slots=True, eq=False)
class Hit:
    """A unit, and the range of what is added at each of its positions, int64 (positions,) each; a dense unit has one position."""

    op: int
    channel: int
    lo: Int64Array
    hi: Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class Disturbed:
    """The network of more inputs, the box of the old inputs and the digits, and where the old tensors are (``_FLAT``: among the inputs)."""

    network: Network
    box: Box
    place: tuple[int, ...]


def strides(count: int, base: int) -> list[int]:
    """Of digits of ``base`` values each with which 0 … count - 1 can be written, the largest first."""
    if count <= base:
        return [1]
    largest = -(-count // base)
    return [largest, *strides(largest, base)]


def digits(least: int, most: int, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """A range for each digit with which all of ``least`` … ``most`` can be written, in digits of the strides ``sizes``."""
    found = []
    for size in sizes:
        found.append((least // size, most // size))
        # Where a digit is settled the smaller ones are bounded as well.
        least, most = (least % size, most % size) if found[-1][0] == found[-1][1] else (0, size - 1)
    return found


def disturbed(network: Network, box: Box, hits: Sequence[Hit]) -> Disturbed:
    """The network and box with something added to each of the units ``hits``, which are different ones.

    ``ValueError`` where that leaves what a requantisation is modelled for, or takes too many inputs.
    """
    tensor = network.input.tensor
    made = _Digits.of(hits, tensor.qtype, tensor.size)
    total = tensor.size + len(made.lo)
    if total > _MOST_INPUTS:
        raise ValueError(f"{total} inputs would be needed")
    first = Tensor(tensor.name, (total,), tensor.qtype)
    building, place = _Building(network, made, [], [first]), [_FLAT]
    for index, op in enumerate(network.ops):
        place.append(building.add(index, op, place))
    flat = Box.of(*(np.concatenate([side.reshape(-1), more]) for side, more in ((box.lo, made.lo), (box.hi, made.hi))))
    ops, tensors, output = tuple(building.ops), tuple(building.tensors), place[network.output.tensor]
    joint = Network(Input(first, (1, total)), ops, tensors, Output(output, network.output.file_shape), network.provenance)
    return Disturbed(joint, flat, tuple(place))


@dataclass(frozen=True, slots=True, eq=False)
class _Digits:
    """The digits of all hits behind the inputs, one position after the other, the larger digits of a hit first; ranges ``lo``, ``hi``."""

    hits: tuple[Hit, ...]
    sizes: list[list[int]]
    first: list[int]
    lo: Int64Array
    hi: Int64Array
    zero: int
    """The input that stands for the digit 0."""

    @staticmethod
    def of(hits: Sequence[Hit], qtype: QType, inputs: int) -> _Digits:
        """For an input of so many elements."""
        base = qtype.hi - qtype.lo + 1
        sizes: list[list[int]] = []
        first: list[int] = []
        ranges: list[Int64Array] = []
        for hit in hits:
            least = int(hit.lo.min())
            sizes.append(strides(int(hit.hi.max()) - least + 1, base))
            first.append(inputs + sum(map(len, ranges)))
            by_position = [digits(int(a) - least, int(b) - least, sizes[-1]) for a, b in zip(hit.lo, hit.hi, strict=True)]
            ranges.append(np.array(by_position, np.int64).transpose(1, 0, 2).reshape(-1, 2) + qtype.lo)
        joined = np.concatenate([np.zeros((0, 2), np.int64), *ranges])
        return _Digits(tuple(hits), sizes, first, joined[:, 0], joined[:, 1], qtype.lo)

    def at(self, op: int) -> list[int]:
        """Which hits are of an operation."""
        return [k for k, hit in enumerate(self.hits) if hit.op == op]


@dataclass(slots=True, eq=False)
class _Building:
    network: Network
    digits: _Digits
    ops: list[Op]
    tensors: list[Tensor]

    def _append(self, op: Op, tensor: Tensor) -> int:
        self.ops.append(op)
        self.tensors.append(tensor)
        return len(self.ops)

    def shaped(self, tensor: Tensor) -> int:
        """The inputs that the network had, in the shape of ``tensor``: an identity picks them."""
        flat = self._pick("the inputs", list(range(tensor.size)))
        return flat if tensor.shape == (tensor.size,) else self._append(Reshape("the inputs, shaped", flat, tensor.shape), tensor)

    def _pick(self, name: str, elements: list[int | None]) -> int:
        """A tensor of some inputs, and of anything for None, which no weight reads."""
        first = self.tensors[0]
        weight = np.zeros((len(elements), first.size), np.int64)
        rows = [row for row, element in enumerate(elements) if element is not None]
        weight[rows, [element for element in elements if element is not None]] = 1
        bias = np.zeros(len(elements), np.int64)
        identity = Staircase(ShiftHalfUp(0), first.qtype.lo, first.qtype.hi)
        return self._append(Dense.of(name, 0, weight, bias, identity, accumulator_bits=None), Tensor(name, (len(elements),), first.qtype))

    def add(self, index: int, op: Op, place: Sequence[int]) -> int:
        """An operation of the network; the place of its result."""
        reads, hits = [place[t] for t in inputs(op)], self.digits.at(index)
        tensor = self.network.tensors[index + 1]
        if reads == [_FLAT] and isinstance(op, Reshape) and op.shape == (self.network.input.tensor.size,):
            return _FLAT
        if reads == [_FLAT] and isinstance(op, Dense):
            return self._append(self._dense(op, 0, hits, self.digits.first), tensor)
        whole = tuple(self.shaped(self.network.tensors[t]) if new == _FLAT else new for t, new in zip(inputs(op), reads, strict=True))
        if not hits:
            return self._append(moved(op, whole), tensor)
        assert isinstance(op, Dense | Conv2d)
        return self._append(
            self._dense_behind(op, whole[0], hits) if isinstance(op, Dense) else self._conv_behind(op, whole[0], hits), tensor
        )

    def _dense(self, op: Dense, x: int, hits: Sequence[int], at: Sequence[int]) -> Dense:
        """A dense operation on tensor ``x``: what it read, then digits; the first of hit k's digits is element ``at[k]``."""
        centred = np.zeros((len(op.bias), self.tensors[x].size), np.int64)
        centred[:, : op.centred.shape[1]] = op.centred
        bias = op.bias.copy()
        for k in hits:
            hit, sizes = self.digits.hits[k], self.digits.sizes[k]
            centred[hit.channel, at[k] : at[k] + len(sizes)] = sizes
            bias[hit.channel] += int(hit.lo.min()) + sum(sizes) * (op.input_zero_point - self.digits.zero)
        return Dense.of(
            op.name, x, centred, bias, op.staircase, input_zero_point=op.input_zero_point, accumulator_bits=op.accumulator_bits
        )  # fmt: skip

    def _joined(self, op: Dense | Conv2d, x: int, more: int) -> int:
        one, other = self.tensors[x], self.tensors[more]
        shape = (one.shape[0] + other.shape[0], *one.shape[1:])
        return self._append(
            Concat(f"{op.name} (with digits)", (x, more), 0), Tensor(f"{op.name} (with digits)", shape, union(one.qtype, other.qtype))
        )

    def _dense_behind(self, op: Dense, x: int, hits: Sequence[int]) -> Dense:
        elements: list[int | None] = []
        at = dict.fromkeys(hits, 0)
        for k in hits:
            at[k] = op.centred.shape[1] + len(elements)
            elements += range(self.digits.first[k], self.digits.first[k] + len(self.digits.sizes[k]))
        joined = self._joined(op, x, self._pick(f"{op.name} (digits)", elements))
        return self._dense(op, joined, hits, [at.get(k, 0) for k in range(len(self.digits.hits))])

    def _conv_behind(self, op: Conv2d, x: int, hits: Sequence[int]) -> Conv2d:
        """Its groups are written out, since digits do not divide into them."""
        shape, window = self.tensors[x].shape, op.window
        place = anchor(op, shape)
        rows, columns = (
            np.arange(n) * stride + a * dilation - before
            for n, stride, a, dilation, before in zip(
                window.output(*shape[1:]), window.strides, place, window.dilations, window.padding, strict=False
            )
        )
        grid = (rows[:, None] * shape[2] + columns[None, :]).reshape(-1)
        channels = [(k, d) for k in hits for d in range(len(self.digits.sizes[k]))]
        elements: list[int | None] = []
        for k, d in channels:
            image: list[int | None] = [None] * (shape[1] * shape[2])
            for position, cell in enumerate(grid.tolist()):
                image[cell] = self.digits.first[k] + d * len(grid) + position
            elements += image
        flat = self._pick(f"{op.name} (digits)", elements)
        images = (len(channels), *shape[1:])
        more = self._append(Reshape(f"{op.name} (digits, shaped)", flat, images), replace(self.tensors[flat], shape=images))
        joined = self._joined(op, x, more)
        of_group, outputs = op.weight.shape[1], len(op.weight) // op.groups
        centred = np.zeros((len(op.weight), shape[0] + len(channels), *window.kernel), np.int64)
        for output, kernel in enumerate(op.centred):
            centred[output, output // outputs * of_group : (output // outputs + 1) * of_group] = kernel
        bias = op.bias.copy()
        for channel, (k, d) in enumerate(channels):
            size = self.digits.sizes[k][d]
            centred[(self.digits.hits[k].channel, shape[0] + channel, *place)] = size
            bias[self.digits.hits[k].channel] += size * (op.input_zero_point - self.digits.zero)
        for k in hits:
            bias[self.digits.hits[k].channel] += int(self.digits.hits[k].lo.min())
        return Conv2d.of(
            op.name, joined, centred, bias, op.staircase,
            window=window, input_zero_point=op.input_zero_point, accumulator_bits=op.accumulator_bits,
        )  # fmt: skip
