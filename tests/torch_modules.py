"""Random PyTorch eager-quantised modules, and single layers driven onto the edges of their arithmetic."""

import warnings
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.ao import quantization as tq

ENGINES = ("fbgemm", "qnnpack")
Float = torch.ao.nn.quantized.FloatFunctional


@contextmanager
def engine(name):
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = name
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


class Layer(nn.Module):
    """Quantise, one operator on packed weights, dequantise: every parameter as it is given."""

    def __init__(self, operator, packed, x, y):
        super().__init__()
        self.operator, self.packed, self.x, self.y = operator, packed, x, y

    def forward(self, x):
        q = torch.quantize_per_tensor(x, *self.x, torch.quint8)
        return self.operator(q, self.packed, *self.y).dequantize()


def weight(rng, shape, per_channel, limit=128):
    """A qint8 weight with extreme values and zero points, or scales that are powers of two."""
    w = torch.from_numpy(rng.integers(-limit, limit, shape).astype(np.int8))
    n = shape[0] if per_channel else 1
    scale = 2.0 ** rng.integers(-8, -2, n) if rng.integers(3) == 0 else 10 ** rng.uniform(-3, -1, n)
    zero = np.zeros(n, np.int64) if rng.integers(2) else rng.integers(-128, 128, n)
    if per_channel:
        return torch._make_per_channel_quantized_tensor(w, torch.from_numpy(scale), torch.from_numpy(zero), 0), scale
    return torch._make_per_tensor_quantized_tensor(w, float(scale[0]), int(zero[0])), scale


def layer(rng, kind):
    """A linear layer or a convolution under the engine that is selected, and the shape of its input.

    Scales such that ties, both saturations and the steps between them all occur; biases on half steps.
    """
    sx = float(np.float32(2.0 ** rng.integers(-6, 0) if rng.integers(2) else 10 ** rng.uniform(-2, 0)))
    zx, zy = (int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)])) for _ in range(2))
    per_channel, relu, ops = bool(rng.integers(2)), bool(rng.integers(2)), torch.ops.quantized
    if kind == "linear":
        outputs, inputs = int(rng.integers(1, 40)), int(rng.integers(1, 120))
        w, sw = weight(rng, (outputs, inputs), per_channel)
        shape = (inputs,)
    else:
        groups = {"conv": 1, "grouped": 2, "depthwise": int(rng.choice([2, 3, 8, 16]))}[kind]
        each = 1 if kind == "depthwise" else int(rng.integers(1, 4))
        outputs, k = groups * int(rng.integers(1, 5 if kind != "depthwise" else 3)), int(rng.choice([1, 3, 3, 5]))
        # Beyond 64, fbgemm's depthwise kernel saturates sums of pairs, and the layer is refused.
        w, sw = weight(rng, (outputs, each, k, k), per_channel, 64 if kind == "depthwise" else 128)
        shape, inputs = (groups * each, int(rng.integers(5, 8)), int(rng.integers(5, 8))), each * k * k
    bias = None
    if rng.integers(4):
        steps = rng.integers(-300, 300, outputs) + rng.choice([0, 0.5], outputs)
        bias = torch.from_numpy((steps * (sx * sw)).astype(np.float32))
    sy = float(np.float32(sx * sw.mean() * 2.0 ** rng.integers(0, 4) * np.sqrt(inputs) * 10))
    if sy > 1e-6 and rng.integers(3) == 0:
        sy = 2.0 ** round(np.log2(sy))
    if kind == "linear":
        packed = ops.linear_prepack(w, bias)
        operator = ops.linear_relu if relu else ops.linear
    else:
        padding, stride = int(rng.integers(0, 3)), int(rng.integers(1, 3))
        packed = ops.conv2d_prepack(w, bias, [stride] * 2, [padding] * 2, [1, 1], groups)
        operator = ops.conv2d_relu if relu else ops.conv2d
    return Layer(operator, packed, (sx, zx), (sy, zy)).eval(), shape


class Mlp(nn.Module):
    def __init__(self, sizes=(64, 32, 16, 10)):
        super().__init__()
        self.quant, self.dequant = tq.QuantStub(), tq.DeQuantStub()
        layers = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x):
        return self.dequant(self.layers(self.quant(x)))


class Cnn(nn.Module):
    """Convolutions, both kinds of pools, two branches that are joined, activations as tables."""

    def __init__(self, rng, channels=1, size=8):
        super().__init__()
        wide = int(rng.choice([4, 6, 8]))
        self.quant, self.dequant, self.join = tq.QuantStub(), tq.DeQuantStub(), Float()
        self.first, self.relu = nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU(inplace=bool(rng.integers(2)))
        self.pool = nn.MaxPool2d(2) if rng.integers(2) else nn.MaxPool2d(3, 2, 1)
        self.second = nn.Conv2d(wide, wide, 3, padding=1, groups=int(rng.choice([1, 2])))
        kinds = [nn.Sigmoid, nn.Tanh, nn.Hardswish, nn.LeakyReLU, nn.ELU, nn.Identity]
        self.activation = kinds[int(rng.integers(len(kinds)))]()
        self.average = nn.AvgPool2d(2)
        self.last = nn.AdaptiveAvgPool2d(1 if rng.integers(2) else 2)
        side = 1 if self.last.output_size == 1 else 2
        self.linear, self.dropout = nn.Linear(2 * wide * side * side, 5), nn.Dropout()

    def forward(self, x):
        x = self.pool(self.relu(self.first(self.quant(x))))
        y = self.activation(self.second(x))
        # Row-major: in channels-last layout fbgemm's means are not one function.
        x = self.average(self.join.cat([x, y], 1).contiguous())
        return self.dequant(self.linear(self.dropout(torch.flatten(self.last(x), 1))))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant, self.dequant, self.sum = tq.QuantStub(), tq.DeQuantStub(), Float()
        self.a, self.b, self.last = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.quant(x)
        return self.dequant(self.last(self.sum.add_relu(self.a(x), self.b(x))))


def quantised(module, x, name):
    """The module after calibration on ``x``, converted for an engine."""
    with engine(name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = module.eval()
        if isinstance(module, Mlp):
            pairs = [[f"layers.{i}", f"layers.{i + 1}"] for i in range(0, len(module.layers) - 1, 2)]
            module = tq.fuse_modules(module, pairs)
        module.qconfig = tq.get_default_qconfig(name)
        module = tq.prepare(module)
        with torch.no_grad():
            module(x)
        return tq.convert(module)
