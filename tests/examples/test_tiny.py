"""The course's hand-sized networks: what their script makes, and what the runtimes say that they compute."""

import itertools
from fractions import Fraction

import make_tiny
import numpy as np
import pytest

from bvverify import examples
from bvverify.load.load import load
from bvverify.model import requant as rq
from bvverify.model.types import INT8
from bvverify.run import interpreter, oracle, oracle_litert

ONNX, LITE = (examples.path(name) for name in examples.TINY)
NEAR_TIE = examples.path(examples.NEAR_TIE)
MODES = ("tflite-reference", "tflite-optimised", "tflite-xnnpack")


def rows(name):
    return np.loadtxt(examples.path(name), delimiter=",", dtype=np.int64)


def some_inputs():
    """The rows of the files, corners, and accumulators at and around ties all over the range."""
    near = [row + offset for row in (*rows(examples.TINY_ROWS), *rows(examples.NEAR_TIE_ROWS)) for offset in (-1, 0, 1)]
    corners = list(itertools.product((INT8.lo, -1, 0, INT8.hi), repeat=2))
    drawn = np.random.default_rng(0).integers(INT8.lo, INT8.hi + 1, (1500, 2))
    return np.clip(np.concatenate([near, corners, drawn]), INT8.lo, INT8.hi)


@pytest.mark.parametrize("path", [ONNX, NEAR_TIE], ids=lambda path: path.stem)
def test_onnxruntime_computes_the_same(path):
    network, x = load(path), some_inputs()
    assert np.array_equal(oracle.ask(network, x.astype(np.int8)).reshape(x.shape), interpreter.run(network, x))


@pytest.mark.parametrize("mode", MODES)
def test_litert_computes_the_same(mode):
    network, x = load(LITE, mode), some_inputs()
    assert np.array_equal(oracle_litert.ask(network, x.astype(np.int8)).reshape(x.shape), interpreter.run(network, x))


def test_one_accumulator_four_kernels():
    x = rows(examples.TINY_ROWS)[:1]
    networks = [load(LITE, mode) for mode in MODES] + [load(ONNX)]
    assert all(interpreter.accumulate(network.ops[0], x).tolist() == [[-900, -896]] for network in networks)
    assert [interpreter.run(network, x)[0].tolist() for network in networks] == [[-113, -112], *[[-112, -112]] * 3]


def test_one_input_of_the_box_is_a_counterexample_and_it_is_nearer_to_a_tie_than_any_tolerance():
    network = load(NEAR_TIE)
    centre, found = rows(examples.NEAR_TIE_ROWS)
    box = centre + np.array(list(itertools.product(range(-2, 3), repeat=2)))
    y = interpreter.run(network, box)
    assert box[y[:, 1] > y[:, 0]].tolist() == [found.tolist()]
    assert abs(y).max() < INT8.hi
    (multiplier,) = rq.real_multiplier(network.ops[0].staircase.requant)
    product = int(interpreter.accumulate(network.ops[0], found[None])[0, 0]) * multiplier
    assert 0 < -Fraction(15, 2) - product < Fraction(1, 10**6)


def test_the_files_are_what_the_script_makes(tmp_path):
    for name, layer in (("tiny", make_tiny.TINY), ("near_tie", make_tiny.NEAR_TIE)):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(make_tiny.onnx_file(layer, name).SerializeToString(deterministic=True))
        assert same(load(path), load(examples.path(path.name)))
    path = tmp_path / "tiny.tflite"
    path.write_bytes(make_tiny.tflite_file(make_tiny.TINY))
    assert same(load(path), load(LITE))
    for number, weight in enumerate(make_tiny.SPIKES):
        shipped = np.load(examples.path(examples.SPIKES.replace("_0.npy", f"_{number}.npy")))
        assert shipped[..., 0].tolist() == list(weight)


def same(a, b):
    (one,), (other,) = a.ops, b.ops
    parts = [(op.weight, op.bias, op.centred, np.array(op.input_zero_point), op.staircase.thresholds) for op in (one, other)]
    return a.tensors == b.tensors and all(np.array_equal(v, w) for v, w in zip(*parts, strict=True))
