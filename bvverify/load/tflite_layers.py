"""The operators of a .tflite graph, each as operations of the model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bvverify.load import tflite_arithmetic as arithmetic
from bvverify.load.profile import CmsisNn, TfLite
from bvverify.load.tflite_graph import Node, schema
from bvverify.load.tflite_reader import Reader, Value
from bvverify.load.tflite_table import table_of
from bvverify.model.ops import Add, AvgPool, Conv2d, Dense, Lookup, MaxPool, SumThenRequantise, Window
from bvverify.model.requant import Float64Away
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, AnyArray, Float32Array, Int64Array, Quantisation, frozen_array


def fully_connected(r: Reader, node: Node) -> Value:
    """FULLY_CONNECTED(x, weight (out, in), bias): each input flattened to one row."""
    x, (_, shape, q) = r.value(node, 0), r.target(node)
    if node.options.get("weightsFormat"):
        raise r.unsupported(node, "shuffled weights are not supported")
    weight, scale = _weight(r, node, 2, 0)
    row = r.reshaped(f"{node} row", r.plain(x), (int(np.prod(x.shape)),), x.quantisation)
    bias = _bias(r, node, len(weight))
    staircase = _staircase(r, node, x.quantisation, scale, q)
    op = Dense.of(str(node), row, weight, bias, staircase, input_zero_point=x.quantisation.zero_point)
    return Value(shape, q, r.reshaped(f"{node} shape", r.add(op, q), shape, q))


def convolution(r: Reader, node: Node) -> Value:
    """CONV_2D(x, weight (out, height, width, in / groups), bias)."""
    x, (_, shape, q) = r.value(node, 0), r.target(node)
    weight, scale = _weight(r, node, 4, 0)
    image = r.image(node, x)
    channels = x.shape[2]
    if channels != weight.shape[3]:
        raise r.unsupported(node, f"weights of {weight.shape[3]} input channels for {channels}; grouped convolutions are not supported")
    return _convolution(r, node, x, image, weight.transpose(0, 3, 1, 2), scale, 1, shape, q)


def depthwise(r: Reader, node: Node) -> Value:
    """DEPTHWISE_CONV_2D(x, weight (1, height, width, channels * multiplier), bias)."""
    x, (_, shape, q) = r.value(node, 0), r.target(node)
    weight, scale = _weight(r, node, 4, 3)
    image = r.image(node, x)
    if weight.shape[0] != 1 or weight.shape[3] % x.shape[2]:
        raise r.wrong(node, f"weights of shape {weight.shape} do not fit {x.shape[2]} channels")
    return _convolution(r, node, x, image, weight.transpose(3, 0, 1, 2), scale, x.shape[2], shape, q)


def _convolution(
    r: Reader,
    node: Node,
    x: Value,
    image: int,
    weight: Int64Array,
    scale: Float32Array,
    groups: int,
    shape: tuple[int, ...],
    q: Quantisation,
) -> Value:
    dilations = (int(node.options["dilationHFactor"]), int(node.options["dilationWFactor"]))
    window = _window(r, node, (weight.shape[2], weight.shape[3]), dilations, x.shape)
    if node.kind == "DEPTHWISE_CONV_2D" and r.runtime == TfLite("optimised"):
        # One multiplier a channel: this kernel rounds blocks of channels apart.
        scale = np.broadcast_to(scale, len(weight))
    op = Conv2d.of(
        str(node),
        image,
        weight,
        _bias(r, node, len(weight)),
        _staircase(r, node, x.quantisation, scale, q),
        window=window,
        groups=groups,
        input_zero_point=x.quantisation.zero_point,
    )
    return Value(shape, q, image=r.add(op, q))


def addition(r: Reader, node: Node) -> Value:
    """ADD of two activations of one shape."""
    a, b, (_, shape, q) = r.value(node, 0), r.value(node, 1), r.target(node)
    if a.shape != b.shape:
        raise r.unsupported(node, f"adds the shapes {a.shape} and {b.shape}; without broadcasting, they have to be equal")
    rule = arithmetic.addition(r.runtime, a.quantisation, b.quantisation, q)
    lo, hi = _activation(r, node, q)
    if a.image is not None and b.image is not None:
        return Value(shape, q, image=r.add(Add(str(node), a.image, b.image, rule, lo, hi), q))
    return Value(shape, q, r.add(Add(str(node), r.plain(a), r.plain(b), rule, lo, hi), q))


def average_pool(r: Reader, node: Node) -> Value:
    """AVERAGE_POOL_2D: the integer mean of what lies inside the image, half away from zero."""
    x, (_, shape, q) = r.value(node, 0), r.target(node)
    _same_meaning(r, node, x, q)
    window = _window(r, node, (int(node.options["filterHeight"]), int(node.options["filterWidth"])), (1, 1), x.shape)
    lo, hi = _activation(r, node, q)
    image, (height, width, channels) = r.image(node, x), x.shape
    inside = _inside(window, height, width)
    counts = inside.sum(axis=1)
    multipliers = np.array([arithmetic.mean_multiplier(int(n)) for n in counts])
    if not any(window.padding):
        staircase = Staircase(Float64Away(multipliers[:1], 0), lo, hi)
        return Value(shape, q, image=r.add(AvgPool(str(node), image, window, SumThenRequantise(0, staircase)), q))
    # Windows of several sizes have several divisors. As a convolution over positions, each output position is a channel with its own.
    rows, columns = window.output(height, width)
    plain = r.plain(x)
    positions = r.reshaped(f"{node} positions", plain, (height * width, channels, 1), q)
    staircase = Staircase(Float64Away(multipliers, 0), lo, hi)
    weight, bias = inside.astype(np.int64)[:, :, None, None], np.zeros(len(inside), np.int64)
    pooled = r.add(Conv2d.of(str(node), positions, weight, bias, staircase, window=Window((1, 1))), q)
    return Value(shape, q, r.reshaped(f"{node} shape", pooled, (rows, columns, channels), q))


def max_pool(r: Reader, node: Node) -> Value:
    """MAX_POOL_2D."""
    x, (_, shape, q) = r.value(node, 0), r.target(node)
    _same_meaning(r, node, x, q)
    window = _window(r, node, (int(node.options["filterHeight"]), int(node.options["filterWidth"])), (1, 1), x.shape)
    index = r.add(MaxPool(str(node), r.image(node, x), window), q)
    return Value(shape, q, image=r.clamped(str(node), index, *_activation(r, node, q), q))


def reshape(r: Reader, node: Node) -> Value:
    """RESHAPE to the shape that its second input (or its option) says: constant, or computed from shapes."""
    x, (tensor, shape, q) = r.value(node, 0), r.target(node)
    _same_meaning(r, node, x, q)
    if r.has(node, 1):
        wanted = [int(v) for v in r.constant(node, 1, "INT32").reshape(-1)]
    else:
        option = node.options.get("newShape")
        wanted = [] if option is None else [int(v) for v in option]
    size = int(np.prod(x.shape))
    known = int(np.prod([v for v in wanted if v != -1]))
    if wanted.count(-1) == 1 and known and size % known == 0:
        wanted[wanted.index(-1)] = size // known
    if tuple(wanted) != tensor.shape:
        raise r.wrong(node, f"makes the shape {tuple(wanted)}, where the file declares {tensor.shape}")
    return Value(shape, q, r.reshaped(str(node), r.plain(x), shape, q))


def unary(r: Reader, node: Node) -> Value:
    """A function of one integer, as a table of all 256 values."""
    x, (_, shape, q) = r.value(node, 0), r.target(node)
    if shape != x.shape:
        raise r.wrong(node, f"makes the shape {shape} of {x.shape}")
    if isinstance(r.runtime, CmsisNn):
        raise r.unsupported(node, "TensorFlow Lite Micro computes it in its own way, which is not modelled")
    table = table_of(r, node, x.quantisation, q)
    if np.array_equal(table, np.arange(INT8.lo, INT8.hi + 1)):
        return Value(shape, q, x.plain, x.image)
    index = r.add(Lookup(str(node), r.plain(x) if x.image is None else x.image, INT8.lo, frozen_array(table, np.int64)), q)
    return Value(shape, q, index) if x.image is None else Value(shape, q, image=index)


HANDLERS: dict[str, Callable[[Reader, Node], Value]] = {
    "FULLY_CONNECTED": fully_connected,
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": depthwise,
    "ADD": addition,
    "AVERAGE_POOL_2D": average_pool,
    "MAX_POOL_2D": max_pool,
    "RESHAPE": reshape,
    **dict.fromkeys(("LOGISTIC", "TANH", "RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "HARD_SWISH", "GELU", "QUANTIZE"), unary),
}


def _weight(r: Reader, node: Node, rank: int, axis: int) -> tuple[Int64Array, Float32Array]:
    """Constant int8 weights, and their scale: (1,) or one for each output channel, which run along ``axis``."""
    weight, tensor = r.constant(node, 1, "INT8"), r.tensor(node, 1)
    channels = weight.shape[axis] if weight.ndim == rank else 0
    if weight.ndim != rank or len(tensor.scale) not in (1, channels) or (len(tensor.scale) > 1 and tensor.axis != axis):
        raise r.wrong(node, f"weights of shape {weight.shape} with {len(tensor.scale)} scales along axis {tensor.axis}")
    if not (np.isfinite(tensor.scale).all() and (tensor.scale > 0).all()):
        raise r.wrong(node, "a scale of its weights is not positive and finite")
    if tensor.zero_point.any():
        raise r.unsupported(node, "its weights have a zero point other than 0")
    return weight, tensor.scale


def _bias(r: Reader, node: Node, channels: int) -> Int64Array:
    if not r.has(node, 2):
        if node.kind != "FULLY_CONNECTED":
            raise r.unsupported(node, "it has no bias, and LiteRT's int8 convolutions need one: give it zeros")
        return np.zeros(channels, np.int64)
    bias = r.constant(node, 2, "INT32")
    if bias.shape != (channels,):
        raise r.wrong(node, f"a bias of shape {bias.shape} for {channels} channels")
    return bias


def _staircase(r: Reader, node: Node, x: Quantisation, scale: Float32Array, y: Quantisation) -> Staircase:
    return Staircase(arithmetic.product(r.runtime, node.kind, x, scale, y), *_activation(r, node, y))


def _activation(r: Reader, node: Node, y: Quantisation) -> tuple[int, int]:
    kinds = {v: k for k, v in vars(schema(r.path).ActivationFunctionType).items() if not k.startswith("_")}
    name = kinds.get(node.options.get("fusedActivationFunction", 0), "of an unknown code")
    return arithmetic.activation(r.runtime, node.kind, name, y, INT8.lo, INT8.hi)


def _same_meaning(r: Reader, node: Node, x: Value, y: Quantisation) -> None:
    if x.quantisation != y:
        raise r.unsupported(node, f"reads {x.quantisation} and makes {y}; scale and zero point have to be the same")


def _window(r: Reader, node: Node, kernel: tuple[int, int], dilations: tuple[int, int], shape: tuple[int, ...]) -> Window:
    """The geometry over an image of ``shape`` (height, width, channels); SAME padding as TensorFlow places it."""
    if len(shape) != 3:
        raise r.unsupported(node, f"reads the shape (1, {', '.join(map(str, shape))}), not (1, height, width, channels)")
    strides = (int(node.options["strideH"]), int(node.options["strideW"]))
    if min(*strides, *kernel, *dilations) < 1:
        raise r.wrong(node, f"has the strides {strides}, the kernel {kernel} and the dilations {dilations}")
    before, after = [0, 0], [0, 0]
    if node.options["padding"] == 0:
        for axis in (0, 1):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            total = max(0, (-(-shape[axis] // strides[axis]) - 1) * strides[axis] + reach - shape[axis])
            before[axis], after[axis] = total // 2, total - total // 2
    return Window(kernel, strides, (before[0], before[1], after[0], after[1]), dilations)


def _inside(window: Window, height: int, width: int) -> AnyArray:
    """Which pixels (row-major) each window (row-major) holds: bool (windows, height * width)."""
    rows, columns = window.output(height, width)
    y, x = np.divmod(np.arange(height * width), width)
    top = np.arange(rows) * window.strides[0] - window.padding[0]
    left = np.arange(columns) * window.strides[1] - window.padding[1]
    in_rows = (top[:, None] <= y) & (y < top[:, None] + window.kernel[0])
    in_columns = (left[:, None] <= x) & (x < left[:, None] + window.kernel[1])
    return np.asarray((in_rows[:, None] & in_columns[None]).reshape(rows * columns, height * width))
