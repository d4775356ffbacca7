#!/usr/bin/env python3
"""Write encodings/requantisations/NAME/vectors.csv: accumulators, parameters, and what the runtime itself makes of them.

    scripts/make_vectors.py [NAME ...]

ONNX Runtime, LiteRT and PyTorch run one-layer models whose accumulators are placed on both sides of thresholds, at the ends of the
output's range and around zero; what nobody's installed runtime computes (fixed-point networks, CMSIS-NN, rationals) comes from its formula
in exact arithmetic. Our own code only chooses where to look and names the columns: it computes no output.
"""

import csv
import datetime
import io
import platform
import sys
import warnings
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.model import requant as rq
from bvverify.model.float32 import fma
from bvverify.model.staircase import Staircase
from bvverify.model.types import Int64Array

ROOT = Path(__file__).parent.parent / "encodings" / "requantisations"
POWERS = [2.0**-1, 2.0**-3, 2.0**-7]
"""Multipliers under which every level has a tie."""


@dataclass(frozen=True)
class Vectors:
    """One file: where its outputs come from, its columns (the last is ``out``), its rows."""

    source: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def accumulators(rng: np.random.Generator, requant: rq.Requant, lo: int, hi: int, count: int, limit: int = (1 << 31) - 1) -> Int64Array:
    """One int64 accumulator for each channel and each of ``count`` draws: (channels, count), within reach and ``limit``."""
    staircase = Staircase(requant, lo, hi)
    reach = rq.reach(requant)
    channels = len(staircase.thresholds)
    ends = np.full(channels, limit) if reach is None else np.minimum(reach, limit)
    out = np.empty((channels, count), np.int64)
    for c in range(channels):
        end = int(ends[c])
        inside = [int(t) for t in staircase.thresholds[c] if -end < t <= end] or [0]
        special = [0, 1, -1, end, -end]
        for i in range(count):
            out[c, i] = special[i] if i < len(special) and i < count // 3 else int(rng.choice(inside)) - int(rng.integers(0, 3)) // 2
    return np.clip(out, -ends[:, None], ends[:, None])


def cpu() -> str:
    """The machine, and those of its features on which kernels depend."""
    try:
        flags = set(next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split())
    except (OSError, StopIteration):
        return platform.machine()
    return " ".join([platform.machine(), *(f for f in ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni") if f in flags)])


# ---- formulas


def shift_half_up(rng: np.random.Generator) -> Vectors:
    rows = []
    for shift, lo, hi in ((0, -128, 127), (1, -8, 7), (3, -32, 31), (7, 0, 127), (12, -128, 127), (30, -128, 127)):
        for acc in accumulators(rng, rq.ShiftHalfUp(shift), lo, hi, 36)[0].tolist():
            exact = Fraction(acc, 1 << shift)
            rows.append((acc, shift, lo, hi, min(max(floor_half_up(exact), lo), hi)))
    return Vectors("formula, exact rational arithmetic", ("acc", "shift", "lo", "hi", "out"), rows)


def q31_single(rng: np.random.Generator) -> Vectors:
    rows = []
    for real in (*POWERS, 1.5, 3.0, 0.003, 0.0471, 2.0**-20):
        mantissa, shift = rq.q31(real)
        zero = int(rng.choice([-128, -5, 0, 7]))
        requant = rq.Q31Single(np.array([mantissa]), np.array([shift]), zero)
        for acc in accumulators(rng, requant, -128, 127, 36)[0].tolist():
            # (acc*Q + 2^(30-shift)) >> (31-shift): the nearest integer, half up.
            exact = Fraction(acc * mantissa) / Fraction(2) ** (31 - shift)
            rows.append((acc, mantissa, shift, zero, -128, 127, min(max(floor_half_up(exact) + zero, -128), 127)))
    return Vectors("formula of CMSIS-NN with single rounding, exact rational arithmetic", Q31_COLUMNS, rows)


def rational_half_up(rng: np.random.Generator) -> Vectors:
    rows = []
    for multiplier in (Fraction(1, 8), Fraction(1, 3), Fraction(355, 113), Fraction(1, 2), Fraction(float(np.float32(0.0123)))):
        zero = int(rng.choice([-128, -5, 0, 7]))
        for acc in accumulators(rng, rq.RationalHalfUp((multiplier,), zero), -128, 127, 48)[0].tolist():
            out = min(max(floor_half_up(acc * multiplier) + zero, -128), 127)
            rows.append((acc, multiplier.numerator, multiplier.denominator, zero, -128, 127, out))
    columns = ("acc", "numerator", "denominator", "zero_point", "lo", "hi", "out")
    return Vectors("formula, exact rational arithmetic", columns, rows)


def floor_half_up(exact: Fraction) -> int:
    return (exact + Fraction(1, 2)).__floor__()


# ---- ONNX Runtime


def float32_half_even(rng: np.random.Generator) -> Vectors:
    import onnxruntime

    rows = []
    for multiplier_scale in (*POWERS, 0.0371, 0.00071, 1.7):
        for signed in (True, False):
            sx, sw = np.float32(0.5), np.float32(0.25)
            sy = np.float32(np.float32(sx * sw) / np.float32(multiplier_scale))
            multiplier = np.float32(np.float32(sx * sw) / sy)
            lo, hi = (-128, 127) if signed else (0, 255)
            zero = int(rng.choice([lo, hi, (lo + hi) // 2, lo + 77]))
            accs = accumulators(rng, rq.Float32HalfEven(np.array([multiplier]), zero), lo, hi, 40)[0]
            accs = np.clip(accs, -(1 << 31) + 64, (1 << 31) - 64)
            out = qgemm(accs, sx, sw, sy, zero, signed)
            rows += [(a, float(multiplier).hex(), zero, lo, hi, o) for a, o in zip(accs.tolist(), out.tolist(), strict=True)]
    return Vectors(f"onnxruntime {onnxruntime.__version__}, CPUExecutionProvider, com.microsoft.QGemm", FLOAT_COLUMNS, rows)


def qgemm(accs: Int64Array, sx: Any, sw: Any, sy: Any, zero: int, signed: bool) -> Int64Array:
    """ONNX Runtime's outputs for those accumulators: the bias of each output makes up what one product (2 * 3) leaves."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    kind = np.int8 if signed else np.uint8
    constants = {
        "sx": sx, "zx": kind(100), "w": np.full((1, len(accs)), 3, np.int8), "sw": sw, "zw": np.int8(0),
        "b": (accs - 6).astype(np.int32), "sy": sy, "zy": kind(zero),
    }  # fmt: skip
    node = helper.make_node("QGemm", ["x", "sx", "zx", "w", "sw", "zw", "b", "sy", "zy"], ["y"], domain="com.microsoft")
    tensor = TensorProto.INT8 if signed else TensorProto.UINT8
    graph = helper.make_graph(
        [node], "one layer",
        [helper.make_tensor_value_info("x", tensor, [1, 1])], [helper.make_tensor_value_info("y", tensor, [1, len(accs)])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.full((1, 1), 102, kind)})[0][0].astype(np.int64)


# ---- LiteRT


def q31_double(rng: np.random.Generator) -> Vectors:
    return litert_convolutions(rng, rq.Q31Double, "BUILTIN_REF", "reference kernels")


def q31_half_up(rng: np.random.Generator) -> Vectors:
    return litert_convolutions(rng, rq.Q31HalfUp, "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "optimised kernels (ruy)")


def litert_convolutions(rng: np.random.Generator, family: type, resolver: Any, words: str) -> Vectors:
    """1x1 convolutions with a weight scale for each channel: the bias places the accumulator."""
    from ai_edge_litert.interpreter import OpResolverType

    rows = []
    for zero in (-128, -3, 0, 127):
        reals = np.concatenate([np.repeat([*POWERS, 1.0, 4.0, 2.0**-18], 3), rng.uniform(0.0002, 0.9, 6), rng.uniform(1, 6, 2)])
        sx, sy = np.float32(0.5), np.float32(0.25)
        sw = (reals * float(sy) / float(sx)).astype(np.float32)
        mantissa, shift = np.array([rq.q31(float(sx) * float(s) / float(sy)) for s in sw]).T
        accs = accumulators(rng, family(mantissa, shift, zero), -128, 127, 3)
        accs[::2, 0] = -accs[1::2, 0]
        for column in accs.T:
            out = litert("CONV_2D", column, sx, sw, sy, zero, getattr(OpResolverType, resolver))
            rows += list(
                zip(
                    column.tolist(),
                    mantissa.tolist(),
                    shift.tolist(),
                    *([v] * len(sw) for v in (zero, -128, 127)),
                    out.tolist(),
                    strict=True,
                )
            )
    return Vectors(f"{litert_version()}, {resolver}: {words}, CONV_2D", Q31_COLUMNS, rows)


def float64_away(rng: np.random.Generator) -> Vectors:
    from ai_edge_litert.interpreter import OpResolverType

    rows = []
    for real in (*POWERS, 0.0371, 0.00071, 1.7, 3.0):
        zero = int(rng.choice([-128, -3, 0, 127]))
        sx, sy = np.float32(0.5), np.float32(0.25)
        sw = np.array([real * float(sy) / float(sx)], np.float32)
        multiplier = float(sx) * float(sw[0]) / float(sy)
        accs = accumulators(rng, rq.Float64Away(np.array([multiplier]), zero), -128, 127, 40)[0]
        out = litert("FULLY_CONNECTED", accs, sx, sw, sy, zero, OpResolverType.BUILTIN_REF)
        rows += [(a, multiplier.hex(), zero, -128, 127, o) for a, o in zip(accs.tolist(), out.tolist(), strict=True)]
    return Vectors(f"{litert_version()}, BUILTIN_REF: reference kernels, FULLY_CONNECTED", FLOAT_COLUMNS, rows)


def litert_version() -> str:
    from importlib.metadata import version

    return f"ai-edge-litert {version('ai-edge-litert')}"


def litert(operator: str, accs: Int64Array, sx: Any, sw: Any, sy: Any, zero: int, resolver: Any) -> Int64Array:
    """LiteRT's int8 outputs: an input of one value (2 above its zero point), weights of 3, and biases that make up the rest."""
    from ai_edge_litert.interpreter import Interpreter

    content = one_layer(operator, (accs - 6).astype(np.int32), sx, sw, sy, zero)
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver, num_threads=1)
    interpreter.allocate_tensors()
    (x,), (y,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(x["index"], np.full(x["shape"], 12, np.int8))
    interpreter.invoke()
    return interpreter.get_tensor(y["index"]).reshape(-1).astype(np.int64)


def one_layer(operator: str, bias: Any, sx: Any, sw: Any, sy: Any, zero: int) -> bytes:
    """A .tflite file of one operator, written through the schema: input zero point 10, all weights 3."""
    from tflite_writer import Writer

    w, convolution, channels = Writer(), operator == "CONV_2D", len(bias)
    image = [1, 1] if convolution else []
    x = w.tensor([1, *image, 1], sx, 10)
    weight = w.tensor([channels, *image, 1], sw, 0, np.full(channels, 3, np.int8))
    biases = w.tensor([channels], np.float32(sx) * np.asarray(sw, np.float32), 0, bias, kind="INT32")
    y = w.tensor([1, *image, channels], sy, zero)
    if convolution:
        w.operator(operator, (x, weight, biases), y, "Conv2DOptions", version=3, strideW=1, strideH=1)
    else:
        w.operator(operator, (x, weight, biases), y, "FullyConnectedOptions", version=4)
    return w.content(x, y)


# ---- PyTorch


def qnnpack(rng: np.random.Generator) -> Vectors:
    import torch

    rows = []
    for real in (*POWERS, 0.0371, 0.00071, 1.7):
        sx = sw = np.float32(2.0**-6)
        sy = np.float32(float(sx * sw) / real)
        multiplier = np.float32(sx * sw) * (np.float32(1) / sy)
        zero = int(rng.choice([0, 255, 128, 77]))
        # Below 2^24, so that the float bias acc * sx * sw is exact.
        accs = accumulators(rng, rq.Qnnpack(np.array([multiplier]), zero), 0, 255, 40, (1 << 24) - 64)[0]
        weight = torch._make_per_tensor_quantized_tensor(torch.full((len(accs), 1), 3, dtype=torch.int8), float(sw), 0)
        bias = torch.from_numpy(((accs - 6) * float(sx * sw)).astype(np.float32))
        out = torch_linear("qnnpack", np.array([102], np.uint8), 100, sx, weight, bias, sy, zero)
        rows += [(a, float(multiplier).hex(), zero, 0, 255, o) for a, o in zip(accs.tolist(), out.tolist(), strict=True)]
    return Vectors(f"torch {torch.__version__}, engine qnnpack, torch.ops.quantized.linear", FLOAT_COLUMNS, rows)


def fbgemm(rng: np.random.Generator) -> Vectors:
    """Random channels near thresholds, and channels where one unit in the last place of the float32 sum decides the output."""
    import torch

    rows = []
    for per_channel in (True, False):
        for real in (*POWERS, 0.0371, 0.00071, 1.7):
            channels = 24
            sx = np.float32(2.0**-5 if real in POWERS else 0.03)
            sw = np.full(channels, 2.0**-6 if real in POWERS else 0.011, np.float32)
            if per_channel:
                sw = sw * np.float32(2.0) ** rng.integers(-1, 2, channels).astype(np.float32)
            scale = sx * sw
            sy = np.float32(float(scale[0]) / real)
            bias = (rng.choice([0.5, 1, -2.5, 37, 0.25, -1000.125, 0.3, -77.7], channels) * scale).astype(np.float32)
            requant = rq.Fbgemm(scale / sy, bias, scale, per_channel, int(rng.choice([0, 255, 128, 77])))
            for accs in accumulators(rng, requant, 0, 255, 2, 63 * 127 * FBGEMM_INPUTS).T:
                rows += fbgemm_rows(requant, accs, sx, sw, sy)
        sx, sw, sy = np.float32(0.03), np.float32(0.011), np.float32(0.25)
        accs, bias = decided_by_one_ulp(rng, sx * sw, sx * sw / sy, per_channel)
        ones = np.ones(len(accs), np.float32)
        requant = rq.Fbgemm(ones * (sx * sw / sy), bias, ones * (sx * sw), per_channel, 3)
        rows += fbgemm_rows(requant, accs, sx, ones * sw, sy)
    columns = ("weights", "acc", "bias", "scale", "offset", "multiplier", "zero_point", "lo", "hi", "out")
    return Vectors(f"torch {torch.__version__}, engine fbgemm, torch.ops.quantized.linear", columns, rows)


def decided_by_one_ulp(rng: np.random.Generator, scale: Any, multiplier: Any, per_channel: bool) -> tuple[Int64Array, Any]:
    """Pairs of an accumulator and a float32 bias for which the next float32 sum on one side would give another output.

    Where product and sum are rounded together, half of the pairs are such that rounding them apart would give another output.
    """
    real = rng.uniform(-120_000, 120_000, 1 << 22)
    bias = (real * scale).astype(np.float32)
    acc = rng.integers(-190_000, 190_000, len(real)) - np.rint(real).astype(np.int64)
    inverse, whole = np.float32(1) / scale, acc.astype(np.float32)
    total = whole + bias / scale if per_channel else fma(bias, inverse, whole)
    others = [np.nextafter(total, np.float32(end)) for end in (-1e9, 1e9)]
    out, below, above, apart = (np.rint(t * multiplier) for t in (total, *others, whole + bias * inverse))
    inside = (out >= -3) & (out <= 252)
    hits = [np.flatnonzero(inside & ((out != below) | (out != above)))[:32]]
    if not per_channel:
        hits.append(np.flatnonzero(inside & (out != apart))[:32])
    chosen = np.unique(np.concatenate(hits))
    return acc[chosen], bias[chosen]


FBGEMM_INPUTS = 40
"""So many inputs 63 above the zero point, and one 1 above it, reach every accumulator that is asked for."""


def fbgemm_rows(requant: rq.Fbgemm, accs: Int64Array, sx: Any, sw: Any, sy: Any) -> list[tuple[Any, ...]]:
    """Rows for one accumulator a channel."""
    out = fbgemm_outputs(requant, accs, sx, sw, sy)
    words = "per-channel" if requant.per_channel else "per-tensor"
    floats = [[float(v).hex() for v in a] for a in (requant.bias, requant.scale, requant.offset, requant.multiplier)]
    return [
        (words, a, *f, requant.zero_point, 0, 255, o)
        for a, f, o in zip(accs.tolist(), zip(*floats, strict=True), out.tolist(), strict=True)
    ]


def fbgemm_outputs(requant: rq.Fbgemm, accs: Int64Array, sx: Any, sw: Any, sy: Any) -> Int64Array:
    """What fbgemm makes of one accumulator a channel; it comes from products, since the bias is a real number here."""
    import torch

    x = np.array([127] * FBGEMM_INPUTS + [65], np.uint8)
    rest = (accs + 31) % 63 - 31
    integers = np.empty((len(accs), FBGEMM_INPUTS + 1), np.int8)
    for row, total, last in zip(integers, (accs - rest) // 63, rest, strict=True):
        row[:FBGEMM_INPUTS] = total // FBGEMM_INPUTS
        row[: total % FBGEMM_INPUTS] += 1
        row[FBGEMM_INPUTS] = last
    if ((integers.astype(np.int64) @ (x.astype(np.int64) - 64)) != accs).any():
        raise ValueError("an accumulator is out of reach of the products")
    if requant.per_channel:
        scales, zeros = torch.from_numpy(sw.astype(np.float64)), torch.zeros(len(sw), dtype=torch.long)
        weight = torch._make_per_channel_quantized_tensor(torch.from_numpy(integers), scales, zeros, 0)
    else:
        weight = torch._make_per_tensor_quantized_tensor(torch.from_numpy(integers), float(sw[0]), 0)
    return torch_linear("fbgemm", x, 64, sx, weight, torch.from_numpy(np.array(requant.bias)), sy, requant.zero_point)


def torch_linear(engine: str, x: Any, zx: int, sx: Any, weight: Any, bias: Any, sy: Any, zero: int) -> Int64Array:
    import torch

    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    try:
        packed = torch.ops.quantized.linear_prepack(weight, bias)
        activation = torch._make_per_tensor_quantized_tensor(torch.from_numpy(x[None]), float(sx), zx)
        return torch.ops.quantized.linear(activation, packed, float(sy), zero).int_repr().numpy()[0].astype(np.int64)
    finally:
        torch.backends.quantized.engine = before


Q31_COLUMNS = ("acc", "mantissa", "shift", "zero_point", "lo", "hi", "out")
FLOAT_COLUMNS = ("acc", "multiplier", "zero_point", "lo", "hi", "out")
MAKERS = {
    "shift-half-up": shift_half_up, "q31-double": q31_double, "q31-half-up": q31_half_up, "q31-single": q31_single,
    "float32-half-even": float32_half_even, "fbgemm": fbgemm, "qnnpack": qnnpack, "float64-away": float64_away,
    "rational-half-up": rational_half_up,
}  # fmt: skip


def text(name: str, made: Vectors) -> str:
    """The file: provenance in comment lines, a header, the rows in order and each once."""
    out = io.StringIO()
    out.write(f"# {name}: outputs from {made.source}\n")
    out.write(f"# written {datetime.datetime.now(datetime.UTC).date()} by scripts/make_vectors.py on {cpu()}\n")
    out.write("# floats are exact, in C's hexadecimal notation\n")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(made.columns)
    writer.writerows(dict.fromkeys(made.rows))
    return out.getvalue()


def main() -> None:
    unknown = [name for name in sys.argv[1:] if name not in MAKERS]
    if unknown:
        sys.exit(f"there is no requantisation {unknown[0]}; there are {', '.join(MAKERS)}")
    warnings.filterwarnings("ignore", message=".*quantized tensor creation functions.*")
    for name in sys.argv[1:] or MAKERS:
        made = MAKERS[name](np.random.default_rng(sum(name.encode())))
        (ROOT / name / "vectors.csv").write_text(text(name, made), encoding="utf-8")
        print(f"{name}: {len(set(made.rows))} vectors, {made.source}")


if __name__ == "__main__":
    main()
