"""The layers' definitions on their fixed shapes, against ``run`` and against plain integers; and a mutant of each."""

from fractions import Fraction

import definitions_in_z3 as defs
import numpy as np
import pytest

from bvverify.encode import definitions
from bvverify.model import requant as rq
from bvverify.model.ops import Add, AvgPool, Clamp, Conv2d, Dense, FmaAdd, Lookup, MaxPool, SequentialFloat32, SumThenRequantise, Window
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import frozen_array
from bvverify.run import interpreter

LAYERS = (
    "dense",
    "convolution",
    "max-pool",
    "avg-pool",
    "add",
    "add-tflite",
    "add-xnnpack",
    "clamp",
    "table",
    "saturating-pairs",
    "argmax",
)
IDENTITY = Staircase(ShiftHalfUp(0), -(1 << 13), 1 << 13)
F32 = np.float32


def dense(rng):
    x, w = rng.integers(-128, 128, 3), rng.integers(-7, 8, 3)
    zx, zw, bias = (int(v) for v in rng.integers(-5, 6, 3))
    op = Dense.of("", 0, w[None], np.array([bias]), IDENTITY, weight_zero_point=zw, input_zero_point=zx)
    return "dense-3", (*x, zx, *w, zw, bias), interpreter.evaluate(op, [x[None]])


def convolution(rng):
    x, w = rng.integers(-128, 128, (1, 2, 2)), rng.integers(-7, 8, (1, 1, 2, 2))
    zx, zw, bias = (int(v) for v in rng.integers(-5, 6, 3))
    op = Conv2d.of(
        "", 0, w, np.array([bias]), IDENTITY, window=Window((2, 2)), weight_zero_point=zw, input_zero_point=zx
    )  # fmt: skip
    return "window-2x2", (*x.ravel(), zx, *w.ravel(), zw, bias), interpreter.evaluate(op, [x[None]])


def padded(rng):
    x, w = rng.integers(-128, 128, (1, 2, 2)), rng.integers(-7, 8, (1, 1, 2, 2))
    zx, zw, bias = (int(v) for v in rng.integers(-5, 6, 3))
    window = Window((2, 2), padding=(1, 1, 0, 0))
    op = Conv2d.of("", 0, w, np.array([bias]), IDENTITY, window=window, weight_zero_point=zw, input_zero_point=zx)
    return "padded-corner-2x2", (x[0, 0, 0], zx, *w.ravel(), zw, bias), interpreter.evaluate(op, [x[None]])[0, 0, 0, 0]


def max_pool(rng):
    x = rng.integers(-128, 128, (1, 2, 2))
    return "max-pool-2x2", tuple(x.ravel()), interpreter.evaluate(MaxPool("", 0, Window((2, 2))), [x[None]])


def window_sum(rng):
    x, zx = rng.integers(-128, 128, (1, 2, 2)), int(rng.integers(-128, 128))
    op = AvgPool("", 0, Window((2, 2)), SumThenRequantise(zx, IDENTITY))
    return "window-sum-2x2", (*x.ravel(), zx), interpreter.evaluate(op, [x[None]])


def float_mean(rng):
    x, zx, zy = rng.integers(-128, 128, (1, 2, 2)), int(rng.integers(-128, 128)), int(rng.integers(-128, 128))
    sx, sy = F32(rng.choice([0.25, 0.1, 0.013])), F32(rng.choice([0.25, 0.07]))
    values = frozen_array((np.arange(-128, 128) - zx).astype(F32) * sx, F32)
    op = AvgPool("", 0, Window((2, 2)), SequentialFloat32(-128, values, float(sy), zy, False, -128, 127))
    return "float-mean-2x2", (*x.ravel(), zx, sx, F32(zy), sy, -128, 127), interpreter.evaluate(op, [x[None]])


def add(rng):
    a, b = (int(v) for v in rng.integers(-128, 128, 2))
    ra, rb = (F32(v) for v in rng.choice([0.5, 0.25, 0.37, 1.7], 2))
    offset = F32(rng.choice([0.0, 3.5, -0.25, 1.3]))
    op = Add("", 0, 1, FmaAdd(float(ra), float(rb), float(offset)), -128, 127)
    return "add-fma", (a, b, ra, rb, offset, -128, 127), interpreter.evaluate(op, [np.array([[a]]), np.array([[b]])])


def add_shift(rng):
    a, b, za, zb, zero = (int(v) for v in rng.integers(-128, 128, 5))
    shift = int(rng.integers(13, 21))
    ma, mb = (int(v) for v in rng.integers(1, 1 << shift, 2))
    bias = (1 << (shift - 1)) - ma * za - mb * zb
    exact = Fraction(ma * (a - za) + mb * (b - zb), 1 << shift)
    out = min(max((exact + Fraction(1, 2)).__floor__() + zero, -128), 127)
    return "add-shift", (a, b, ma, mb, bias, shift, zero, -128, 127), out


def add_q31(rng, family, name):
    """The three roundings by ``apply``, which has vectors of its own."""
    a, b, za, zb, zero = (int(v) for v in rng.integers(-128, 128, 5))
    qa, qb, qo = rq.q31(rng.choice([0.5, 0.3])), rq.q31(rng.choice([0.5, 0.17])), rq.q31(rng.choice([1.0, 0.7]) * 2.0**-19)

    def times(x, q, zero=0, lo=-(1 << 31), hi=(1 << 31) - 1):
        return int(rq.apply(family(np.array(q[:1]), np.array(q[1:]), zero), np.array([[x]]), lo, hi)[0, 0])

    total = times((a - za) << 20, qa) + times((b - zb) << 20, qb)
    return name, (a, b, za, zb, *qa, *qb, *qo, zero, -128, 127), times(total, qo, zero, -128, 127)


def add_q31_double(rng):
    return add_q31(rng, rq.Q31Double, "add-q31-double")


def add_q31_single(rng):
    return add_q31(rng, rq.Q31Single, "add-q31-single")


def clamp(rng):
    x, lo = (int(v) for v in rng.integers(-128, 128, 2))
    hi = int(rng.integers(lo, 128))
    return "clamp-layer", (x, lo, hi), interpreter.evaluate(Clamp("", 0, lo, hi), [np.array([[x]])])


def table(rng):
    entries, first = rng.integers(-128, 128, 4), int(rng.choice([-2, 0]))
    x = first + int(rng.integers(0, 4))
    return "table-4", (x, first, *entries), interpreter.evaluate(Lookup("", 0, first, frozen_array(entries, np.int64)), [np.array([[x]])])


def saturating_pairs(rng):
    x, w = rng.integers(0, 256, 4), rng.choice([-128, 127, -3, 100], 4)
    zx, bias = int(rng.integers(0, 256)), int(rng.integers(-999, 999))
    pairs = np.clip((x * w).reshape(2, 2).sum(axis=1), -32768, 32767)
    return "saturating-pairs-4", (*x, zx, *w, bias), pairs.sum() - zx * w.sum() + bias


def argmax(rng):
    y = rng.integers(-2, 2, 3)
    return "argmax-3", tuple(y), np.argmax(y)


def misclassified(rng):
    y, label = rng.integers(-2, 2, 3), int(rng.integers(0, 3))
    return "misclassified-3", (*y, label), np.argmax(y) != label


CASES = [
    ("dense", dense, "(bvsub w weight-zero)", "w"),
    ("convolution", convolution, "(product x10 input-zero w10", "(product x10 input-zero w01"),
    ("convolution", padded, "(window-2x2 input-zero input-zero input-zero x ", "(window-2x2 x input-zero input-zero input-zero "),
    ("max-pool", max_pool, "(bvsgt b a)", "(bvugt b a)"),
    ("avg-pool", window_sum, "(bvsub x11 input-zero)", "x11"),
    ("avg-pool", float_mean, "fp.to_sbv 32) RNE", "fp.to_sbv 32) RNA"),
    ("add", add, "fp.to_sbv 32) RNE", "fp.to_sbv 32) RNA"),
    ("add-xnnpack", add_shift, "(bvashr (bvadd bias", "(bvlshr (bvadd bias"),
    ("add-tflite", add_q31_double, "(bvshl (bvsub x x-zero) (_ bv20 32))", "(bvshl (bvsub x x-zero) (_ bv19 32))"),
    ("add-tflite", add_q31_single, "(lifted b b-zero)", "(lifted b a-zero)"),
    ("clamp", clamp, "(ite (bvslt x (widen lo)) lo", "(ite (bvult x (widen lo)) lo"),
    ("table", table, "(_ bv3 32)", "(_ bv2 32)"),
    ("saturating-pairs", saturating_pairs, "(_ bv32767 32)", "(_ bv65535 32)"),
    ("argmax", argmax, "(bvsge y0 y1)", "(bvsgt y0 y1)"),
    ("argmax", misclassified, "(distinct (argmax-3", "(= (argmax-3"),
]


def agreements(layer, case, edit):
    rng, functions = np.random.default_rng(7), {}
    script = edit(definitions.prelude([definitions.layer(layer)]))
    for _ in range(60):
        name, values, expected = case(rng)
        if name not in functions:
            functions[name] = defs.Definition(script, name)
        values = [float(v) if isinstance(v, F32) else int(v) for v in values]
        yield functions[name](*values) == np.asarray(expected).item()


@pytest.mark.parametrize(("layer", "case", "old", "new"), CASES, ids=lambda v: v.__name__ if callable(v) else "")
def test_a_layer_is_its_definition_and_a_mutant_is_not(layer, case, old, new):
    def edit(text):
        assert old in text, "the mutation does not apply"
        return text.replace(old, new)

    assert all(agreements(layer, case, lambda text: text))
    assert not all(agreements(layer, case, edit))


def test_every_layer_has_a_folder_with_both_files():
    assert {p.name for p in definitions.root().joinpath("layers").iterdir()} == set(LAYERS)
    for name in LAYERS:
        assert definitions.read(f"layers/{name}/definition.smt2")
        assert definitions.read(f"layers/{name}/README.md")


@pytest.mark.parametrize("name", LAYERS)
def test_the_example_worked_by_hand(name):
    lines = [line.strip() for line in definitions.read(f"layers/{name}/README.md").splitlines()]
    examples = [line.removeprefix("example: ") for line in lines if line.startswith("example: ")]
    assert examples
    for example in examples:
        function, *values, equals, result = example.split()
        assert equals == "="
        assert defs.layer(name, function)(*map(defs.parsed, values)) == int(result)
