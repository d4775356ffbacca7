"""The page's arithmetic equals the interpreter: 10,000 random neurons of every requantisation, and every operation of random networks."""

import numpy as np
import pytest
import random_networks
from javascript import evaluate

from bvverify.explain.page.networks import encode_array, network_data
from bvverify.model import saturating_pairs
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Conv2d, Dense, Window
from bvverify.model.requant import (
    ByChannel,
    Fbgemm,
    Float32HalfEven,
    Float64Away,
    Q31Double,
    Q31HalfUp,
    Q31Single,
    Qnnpack,
    ShiftHalfUp,
    idealised,
    q31,
)  # fmt: skip
from bvverify.model.staircase import Staircase
from bvverify.model.types import QType, Tensor
from bvverify.run import interpreter

CHANNELS, INPUTS, LAYERS, SIZE = 50, 10, 20, 12  # CHANNELS * INPUTS * LAYERS neurons
INT8 = QType(8, True)
MADE = Provenance("random.onnx", "random", "random", "0" * 64)


def shift_half_up(rng, real, zero, target):
    return ShiftHalfUp(int(rng.integers(0, 14)))


def fixed(kind):
    def build(rng, real, zero, target):
        mantissa, shift = zip(*(q31(float(r)) for r in real), strict=True)
        return kind(np.array(mantissa), np.array(shift), zero)

    return build


def of_float(kind, dtype):
    return lambda rng, real, zero, target: kind(real.astype(dtype), zero)


def fbgemm(rng, real, zero, target):
    scale = rng.uniform(1e-4, 1e-2, len(real)).astype(np.float32)
    if rng.random() < 0.2:
        return Fbgemm(real.astype(np.float32), None, scale, bool(rng.integers(2)), zero)
    bias = (rng.normal(0, 300, len(real)) * scale).astype(np.float32)
    # The target plus the bias lies where the target alone did.
    total = target + bias.astype(np.float64) / scale
    return Fbgemm((real * np.abs(target / total)).astype(np.float32), bias, scale, bool(rng.integers(2)), zero)


def rational(rng, real, zero, target):
    return idealised(Float32HalfEven(real.astype(np.float32), zero))


def by_channel(rng, real, zero, target):
    return ByChannel((fixed(Q31HalfUp)(rng, real[:16], zero, target[:16]), fixed(Q31Double)(rng, real[16:], zero, target[16:])))


RULES = {
    "shift-half-up": shift_half_up,
    "q31-double": fixed(Q31Double),
    "q31-half-up": fixed(Q31HalfUp),
    "q31-single": fixed(Q31Single),
    "float32-half-even": of_float(Float32HalfEven, np.float32),
    "fbgemm": fbgemm,
    "qnnpack": of_float(Qnnpack, np.float32),
    "float64-away": of_float(Float64Away, np.float64),
    "rational-half-up": rational,
    "by channel": by_channel,
}


def one_layer(op, shape, qtype, out):
    tensors = (Tensor("x", shape, qtype), Tensor("y", out, INT8))
    return Network(Input(tensors[0], (1, *shape)), (op,), tensors, Output(1, (1, *out)), MADE)


def dense_layer(rng, build):
    """A layer with inputs, the first of which drives every accumulator to where rules part.

    For half of the channels ``target * real`` is a half-integer up to the rounding of ``real``, so that each rounding on the way counts,
    for accumulators of up to 30 bits. The others have multipliers with many exact ties, and accumulators at a threshold or one off.
    """
    target = np.rint(np.exp2(rng.uniform(6, 30, CHANNELS))).astype(np.int64) * rng.choice([-1, 1], CHANNELS)
    near = (rng.integers(0, 60, CHANNELS) + 0.5) / np.abs(target)
    exact = rng.choice([0.5, 0.25, 0.125, 0.0625, 0.75, 0.375, 0.01171875], CHANNELS)
    is_near = rng.random(CHANNELS) < 0.5
    zero = int(rng.integers(-60, 60))
    lo, hi = (-128, 127) if rng.integers(2) else sorted(int(v) for v in rng.choice(np.arange(-128, 128), 2, replace=False))
    staircase = Staircase(build(rng, np.where(is_near, near, exact), zero, target), lo, hi)
    table = staircase.thresholds[np.arange(CHANNELS) % len(staircase.thresholds), rng.integers(0, staircase.thresholds.shape[1], CHANNELS)]
    target = np.where(is_near, target, np.where(np.abs(table) < 1 << 20, table, 0) + rng.integers(-1, 2, CHANNELS))
    qtype = QType(8, bool(rng.integers(2)))
    weight, zero_x = rng.integers(-128, 128, (CHANNELS, SIZE)), int(rng.integers(qtype.lo, qtype.hi + 1))
    zero_w = rng.integers(-20, 21, CHANNELS) * int(rng.integers(2))
    x = rng.integers(qtype.lo, qtype.hi + 1, (INPUTS, SIZE))
    bias = target - ((x[0] - zero_x) * (weight - zero_w[:, None])).sum(axis=1)
    bits = (None, 32, 16)[int(rng.choice(3, p=[0.45, 0.45, 0.1]))]
    op = Dense.of("dense", 0, weight, bias, staircase, weight_zero_point=zero_w, input_zero_point=zero_x, accumulator_bits=bits)
    return one_layer(op, (SIZE,), qtype, (CHANNELS,)), x


RUN = """
  return argument.map(({ network, inputs }) => {
    const decoded = decodeNetwork(network);
    return inputs.map((data) => runNetwork(decoded, decodeArray(data)));
  });
"""


def run_in_the_page(cases):
    data = [{"network": network_data(n), "inputs": [encode_array(x) for x in xs]} for n, xs in cases]
    return evaluate(["arithmetic", "network"], RUN, data)


def check(cases):
    """Every tensor of every case equals the interpreter's."""
    for (network, xs), made in zip(cases, run_in_the_page(cases), strict=True):
        for index, tensor in enumerate(interpreter.trace(network, xs)):
            np.testing.assert_array_equal(np.array([m[index] for m in made]), tensor.reshape(len(xs), -1))


@pytest.mark.parametrize("rule", RULES)
def test_ten_thousand_neurons(rule):
    rng = np.random.default_rng(len(rule))
    cases = [dense_layer(rng, RULES[rule]) for _ in range(LAYERS)]
    assert sum(len(x) * n.output_tensor.size for n, x in cases) == 10_000
    outputs = np.concatenate([interpreter.run(n, x).ravel() for n, x in cases])
    assert len(np.unique(outputs)) > 100
    check(cases)


def test_every_operation():
    rng = np.random.default_rng(0)
    cases = []
    for _ in range(150):
        network = random_networks.network(rng)
        qtype = network.input.tensor.qtype
        cases.append((network, rng.integers(qtype.lo, qtype.hi + 1, (3, *network.input.tensor.shape))))
    assert {type(op).__name__ for n, _ in cases for op in n.ops} >= {
        "Dense", "Conv2d", "Add", "AvgPool", "MaxPool", "Clamp", "Lookup", "Concat", "Reshape", "Transpose",
    }  # fmt: skip
    check(cases)


def saturating(rng, convolution):
    """A layer of uint8 by int8 with pairs that leave int16, as it is stored and as the three operations that bvverify runs."""
    staircase = Staircase(Float32HalfEven(np.full(1, 0.0007, np.float32), 3), -128, 127)
    zero = int(rng.integers(0, 256))
    if convolution:
        shape, window = (3, 4, 5), Window((2, 3), padding=(1, 1, 0, 1))
        weight, bias = rng.choice([-128, -100, 90, 127], (4, *shape[:1], *window.kernel)), rng.integers(-99, 99, 4)
        op = Conv2d.of("layer", 0, weight, bias, staircase, window=window, input_zero_point=zero)
        out = (4, *window.output(*shape[1:]))
    else:
        shape, out = (7,), (5,)
        weight = rng.choice([-128, -100, 90, 127], (5, 7))
        op = Dense.of("layer", 0, weight, rng.integers(-99, 99, 5), staircase, input_zero_point=zero)
    stored = one_layer(op, shape, QType(8, False), out)
    parts = saturating_pairs.expand(op, shape, 1)
    return stored, parts, rng.choice([0, 3, 200, 255], (6, *shape))


@pytest.mark.parametrize("convolution", [False, True])
def test_saturating_pairs(convolution):
    rng = np.random.default_rng(5)
    cases = [saturating(rng, convolution) for _ in range(4)]
    body = """
      return argument.map(({ network, inputs }) => {
        const decoded = decodeNetwork(network);
        const [op, size] = [decoded.ops[0], product(decoded.tensors[1].shape)];
        return inputs.map((data) => Array.from({ length: size }, (_, unit) => {
          const terms = termsOf(decoded, 0, unit, decodeArray(data));
          return sumOfPairs(terms, biasOf(op, channelOf(decoded.tensors[1].shape, unit)), op.kind === "dense" ? 0 : op.weight_shape[1]);
        }));
      });
    """
    data = [{"network": network_data(n), "inputs": [encode_array(x) for x in xs]} for n, _, xs in cases]
    saturated = 0
    for (network, parts, xs), made in zip(cases, evaluate(["arithmetic", "network"], body, data), strict=True):
        first, joined, last = parts
        whole = interpreter.evaluate(joined, [xs, interpreter.evaluate(first, [xs])])
        accumulators = interpreter.accumulate(last, whole)
        np.testing.assert_array_equal(np.array(made), accumulators.reshape(len(xs), -1))
        saturated += int((accumulators != interpreter.accumulate(network.ops[0], xs)).sum())
    assert saturated > 20


def test_a_rule_stores_a_multiplier_as_its_runtime_does():
    """What the page makes of a real number when the reader changes the rule or types another multiplier."""
    rng = np.random.default_rng(2)
    real = [float(v) for v in np.exp(rng.uniform(np.log(1e-12), np.log(1e3), 500))] + [0.5, 1.0, 0.999999999999, 2.0**-40]
    body = """
      return argument.map((text) => {
        const real = parseRational(text);
        const { mantissa, shift } = storedAs("q31-double", real, 0n);
        const single = storedAs("float32-half-even", real, 0n).multiplier;
        return [mantissa, shift, single[0], single[1]].map(String);
      });
    """
    made = evaluate(["arithmetic", "network"], body, ["/".join(map(str, v.as_integer_ratio())) for v in real])
    for value, (mantissa, shift, top, bottom) in zip(real, made, strict=True):
        assert (int(mantissa), int(shift)) == q31(value)
        assert (int(top), int(bottom)) == float(np.float32(value)).as_integer_ratio()
