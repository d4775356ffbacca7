"""scripts/train_zoo: the quantiser and the exporter, on untrained networks."""

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn
from train_zoo import cnn, mlp, qoperator, quantise

import bvverify
from bvverify.run.interpreter import declared_output, quantise_input, run


@pytest.mark.parametrize("make", [cnn, lambda: mlp(784, 12, 10)], ids=["cnn", "mlp"])
@pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions")
def test_an_exported_network_computes_here_what_its_runtime_computes(make: Callable[[], nn.Sequential], tmp_path) -> None:
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 28, 28), np.uint8).astype(np.float32) / np.float32(255)
    path = tmp_path / "network.onnx"
    path.write_bytes(qoperator("network", quantise(make(), torch.from_numpy(images))).SerializeToString())
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    theirs = np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])
    network = bvverify.load(path)
    assert np.array_equal(declared_output(network, run(network, quantise_input(network, images))), theirs)
