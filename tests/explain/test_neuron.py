"""Whole neurons, term by term, against the interpreter: every element of random networks of every operation, and the bundled models'."""

import numpy as np
import pytest
import random_networks

from bvverify import examples
from bvverify.errors import UsageError
from bvverify.explain.neuron import Run, calculate, locate
from bvverify.load.arrays import as_model_input, read
from bvverify.load.load import load
from bvverify.run import interpreter

NEURONS = 10_000


def every_neuron(run):
    """``calculate`` itself compares with the interpreter; the parts are held against each other here."""
    count = 0
    for index, tensor in enumerate(run.tensors):
        for element in np.ndindex(tensor.shape):
            made = calculate(run, index, element)
            assert made.output == tensor[element]
            if made.accumulator is not None and index:
                op = run.network.ops[index - 1]
                assert sum(t.product for t in made.terms) == made.accumulator.products
                if hasattr(op, "weight"):
                    assert made.accumulator.total == interpreter.accumulate(op, run.tensors[op.x][None])[0][element]
            count += 1
    return count


def test_every_operation_on_random_networks():
    counts, kinds = 0, set()
    rng = np.random.default_rng(5)
    for seed in range(10_000):
        network = random_networks.network(np.random.default_rng(seed), list(rng.permutation(random_networks.KINDS)[:4]))
        qtype = network.input.tensor.qtype
        for _ in range(3):
            x = rng.integers(qtype.lo, qtype.hi + 1, network.input.tensor.shape)
            run = Run(network, x, tuple(t[0] for t in interpreter.trace(network, x[None])))
            counts += every_neuron(run)
        kinds |= {type(op).__name__ for op in network.ops}
        if counts >= NEURONS:
            break
    assert kinds >= {"Dense", "Conv2d", "Add", "AvgPool", "MaxPool", "Clamp", "Lookup", "Concat", "Reshape", "Transpose"}
    assert counts >= NEURONS


PROFILES = [
    ("digits_mlp_qop.onnx", "onnxruntime"),
    ("digits_cnn_qop.onnx", "onnxruntime+rational-half-up"),
    (examples.BRIGHT, "onnxruntime, accumulator saturating-pairs"),
    *((examples.TFLITE, s) for s in ("tflite-reference", "tflite-optimised", "tflite-xnnpack", "cmsis-nn", "cmsis-nn:single-rounding=1")),
]


@pytest.mark.parametrize(("model", "semantics"), PROFILES, ids=lambda v: v)
def test_bundled_models_under_every_profile(model, semantics):
    network = load(examples.path(model), semantics)
    images = as_model_input(read(str(examples.path(examples.IMAGES))), network).values
    for image in images[:2]:
        every_neuron(Run.of(network, image[None]))


def test_locate():
    network = load(examples.path("digits_cnn_qop.onnx"))
    first = network.tensors[1]
    assert locate(network, "1:0") == (1, (0, 0, 0))
    assert locate(network, f"{first.name}:{first.size - 1}") == (1, tuple(n - 1 for n in first.shape))
    assert locate(network, "1:2,0,1") == (1, (2, 0, 1))
    assert locate(network, "0:63") == (0, (0, 7, 7))
    for wrong in ("1", "99:0", "1:", "1:-1", "1:1,2", f"1:{first.size}", "1:0,0,99", "nothing:0", "1:٣", "1:0,,0"):
        with pytest.raises(UsageError, match="--neuron"):
            locate(network, wrong)
