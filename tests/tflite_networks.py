"""Writes .tflite models through LiteRT's schema: single layers whose accumulators are chosen, and random networks."""

import numpy as np
from ai_edge_litert import schema_py_generated as s
from tflite_writer import Writer

from bvverify.load.load import load
from bvverify.model.ops import Conv2d, Dense

KINDS = ("conv", "depthwise", "average", "max", "add", "unary", "dense")
UNARY = ("LOGISTIC", "TANH", "RELU", "RELU6", "LEAKY_RELU", "HARD_SWISH")
VERSIONS = {"HARD_SWISH": 1, "RELU_N1_TO_1": 1}
ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")


def layer(kind, x, y, weight_scale, bias, activation="NONE"):
    """One operator whose channel i has the accumulator ``bias_i + (input - zero point)``; ``x`` and ``y`` are scale and zero point."""
    n, w = len(bias), Writer()
    act = getattr(s.ActivationFunctionType, activation)
    if kind == "FULLY_CONNECTED":
        entry, out = w.tensor((1, 1), *x), w.tensor((1, n), *y)
        weight = w.tensor((n, 1), weight_scale, 0, np.ones((n, 1), np.int8))
        options, version = {"options": "FullyConnectedOptions", "fusedActivationFunction": act}, 4
    else:
        window = {"padding": s.Padding.VALID, "strideW": 1, "strideH": 1, "fusedActivationFunction": act}
        channels = n if kind == "DEPTHWISE_CONV_2D" else 1
        entry, out = w.tensor((1, 1, 1, channels), *x), w.tensor((1, 1, 1, n), *y)
        if kind == "CONV_2D":
            weight = w.tensor((n, 1, 1, 1), weight_scale, 0, np.ones((n, 1, 1, 1), np.int8))
            options, version = {"options": "Conv2DOptions", **window}, 3
        else:
            weight = w.tensor((1, 1, 1, n), weight_scale, 0, np.ones((1, 1, 1, n), np.int8), 3)
            options, version = {"options": "DepthwiseConv2DOptions", "depthMultiplier": 1, **window}, 3
    biases = w.tensor((n,), np.float32(x[0]) * np.asarray(weight_scale, np.float32), 0, np.asarray(bias, np.int32), 0, "INT32")
    w.operator(kind, (entry, weight, biases), out, version=version, **options)
    return w.content(entry, out)


def unary(kind, x, y, shape=(1, 256)):
    """One unary operator."""
    w = Writer()
    entry, out = w.tensor(shape, *x), w.tensor(shape, *y)
    options = {"options": "LeakyReluOptions", "alpha": 0.2} if kind == "LEAKY_RELU" else {}
    w.operator(kind, (entry,), out, version=VERSIONS.get(kind, 2), **options)
    return w.content(entry, out)


def added(a, b, y, activation="NONE"):
    """ADD of (1, 2, 256, 1)'s two rows, each scaled by a convolution that changes nothing but what its integers mean."""
    w = Writer()
    act = getattr(s.ActivationFunctionType, activation)
    entry = w.tensor((1, 2, 256, 1), *a)
    rows = []
    for row, q in enumerate((a, b)):
        # A valid 2 x 1 window that holds one row: the multiplier is 1, the zero point moves.
        weight = w.tensor((1, 2, 1, 1), [q[0] / a[0]], 0, np.eye(2, dtype=np.int8)[row].reshape(1, 2, 1, 1))
        bias = w.tensor((1,), [q[0]], 0, np.array([a[1] * 0], np.int32), 0, "INT32")
        made = w.tensor((1, 1, 256, 1), *(q[0], a[1]))
        window = {"padding": s.Padding.VALID, "strideW": 1, "strideH": 1}
        rows.append(w.operator("CONV_2D", (entry, weight, bias), made, "Conv2DOptions", 3, **window))
    out = w.tensor((1, 1, 256, 1), *y)
    w.operator("ADD", rows, out, "AddOptions", 2, fusedActivationFunction=act)
    return w.content(entry, out)


def pooled(kind, q, kernel, activation):
    """A pooling of (1, 2, 256, 1) along its rows."""
    w = Writer()
    entry, out = w.tensor((1, 2, 256, 1), *q), w.tensor((1, 2, 257 - kernel, 1), *q)
    act = getattr(s.ActivationFunctionType, activation)
    window = {"padding": s.Padding.VALID, "strideW": 1, "strideH": 1, "filterHeight": 1, "filterWidth": kernel}
    w.operator(kind, (entry,), out, "Pool2DOptions", 2, fusedActivationFunction=act, **window)
    return w.content(entry, out)


def in_floats(q, count):
    """QUANTIZE, a RESHAPE and DEQUANTIZE: a float row of ``count``."""
    w = Writer()
    entry, out = w.tensor((1, count), kind="FLOAT32"), w.tensor((1, 1, count), kind="FLOAT32")
    x, y = w.tensor((1, count), *q), w.tensor((1, 1, count), *q)
    w.operator("QUANTIZE", (entry,), x, version=1)
    w.operator("RESHAPE", (x,), y, "ReshapeOptions", newShape=[1, 1, count])
    w.operator("DEQUANTIZE", (y,), out, version=2)
    return w.content(entry, out)


def softmax(reals=False):
    """A layer of ten outputs, and SOFTMAX; then DEQUANTIZE for ``reals``."""
    w = Writer()
    entry, logits, out = w.tensor((1, 10), 0.1, 3), w.tensor((1, 10), 0.2, -5), w.tensor((1, 10), 1 / 256, -128)
    rng = np.random.default_rng(0)
    weight = w.tensor((10, 10), [0.01], 0, rng.integers(-127, 128, (10, 10)).astype(np.int8))
    bias = w.tensor((10,), [0.001], 0, np.zeros(10, np.int32), 0, "INT32")
    w.operator("FULLY_CONNECTED", (entry, weight, bias), logits, "FullyConnectedOptions", 4)
    w.operator("SOFTMAX", (logits,), out, "SoftmaxOptions", 2, beta=1.0)
    return w.content(entry, w.operator("DEQUANTIZE", (out,), w.tensor((1, 10), kind="FLOAT32"), version=2) if reals else out)


def at_thresholds(rng, path, kind, mode, per_channel, channels=100):
    """A layer of many channels, and an input: each accumulator at a step of its channel's staircase, a unit off it, or anywhere."""
    x, y = scales(rng), scales(rng)
    n = channels if per_channel else 1
    scale = np.where(rng.integers(2, size=n), 2.0 ** rng.integers(-8, 1, n), np.exp(rng.uniform(-7, 1, n))).astype(np.float32)
    path.write_bytes(layer(kind, x, y, scale, np.zeros(channels, np.int64)))
    table = next(op for op in load(path, mode).ops if isinstance(op, Dense | Conv2d)).staircase.thresholds
    table = np.broadcast_to(table, (channels, table.shape[1])) if len(table) == 1 else table
    acc = table[np.arange(channels), rng.integers(0, table.shape[1], channels)] + rng.integers(-1, 2, channels)
    far = rng.integers(-(1 << 20), 1 << 20, channels)
    acc = np.where(rng.integers(8, size=channels) == 0, far, acc)
    content = layer(kind, x, y, scale, np.clip(acc, -(1 << 22), 1 << 22))
    return content, np.full((1, channels if kind == "DEPTHWISE_CONV_2D" else 1), x[1], np.int8)


def scales(rng):
    """A scale and a zero point: powers of two, where ties are many, and extreme zero points as often as others."""
    scale = 2.0 ** rng.integers(-6, -2) if rng.integers(2) else np.exp(rng.uniform(-4.5, -1.5))
    return float(np.float32(scale)), int(rng.choice([-128, 127, 0, -1, *rng.integers(-128, 128, 2)]))


def model(seed, kinds=None):
    """A random network over an image: its bytes and the input's shape without the batch."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(v) for v in (rng.integers(1, 9), rng.integers(1, 9), rng.integers(1, 12)))
    w, q = Writer(), scales(rng)
    entry = index = w.tensor((1, *shape), *q)
    seen = [(index, shape, q)]
    for kind in rng.choice(KINDS[:-1], rng.integers(1, 5)) if kinds is None else kinds:
        index, shape, q = _append(w, rng, str(kind), index, shape, q, seen)
        seen.append((index, shape, q))
    if kinds is None and rng.integers(3):
        flat = (int(np.prod(shape)),)
        wanted = w.tensor((2,), data=np.array([1, -1], np.int32), kind="INT32")
        index = w.operator("RESHAPE", (index, wanted), w.tensor((1, *flat), *q), "ReshapeOptions", newShape=[1, -1])
        index, _, _ = _append(w, rng, "dense", index, flat, q, seen)
    return w.content(entry, index), seen[0][1]


def _append(w, rng, kind, x, shape, q, seen):
    act = {"fusedActivationFunction": getattr(s.ActivationFunctionType, str(rng.choice(ACTIVATIONS)))}
    padding, strides = int(rng.integers(2)), (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    kernel = tuple(int(rng.integers(1, min(4, d) + 1)) for d in shape[:2])
    dilations = (1, 1)
    if kind in ("conv", "depthwise") and rng.integers(4) == 0 and shape[0] >= 4 and shape[1] >= 4:
        kernel, strides, dilations = (2, 2), (1, 1), (2, 2)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=False)]
    out = tuple(-(-d // st) if padding == 0 else (d - r) // st + 1 for d, st, r in zip(shape, strides, reach, strict=False))
    window = {"padding": padding, "strideH": strides[0], "strideW": strides[1], **act}
    y = scales(rng)
    if kind in ("conv", "depthwise", "dense"):
        multiplier = int(rng.integers(1, 3)) if kind == "depthwise" else 1
        n = shape[2] * multiplier if kind == "depthwise" else int(rng.integers(1, 20))
        per_channel = bool(rng.integers(2))
        weights = {
            "conv": (n, *kernel, shape[-1]),
            "depthwise": (1, *kernel, n),
            "dense": (n, shape[0]),
        }[kind]
        size = int(np.prod(weights)) // n
        scale = np.array([2.0 ** rng.integers(-9, -5) if rng.integers(2) else np.exp(rng.uniform(-6, -4)) for _ in range(n)], np.float32)
        scale = scale if per_channel else scale[:1]
        y = (float(np.float32(y[0] * 2.0 ** rng.integers(0, 3))), y[1])
        axis = 3 if kind == "depthwise" else 0
        weight = w.tensor(weights, scale, 0, rng.integers(-127, 128, weights).astype(np.int8), axis)
        bias = rng.integers(-1, 2, n) * rng.integers(0, 2000 * size, n)
        biases = w.tensor((n,), np.float32(q[0]) * scale, 0, bias.astype(np.int32), 0, "INT32")
        inputs = (x, weight, biases) if kind != "dense" or rng.integers(4) else (x, weight)
        if kind == "dense":
            made = w.tensor((1, n), *y)
            inputs = (*inputs, -1)[:3]
            return w.operator("FULLY_CONNECTED", inputs, made, "FullyConnectedOptions", 4, **act), (n,), y
        made = w.tensor((1, *out, n), *y)
        window |= {"dilationHFactor": dilations[0], "dilationWFactor": dilations[1]}
        if kind == "conv":
            return w.operator("CONV_2D", inputs, made, "Conv2DOptions", 3, **window), (*out, n), y
        window |= {"depthMultiplier": multiplier}
        return w.operator("DEPTHWISE_CONV_2D", inputs, made, "DepthwiseConv2DOptions", 3, **window), (*out, n), y
    if kind in ("average", "max"):
        name = "AVERAGE_POOL_2D" if kind == "average" else "MAX_POOL_2D"
        window |= {"filterHeight": kernel[0], "filterWidth": kernel[1]}
        made = w.tensor((1, *out, shape[2]), *q)
        return w.operator(name, (x,), made, "Pool2DOptions", 2, **window), (*out, shape[2]), q
    if kind == "add":
        others = [(i, p) for i, other, p in seen if other == shape]
        other, _ = others[rng.integers(len(others))]
        return w.operator("ADD", (x, other), w.tensor((1, *shape), *y), "AddOptions", 2, **act), shape, y
    name = str(rng.choice(UNARY))
    if name in ("LOGISTIC", "TANH"):
        y = (1 / 256, -128) if name == "LOGISTIC" else (1 / 128, 0)
    options = {"options": "LeakyReluOptions", "alpha": float(rng.choice([0.1, 0.25, 0.3]))} if name == "LEAKY_RELU" else {}
    return w.operator(name, (x,), w.tensor((1, *shape), *y), version=VERSIONS.get(name, 2), **options), shape, y


def inputs(rng, shape, count):
    """Random images, some of them saturated and some constant."""
    x = rng.integers(-128, 128, (count, *shape))
    extreme = rng.choice([-128, 127], (count, *shape))
    x = np.where(rng.integers(3, size=(count, *(1,) * len(shape))) == 0, extreme, x)
    constant = rng.integers(-128, 128, (count, *(1,) * len(shape)))
    return np.where(rng.integers(4, size=constant.shape) == 0, constant, x).astype(np.int8)
