"""Random tiny networks of every operation, random boxes and properties, and the answer by enumeration."""

import numpy as np

from bvverify.model.network import Input, Network, Output, Provenance, output_form
from bvverify.model.ops import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv2d,
    Dense,
    FmaAdd,
    Lookup,
    MaxPool,
    Q31Add,
    Reshape,
    SequentialFloat32,
    ShiftAdd,
    SumThenRequantise,
    Transpose,
    Window,
    inputs,
)  # fmt: skip
from bvverify.model.query import Box, Linear, Property, Query
from bvverify.model.requant import Float32HalfEven, ShiftHalfUp, q31
from bvverify.model.staircase import Staircase
from bvverify.model.types import QType, Tensor, frozen_array
from bvverify.run import interpreter

KINDS = ("dense", "conv", "add", "shift add", "q31 add", "max", "mean", "float mean", "clamp", "table", "concat", "transpose")


def network(rng, kinds=None, classes=3):
    """A network over (channels, height, width) inputs of 2 to 4 bits that ends in a dense layer."""
    kinds = [KINDS[i] for i in rng.integers(0, len(KINDS), rng.integers(1, 4))] if kinds is None else kinds
    shape = (int(rng.integers(1, 3)), int(rng.integers(1, 4)), int(rng.integers(1, 3)))
    tensors = [Tensor("in", shape, QType(int(rng.integers(2, 5)), bool(rng.integers(2))))]
    ops = []
    for kind in kinds:
        _append(rng, kind, ops, tensors)
    size = tensors[-1].size
    ops.append(Reshape("flat", len(ops), (size,)))
    tensors.append(Tensor("flat", (size,), tensors[-1].qtype))
    ops.append(_dense(rng, "last", len(ops), size, classes))
    tensors.append(Tensor("last", (classes,), QType(8, True)))
    made = Provenance("random", "random", "random", "0" * 64)
    return Network(Input(tensors[0], (1, *shape)), tuple(ops), tuple(tensors), Output(len(ops), (1, classes)), made)


def _append(rng, kind, ops, tensors):
    x, t = len(ops), tensors[-1]
    name = f"{kind} {x}"
    if kind == "dense":
        ops.append(Reshape(name + " flat", x, (t.size,)))
        tensors.append(Tensor(name, (t.size,), t.qtype))
        outputs = int(rng.integers(1, 5))
        ops.append(_dense(rng, name, x + 1, t.size, outputs))
        tensors.append(Tensor(name, (outputs,), QType(8, True)))
        ops.append(Reshape(name + " image", x + 2, (outputs, 1, 1)))
        tensors.append(Tensor(name, (outputs, 1, 1), QType(8, True)))
        return
    qtype = QType(8, True)
    match kind:
        case "conv":
            op = _conv(rng, name, x, t)
        case "add":
            other = int(rng.choice([i for i, u in enumerate(tensors) if u.shape == t.shape]))
            ra, rb = (float(np.float32(v)) for v in rng.choice([0.5, 0.25, 1.0, 0.1, 0.37, 1.7], 2))
            op = Add(name, x, other, FmaAdd(ra, rb, float(np.float32(rng.normal() * 4))), *_clamp(rng))
        case "shift add":
            other, shift = int(rng.choice([i for i, u in enumerate(tensors) if u.shape == t.shape])), int(rng.integers(1, 6))
            ma, mb = (int(v) for v in rng.integers(0, 60, 2))
            op = Add(name, x, other, ShiftAdd(ma, mb, int(rng.integers(-90, 90)), shift, int(rng.integers(-3, 4))), *_clamp(rng))
        case "q31 add":
            other = int(rng.choice([i for i, u in enumerate(tensors) if u.shape == t.shape]))
            scales = rng.choice([0.5, 0.25, 0.1, 0.37, 0.29999], 2)
            out = float(rng.choice([1.0, 2.0, 0.7])) / (1 << 20)
            zeros, single = (int(v) for v in rng.integers(-3, 4, 3)), bool(rng.integers(2))
            za, zb, zero = zeros
            rule = Q31Add(za, zb, q31(float(scales[0])), q31(float(scales[1])), q31(out), zero, single)
            op = Add(name, x, other, rule, *_clamp(rng))
        case "max":
            op = MaxPool(name, x, _window(rng, t))
        case "mean":
            window = Window((int(rng.integers(1, t.shape[1] + 1)), int(rng.integers(1, t.shape[2] + 1))))
            op = AvgPool(name, x, window, SumThenRequantise(int(rng.integers(t.qtype.lo, t.qtype.hi + 1)), _staircase(rng, 1, 4)))
        case "float mean":
            zero, scale = int(rng.integers(t.qtype.lo, t.qtype.hi + 1)), np.float32(rng.choice([0.1, 0.25, 0.013]))
            values = (np.arange(t.qtype.lo, t.qtype.hi + 1) - zero).astype(np.float32) * scale
            scale_out = float(np.float32(rng.choice([0.1, 0.07, 0.5])))
            rule = SequentialFloat32(
                t.qtype.lo, frozen_array(values, np.float32), scale_out, int(rng.integers(-5, 6)), bool(rng.integers(2)), *_clamp(rng)
            )
            op = AvgPool(name, x, _window(rng, t), rule)
        case "clamp":
            lo = int(rng.integers(t.qtype.lo, t.qtype.hi + 1))
            op, qtype = Clamp(name, x, lo, int(rng.integers(lo, t.qtype.hi + 1))), t.qtype
        case "table":
            table = rng.integers(-6, 7, t.qtype.hi - t.qtype.lo + 1)
            op = Lookup(name, x, t.qtype.lo, frozen_array(np.sort(table) if rng.integers(2) else table, np.int64))
        case "concat":
            axis = int(rng.integers(0, 3))
            same = [i for i, u in enumerate(tensors) if u.shape == t.shape]
            op = Concat(name, (x, int(rng.choice(same))), axis)
        case "transpose":
            op = Transpose(name, x, tuple(int(v) for v in rng.permutation(3)))
    if kind in ("max", "transpose"):
        qtype = t.qtype
    shape, lo, hi = output_form(op, tuple(tensors[i] for i in inputs(op)))
    if kind == "concat":
        qtype = QType(9, True)
        if lo < qtype.lo or hi > qtype.hi:
            return
    ops.append(op)
    tensors.append(Tensor(name, shape, qtype))


def _clamp(rng):
    lo = int(rng.integers(-9, 3))
    return lo, int(rng.integers(lo + 1, 10))


def _staircase(rng, channels, reach):
    lo, hi = _clamp(rng)
    if rng.integers(2):
        return Staircase(ShiftHalfUp(int(rng.integers(0, reach))), lo, hi)
    multipliers = rng.choice([0.5, 0.25, 0.125, 0.3, 0.07, 1.0], channels if rng.integers(2) else 1).astype(np.float32)
    return Staircase(Float32HalfEven(multipliers, int(rng.integers(-3, 4))), lo, hi)


def _dense(rng, name, x, size, outputs):
    weight = rng.integers(-4, 5, (outputs, size))
    bits = int(rng.choice([5, 6, 32]))
    return Dense.of(
        name, x, weight, rng.integers(-8, 9, outputs), _staircase(rng, outputs, 4), weight_zero_point=rng.integers(-1, 2, outputs),
        input_zero_point=int(rng.integers(-3, 4)), accumulator_bits=None if bits == 32 and rng.integers(2) else bits,
    )  # fmt: skip


def _window(rng, t):
    kernel = (int(rng.integers(1, t.shape[1] + 1)), int(rng.integers(1, t.shape[2] + 1)))
    padding = tuple(int(rng.integers(0, k)) for k in (*kernel, *kernel))
    return Window(kernel, (int(rng.integers(1, 3)), int(rng.integers(1, 3))), padding)


def _conv(rng, name, x, t):
    groups = int(rng.choice([g for g in range(1, t.shape[0] + 1) if t.shape[0] % g == 0]))
    window = _window(rng, t)
    if rng.integers(3) == 0 and t.shape[1] >= 3:
        window = Window((2, 1), (1, 1), (0, 0, 0, 0), (2, 1))
    outputs = groups * int(rng.integers(1, 3))
    weight = rng.integers(-4, 5, (outputs, t.shape[0] // groups, *window.kernel))
    zero = int(rng.integers(t.qtype.lo, t.qtype.hi + 1))
    bits = int(rng.choice([6, 32]))
    return Conv2d.of(
        name, x, weight, rng.integers(-8, 9, outputs), _staircase(rng, outputs, 4), window=window, groups=groups,
        input_zero_point=zero, accumulator_bits=bits,
    )  # fmt: skip


def box(rng, net, most=1 << 10):
    """A random box of at most ``most`` inputs."""
    qtype, shape = net.input.tensor.qtype, net.input.tensor.shape
    centre = rng.integers(qtype.lo, qtype.hi + 1, shape)
    lo, hi = centre.copy(), centre.copy()
    for index in rng.permutation(centre.size):
        at = np.unravel_index(index, shape)
        down, up = (int(v) for v in rng.integers(0, 3, 2))
        new = max(lo[at] - down, qtype.lo), min(hi[at] + up, qtype.hi)
        sizes = (hi - lo + 1).astype(float)
        if sizes.prod() / sizes[at] * (new[1] - new[0] + 1) > most:
            break
        lo[at], hi[at] = new
    return Box.of(lo, hi)


def points(where):
    """Every input of a box, (number, *shape)."""
    axes = [np.arange(a, b + 1) for a, b in zip(where.lo.ravel(), where.hi.ravel(), strict=True)]
    return np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=1).reshape(-1, *where.lo.shape)


def prop(rng, net, where, y):
    """Robustness for the majority's class, or random linear constraints near the outputs that occur."""
    outputs = net.output_tensor.size
    if rng.integers(2):
        return Property.robustness(int(np.bincount(y.argmax(axis=1), minlength=outputs).argmax()), outputs)
    conjunctions = []
    for _ in range(rng.integers(1, 3)):
        rows = []
        for _ in range(rng.integers(1, 3)):
            c = rng.integers(-2, 3, outputs)
            over = rng.integers(-1, 2, net.input.tensor.size) if rng.integers(3) == 0 else None
            least = (y @ c).min()
            inputs_too = None if over is None else frozen_array(over, np.int64)
            rows.append(Linear(frozen_array(c, np.int64), int(least + rng.integers(-2, 2)), inputs_too))
        conjunctions.append(tuple(rows))
    return Property(tuple(conjunctions), "random")


def question(seed, kinds=None, most=1 << 10):
    """A query, and whether some input of its box violates the property, by enumeration."""
    rng = np.random.default_rng(seed)
    net = network(rng, kinds)
    where = box(rng, net, most)
    x = points(where)
    y = interpreter.run(net, x).reshape(len(x), -1)
    asked = prop(rng, net, where, y)
    return Query(net, where, asked), bool(asked.violated(x.reshape(len(x), -1), y).any())
