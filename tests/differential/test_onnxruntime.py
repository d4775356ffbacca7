"""`run` against ONNX Runtime, bit for bit; the long version is scripts/bench fidelity."""

import numpy as np
import onnx_networks
import pytest

from bvverify import examples
from bvverify.load.load import load
from bvverify.run import interpreter, oracle


def mismatches(path, x):
    network = load(path)
    expected = oracle.ask(network, x)
    got = interpreter.declared_output(network, interpreter.run(network, interpreter.quantise_input(network, x)))
    assert got.dtype == expected.dtype
    return int((got != expected).sum())


@pytest.mark.parametrize("seed", range(40))
def test_random_networks(tmp_path, seed):
    content, shape = onnx_networks.model(seed)
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert mismatches(path, onnx_networks.inputs(np.random.default_rng(seed), shape, 100)) == 0


@pytest.mark.parametrize("name", examples.MODELS)
def test_bundled_models_run_in_integers_and_agree(tmp_path, name):
    path = examples.path(name)
    assert not oracle.FLOAT_OPERATORS & set(oracle.operators_that_run(path, "onnxruntime", tmp_path))
    assert mismatches(path, np.load(examples.path(examples.IMAGES))["images"]) == 0


def test_the_runtime_is_asked_about_a_witness_and_a_lie_is_found_out():
    network = load(examples.path(examples.MODELS[0]))
    image = np.load(examples.path(examples.IMAGES))["images"][:1]
    declared = interpreter.declared_output(network, interpreter.run(network, interpreter.quantise_input(network, image)))
    assert oracle.replay(network, image, declared)[0].agreed
    lie = declared.copy()
    lie[0, 3] += 1
    answer = oracle.replay(network, image, lie)[0]
    assert not answer.agreed
    assert "output 3" in answer.detail
