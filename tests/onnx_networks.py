"""Random ONNX files, QOperator and QDQ, for holding `run` against the runtime: dense, (grouped) convolution, addition, pools."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

KINDS = ("conv", "grouped", "add", "max", "mean", "global", "clip")


class Writer:
    """One graph in the making; every activation is (name, scale name, zero name, scale, zero, shape)."""

    def __init__(self, rng, form, signed):
        self.rng, self.form, self.signed = rng, form, signed
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, value, dtype):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op, ins, domain="", **attributes):
        self.count += 1
        out = f"t{self.count}"
        self.nodes.append(helper.make_node(op, ins, [out], name=f"n{self.count}", domain=domain, **attributes))
        return out

    def quantisation(self, relu=False):
        """Scales that are powers of two place many accumulators on ties."""
        rng = self.rng
        scale = np.float32(rng.choice([2.0**-4, 2.0**-5, rng.uniform(0.02, 0.2)]))
        lo, hi = (-128, 127) if self.signed else (0, 255)
        zero = lo if relu else int(rng.choice([lo, hi, int(rng.integers(lo, hi + 1)), (lo + hi) // 2]))
        return scale, zero, self.constant(scale, np.float32), self.constant(zero, np.int8 if self.signed else np.uint8)

    def weight(self, shape, channels):
        rng = self.rng
        per_channel = bool(rng.integers(2))
        count = channels if per_channel else 1
        scale = rng.choice([2.0**-6, 2.0**-7, rng.uniform(0.001, 0.03)], count).astype(np.float32)
        integers = rng.integers(-128, 128, shape)
        shaped = scale if per_channel else scale[0]
        names = self.constant(integers, np.int8), self.constant(shaped, np.float32), self.constant(np.zeros_like(shaped), np.int8)
        bias = rng.integers(-3000, 3000, channels)
        return names, self.constant(bias, np.int32), shaped, bias

    def reals(self, x):
        return self.node("DequantizeLinear", [x["t"], x["s"], x["z"]])

    def product(self, op, x, shape, weight_shape, **attributes):
        channels = weight_shape[0]
        (w, ws, wz), b, scale, _ = self.weight(weight_shape, channels)
        relu = bool(self.rng.integers(2))
        ys, yz, sn, zn = self.quantisation(relu)
        if self.form == "qop":
            if op == "Conv":
                out = self.node("QLinearConv", [x["t"], x["s"], x["z"], w, ws, wz, sn, zn, b], **attributes)
            else:
                out = self.node("QGemm", [x["t"], x["s"], x["z"], w, ws, wz, b, sn, zn], "com.microsoft", transB=1)
        else:
            axis = {"axis": 0} if np.ndim(scale) else {}
            bs = self.constant(np.float32(x["scale"]) * scale, np.float32)
            bz = self.constant(np.zeros(np.shape(scale)), np.int32)
            wr, br = self.node("DequantizeLinear", [w, ws, wz], **axis), self.node("DequantizeLinear", [b, bs, bz], **axis)
            extra = attributes if op == "Conv" else {"transB": 1}
            y = self.node(op, [self.reals(x), wr, br], **extra)
            if relu:
                y = self.node("Relu", [y])
            out = self.node("QuantizeLinear", [y, sn, zn])
        return {"t": out, "s": sn, "z": zn, "scale": ys, "zero": yz, "shape": shape}

    def unary(self, qop, op, x, shape, **attributes):
        ys, yz, sn, zn = self.quantisation()
        if self.form == "qop":
            out = self.node(qop, [x["t"], x["s"], x["z"], sn, zn], "com.microsoft", **attributes)
        else:
            out = self.node("QuantizeLinear", [self.node(op, [self.reals(x)], **attributes), sn, zn])
        return {"t": out, "s": sn, "z": zn, "scale": ys, "zero": yz, "shape": shape}

    def add(self, a, b):
        ys, yz, sn, zn = self.quantisation()
        if self.form == "qop":
            out = self.node("QLinearAdd", [a["t"], a["s"], a["z"], b["t"], b["s"], b["z"], sn, zn], "com.microsoft")
        else:
            out = self.node("QuantizeLinear", [self.node("Add", [self.reals(a), self.reals(b)]), sn, zn])
        return {"t": out, "s": sn, "z": zn, "scale": ys, "zero": yz, "shape": a["shape"]}

    def moved(self, x, op, shape, **attributes):
        if self.form == "qop":
            return x | {"t": self.node(op, [x["t"]], **attributes), "shape": shape}
        return x | {"t": self.node("QuantizeLinear", [self.node(op, [self.reals(x)], **attributes), x["s"], x["z"]]), "shape": shape}


def model(seed):
    """A serialised model with a float input (1, C, H, W) and float outputs, and the shape of its input."""
    rng = np.random.default_rng(seed)
    form = "qop" if seed % 2 else "qdq"
    w = Writer(rng, form, form == "qop" and bool(rng.integers(2)))
    shape = (int(rng.integers(1, 5)), int(rng.integers(3, 8)), int(rng.integers(3, 8)))
    scale, zero, sn, zn = w.quantisation()
    x = {"t": w.node("QuantizeLinear", ["x", sn, zn]), "s": sn, "z": zn, "scale": scale, "zero": zero, "shape": shape}
    for kind in rng.choice(KINDS, rng.integers(1, 5)):
        x = _append(w, rng, kind, x)
    size = int(np.prod(x["shape"]))
    x = w.moved(x, "Flatten", (size,), axis=1)
    x = w.product("Gemm", x, (5,), (5, size))
    w.nodes.append(helper.make_node("DequantizeLinear", [x["t"], x["s"], x["z"]], ["y"]))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, *shape]), ("y", [1, 5]))]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(w.nodes, "g", ends[:1], ends[1:], w.constants)
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString(), shape


def _append(w, rng, kind, x):
    c, h, v = x["shape"]
    kernel = [min(int(rng.integers(1, 4)), h), min(int(rng.integers(1, 4)), v)]
    out = lambda k, s, p, d=1: ((h + 2 * p - d * (k[0] - 1) - 1) // s + 1, (v + 2 * p - d * (k[1] - 1) - 1) // s + 1)  # noqa: E731
    match kind:
        case "conv" | "grouped":
            groups = c if kind == "grouped" else 1
            channels = groups * int(rng.integers(1, 4))
            pad, stride = int(rng.integers(0, 2)), int(rng.integers(1, 3))
            attributes = {"kernel_shape": kernel, "pads": [pad] * 4, "strides": [stride] * 2, "group": groups}
            return w.product("Conv", x, (channels, *out(kernel, stride, pad)), (channels, c // groups, *kernel), **attributes)
        case "add":
            other = w.product("Conv", x, x["shape"], (c, c, 1, 1), kernel_shape=[1, 1])
            return w.add(x, other)
        case "max":
            return w.moved(x, "MaxPool", (c, *out(kernel, 1, 0)), kernel_shape=kernel)
        case "mean":
            return w.unary("QLinearAveragePool", "AveragePool", x, (c, *out(kernel, 1, 0)), kernel_shape=kernel)
        case "global":
            return w.unary("QLinearGlobalAveragePool", "GlobalAveragePool", x, (c, 1, 1))
        case _:
            return x


def inputs(rng, shape, count):
    """Floats over and beyond the range, many of them on the quantiser's ties."""
    grid = rng.integers(-600, 600, (count, *shape)).astype(np.float32) * np.float32(2.0**-6)
    return np.where(rng.random(grid.shape) < 0.5, grid, rng.normal(0, 4, grid.shape)).astype(np.float32)
