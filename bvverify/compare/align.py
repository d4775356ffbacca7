"""Two networks on one input: what their readings have to share before they can be held against each other.

Two readings of one file read the same integers, B's moved to where A has them (``rebase``). Two files may begin in quantisers of their
own, and then one real number is two integers. A quantiser is a step function of float32, so that the *cells* between the steps of either
are a common input: the number of a cell says, through a table each, which integer A reads and which one B does, and no real number is
left out. Where one file's steps are among the other's, the cells are that file's own integers. Files that take integers read the same
ones, or are refused.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bvverify.compare.fuse import fuse_clamps
from bvverify.compare.rebase import rebase
from bvverify.errors import UnsupportedError
from bvverify.model import box
from bvverify.model.network import Input, Network
from bvverify.model.ops import Lookup, Op, Reshape, inputs, moved
from bvverify.model.types import AnyArray, Cells, Float32Array, Int64Array, QType, Quantisation, Tensor, frozen_array

_MOST_BITS = 16


def two_files(a: Network, b: Network) -> bool:
    """Whether the two come from different files, and are not two readings of one."""
    return a.provenance.sha256 != b.provenance.sha256


def same_meaning(a: Network, b: Network) -> bool:
    """Whether one output integer stands for one number in both; two readings of one file give the file's own."""
    if not two_files(a, b):
        return True
    one, other = (n.output.dequantiser or n.output_tensor.quantisation for n in (a, b))
    return one == other and a.output_tensor.qtype == b.output_tensor.qtype


def align(a: Network, b: Network) -> tuple[Network, Network]:
    """A and B on one input tensor; ``UnsupportedError`` where they do not read the same inputs, or differ in the number of outputs."""
    if not two_files(a, b):
        return a, _same_file(a, b)
    a, b = fuse_clamps(a), fuse_clamps(b)
    one, other = a.input, b.input
    names = f"{a.provenance.path} and {b.provenance.path}"
    if _plain(one.file_shape) != _plain(other.file_shape):
        raise UnsupportedError(f"{names}: their inputs have the shapes {one.file_shape} and {other.file_shape}")
    if a.output_tensor.size != b.output_tensor.size:
        raise UnsupportedError(f"{names}: they have {a.output_tensor.size} and {b.output_tensor.size} outputs")
    if one.quantiser is None and other.quantiser is None:
        if one.tensor.qtype != other.tensor.qtype:
            raise UnsupportedError(f"{names}: they take integers of the types {one.tensor.qtype} and {other.tensor.qtype}")
        return a, _behind(b, one, None)
    if not isinstance(one.quantiser, Quantisation) or not isinstance(other.quantiser, Quantisation):
        raise UnsupportedError(f"{names}: one takes real numbers, the other integers; there is no input that both take")
    ours, theirs = starts(one.quantiser, one.tensor.qtype), starts(other.quantiser, other.tensor.qtype)
    every = np.union1d(ours, theirs)
    if len(every) == len(ours):
        common = one
        b = _moved_to(b, a)
    elif len(every) == len(theirs):
        common = other
    else:
        bits = len(every).bit_length()
        if bits > _MOST_BITS:
            raise UnsupportedError(f"{names}: their quantisers have {len(every)} different steps; inputs have up to {_MOST_BITS} bits")
        qtype = QType(bits, signed=False)
        common = Input(Tensor("cells", one.tensor.shape, qtype, None), one.file_shape, Cells(tuple(every.tolist())))
    return tuple(_behind(n, common, _table(common, every, s, n)) for n, s in ((a, ours), (b, theirs)))  # type: ignore[return-value]


def starts(quantiser: Quantisation, qtype: QType) -> Float32Array:
    """The smallest float32 that the quantiser takes to each of the integers ``lo + 1 .. hi`` of its type; by bisection, ascending."""
    levels = np.arange(qtype.lo + 1, qtype.hi + 1)
    reach = np.float32(quantiser.scale) * np.float32(1 << 16)  # zero points and levels are both of one type of at most 16 bits
    below, reaches = (np.full(len(levels), int(_ordered(np.array([end], np.float32))[0]), np.int64) for end in (-reach, reach))
    while (reaches - below > 1).any():
        middle = (below + reaches) >> 1
        hit = box.quantise(_from_order(middle), quantiser, qtype) >= levels
        below, reaches = np.where(hit, below, middle), np.where(hit, middle, reaches)
    return _from_order(reaches)


def _ordered(x: Float32Array) -> Int64Array:
    """Float32 as integers in the order of the numbers; both zeros are 0."""
    bits = x.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _from_order(order: Int64Array) -> Float32Array:
    bits = np.where(order < 0, 0x80000000 - order, order)
    return np.asarray(bits.astype(np.uint32).view(np.float32))


def _plain(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without the axes of length 1, which do not change the order of the elements."""
    return tuple(n for n in shape if n != 1)


def _same_file(a: Network, b: Network) -> Network:
    b = rebase(b, a)
    one, other = a.input.tensor, b.input.tensor
    path = a.provenance.path
    if (one.shape, one.qtype, _meaning(a)) != (other.shape, other.qtype, _meaning(b)):
        raise UnsupportedError(
            f"{path}: input {one.name}: {a.semantics} reads {one.qtype} {one.shape}, {b.semantics} {other.qtype} {other.shape},"
            " or another quantiser; compare two semantics that read the same integers"
        )
    if a.output_tensor.size != b.output_tensor.size:
        raise UnsupportedError(f"{path}: output {a.output_tensor.name}: the two readings have different numbers of outputs")
    return b


def _meaning(network: Network) -> tuple[float, int] | None:
    quantiser = network.input.quantiser
    return (quantiser.scale, quantiser.zero_point) if isinstance(quantiser, Quantisation) else None


def _moved_to(b: Network, a: Network) -> Network:
    """B on A's integers throughout where its input, whose steps are among A's, and all other tensors can be moved; else B as it is."""
    try:
        moved = rebase(b, a)
    except UnsupportedError:
        return b
    return moved if moved.input.tensor.qtype == a.input.tensor.qtype else b


def _table(common: Input, every: Float32Array, own: Float32Array, network: Network) -> Int64Array | None:
    """Which integer of its own each common one is to a network; None where it is the same one."""
    qtype = common.tensor.qtype
    cell = np.minimum(np.arange(qtype.lo, qtype.hi + 1) - qtype.lo, len(every))
    passed = np.searchsorted(own, every, side="right")
    table = network.input.tensor.qtype.lo + np.concatenate([[0], passed])[cell]
    return None if np.array_equal(table, np.arange(qtype.lo, qtype.hi + 1)) else table


def _behind(network: Network, common: Input, table: AnyArray | None) -> Network:
    """The network behind a table and, where the shapes differ, a reshape of the common input."""
    own, ops, tensors = network.input.tensor, list[Op](), [common.tensor]
    if table is not None:
        ops.append(Lookup("own integers", 0, common.tensor.qtype.lo, frozen_array(table, np.int64)))
        tensors.append(replace(own, shape=common.tensor.shape))
    # A reshape may read any shape of the size.
    if own.shape != common.tensor.shape and not all(isinstance(op, Reshape) for op in network.ops if 0 in inputs(op)):
        ops.append(Reshape("own shape", len(ops), own.shape))
        tensors.append(own)
    more = len(ops)
    ops += [moved(op, tuple(t + more for t in inputs(op))) for op in network.ops]
    tensors += network.tensors[1:]
    declared = Input(common.tensor, network.input.file_shape, common.quantiser)
    output = replace(network.output, tensor=network.output.tensor + more)
    return replace(network, input=declared, ops=tuple(ops), tensors=tuple(tensors), output=output)
