"""A network over the reals as a network of integers of 14 bits, and how far apart the two can be on a box: proved.

Weights become integers on a grid of ``2^-k``, activations integers on a grid ``unit``, each a power of two times the input's scale, so
that every requantisation is a shift that rounds half up. With ``x`` the real activation, ``a`` the integer one, ``|x - unit * a| <= e``:

* an affine layer sums ``W x + b`` and ``W' a + b'`` with ``|W - W' 2^-k| <= 2^-(k+1)`` and ``|b - g b'| <= g/2`` where ``g = unit * 2^-k``;
  the two differ by at most ``sum 2^-k |W'| e + 2^-(k+1) sum |x| + g/2``;
* a shift to the grid ``unit' = g * 2^s`` moves that by at most ``unit'/2``; a ReLU and a maximum add nothing.

On the box activations never reach the ends of their type, so that nothing is cut off. Errors are integers in units of ``2^-64`` times
the input's scale, rounded up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, assert_never

import numpy as np

from bvverify.errors import UnsupportedError
from bvverify.model.certificate import REALS
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Conv2d, Dense, MaxPool, Op, Reshape
from bvverify.model.query import Box
from bvverify.model.real import Affine, Convolution, Largest, RealNetwork, Relu, Shaped
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import Int64Array, QType, Quantisation, Tensor

_BITS = 14
_FINE = 64
_MOST = 1 << 44
"""Of an accumulator: well below what thresholds are known for."""
_WEIGHT_BITS = 22


@dataclass(frozen=True, slots=True, eq=False)
class Approximation:
    """``network`` reads A's integers; output i of it times ``unit`` is within ``error[i]`` of the real one, both exact rationals."""

    network: Network
    unit: Fraction
    error: tuple[Fraction, ...]


@dataclass(slots=True, eq=False)
class _State:
    """The tensor at hand: unit over the input's scale (a power of two: ``2^exponent``), range and error by channel."""

    exponent: int
    zero: int
    lo: Int64Array
    hi: Int64Array
    error: Any


def meaning_of_input(network: Network) -> Quantisation:
    """What the input's integers stand for; ``UnsupportedError`` where the file does not say."""
    meaning = network.input.quantiser or network.input.tensor.quantisation
    if not isinstance(meaning, Quantisation):
        raise UnsupportedError(
            f"{network.provenance.path}: its input's integers stand for no real numbers, so that a float network cannot read them"
        )
    return meaning


def approximate(a: Network, real: RealNetwork, box: Box) -> Approximation:
    """The approximation of ``real`` on a box of A's input integers; ``UnsupportedError`` where the two do not fit."""
    meaning, tensor = meaning_of_input(a), a.input.tensor
    if np.prod(real.shapes[0]) != tensor.size or real.outputs != a.output_tensor.size:
        ours, theirs = f"{tensor.size} inputs and {a.output_tensor.size}", f"{int(np.prod(real.shapes[0]))} and {real.outputs}"
        raise UnsupportedError(f"{a.provenance.path} and {real.path}: have {ours} and {theirs} inputs and outputs")
    scale = Fraction(meaning.scale)
    state = _input(box, meaning.zero_point, real.shapes[0])
    ops: list[Op] = []
    tensors = [tensor]
    if tensor.shape != real.shapes[0]:
        ops.append(Reshape("shaped", 0, real.shapes[0]))
        tensors.append(Tensor("shaped", real.shapes[0], tensor.qtype))
    for index, op in enumerate(real.ops):
        shape, read = real.shapes[index + 1], real.shapes[index]
        match op:
            case Affine() | Convolution():
                relu = index + 1 < len(real.ops) and isinstance(real.ops[index + 1], Relu)
                made, state = _layer(op, state, scale, len(ops), relu=relu)
                ops.append(made)
                tensors.append(Tensor(op.name, shape, QType(_BITS, signed=not relu)))
            case Relu():
                if not index or not isinstance(real.ops[index - 1], Affine | Convolution):
                    raise UnsupportedError(f"{real.path}: node {op.name}: a ReLU behind anything but a layer with weights")
            case Largest(window=window):
                ops.append(MaxPool(op.name, len(ops), window))
                tensors.append(Tensor(op.name, shape, tensors[-1].qtype))
            case Shaped():
                first = all(isinstance(before, Shaped) for before in real.ops[:index])
                state = _input(box, meaning.zero_point, shape) if first else _spread(state, read, shape)
                ops.append(Reshape(op.name, len(ops), shape))
                tensors.append(Tensor(op.name, shape, tensors[-1].qtype))
            case _:
                assert_never(op)
    if len(real.shapes[-1]) != 1 or state.exponent < -126 or not real.ops or not isinstance(real.ops[-1], Affine):
        raise UnsupportedError(f"{real.path}: its last layer is no Gemm")
    unit = scale * Fraction(2) ** state.exponent
    made_of = Provenance(real.path, "onnx", REALS, real.sha256)
    network = Network(
        Input(tensor, a.input.file_shape, a.input.quantiser), tuple(ops), tuple(tensors), Output(len(ops), (1, real.outputs)), made_of
    )
    return Approximation(network, unit, tuple(scale * Fraction(int(e), 1 << _FINE) for e in state.error))


def _input(box: Box, zero: int, shape: tuple[int, ...]) -> _State:
    """The input in some shape, by channel."""
    lo, hi = (side.reshape(shape[0], -1) - zero for side in (box.lo, box.hi))
    return _State(0, zero, lo.min(axis=1), hi.max(axis=1), np.zeros(shape[0], object))


def _layer(op: Affine | Convolution, state: _State, scale: Fraction, x: int, *, relu: bool) -> tuple[Op, _State]:
    """The integer layer behind tensor ``x``, and what is known behind it."""
    weight = op.weight.astype(np.float64).reshape(len(op.weight), -1)
    groups, of_group = (op.groups, op.weight.shape[1]) if isinstance(op, Convolution) else (1, op.weight.shape[1])
    outputs, positions = len(weight) // groups, weight.shape[1] // of_group
    # For each weight the channel that it reads.
    reads = np.arange(weight.shape[1])[None] // positions + (np.arange(len(weight)) // outputs * of_group)[:, None]
    span = np.maximum(np.abs(state.lo), np.abs(state.hi))
    # Floats choose the grid; what follows holds for any.
    reach = float((np.abs(weight) * span[reads]).sum(axis=1).max()) or 1.0
    k = min(_WEIGHT_BITS - math.frexp(float(np.abs(weight).max()) or 1.0)[1], math.floor(math.log2(_MOST / reach)) - 1)
    integers = np.rint(np.ldexp(weight, k)).astype(np.int64)
    exponent = state.exponent - k
    grid = scale * Fraction(2) ** exponent
    bias = np.array([round(Fraction(float(b)) / grid) for b in op.bias.tolist()], object)
    ends = [integers * state.lo[reads], integers * state.hi[reads]]
    padded = isinstance(op, Convolution) and any(op.window.padding)
    least, most = np.minimum(*ends), np.maximum(*ends)
    if padded:
        least, most = np.minimum(least, 0), np.maximum(most, 0)
    lo, hi = (side.sum(axis=1).astype(object) + bias for side in (least, most))
    if max(-int(lo.min()), int(hi.max())) >= 2 * _MOST:
        raise UnsupportedError(f"node {op.name}: its biases are too large for its weights")
    size = np.abs(integers).astype(object)
    error = _up((size * state.error[reads]).sum(axis=1), k)
    error += _up((_shifted(span.astype(object), state.exponent + _FINE) + state.error)[reads].sum(axis=1), k + 1)
    error += _up(np.ones(len(weight), object), -(exponent + _FINE - 1))
    top = max(int(hi.max()), 1) if relu else max(-int(lo.min()), int(hi.max()), 1)
    room = (1 << _BITS) - 2 if relu else (1 << (_BITS - 1)) - 2
    shift = max(0, (top // room).bit_length())
    if shift:
        error += _up(np.ones(len(weight), object), -(exponent + shift + _FINE - 1))
    first, last = (np.array([(int(v) >> shift) + extra for v in side], np.int64) for side, extra in ((lo, 0), (hi, 1)))
    if relu:
        first, last = np.maximum(first, 0), np.maximum(last, 0)
    qtype = QType(_BITS, signed=not relu)
    assert qtype.lo <= first.min()
    assert last.max() <= qtype.hi
    staircase = Staircase(ShiftHalfUp(shift), qtype.lo, qtype.hi)
    stored = integers.reshape(op.weight.shape)
    whole = bias.astype(np.int64)
    made: Op
    if isinstance(op, Affine):
        made = Dense.of(op.name, x, stored, whole, staircase, input_zero_point=state.zero, accumulator_bits=None)
    else:
        made = Conv2d.of(
            op.name, x, stored, whole, staircase,
            window=op.window, groups=op.groups, input_zero_point=state.zero, accumulator_bits=None,
        )  # fmt: skip
    return made, _State(exponent + shift, 0, first, last, error)


def _up(values: Any, shift: int) -> Any:
    """``values / 2^shift``, rounded up; Python's integers."""
    return values << -shift if shift < 0 else -(-values >> shift)


def _shifted(values: Any, by: int) -> Any:
    return _up(values, -by)


def _spread(state: _State, read: tuple[int, ...], shape: tuple[int, ...]) -> _State:
    """What is known by channel, for a tensor of another shape: by element where it is flat."""
    each = int(np.prod(read[1:], dtype=np.int64))
    lo, hi, error = (np.repeat(side, each) for side in (state.lo, state.hi, state.error))
    if len(shape) > 1:
        # Of the elements of a new channel the worst.
        lo, hi, error = (
            f(side.reshape(shape[0], -1), axis=1) for f, side in ((np.min, lo), (np.max, hi), (np.max, error))
        )  # fmt: skip
    return _State(state.exponent, state.zero, lo, hi, error)
