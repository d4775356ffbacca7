"""The saturating-pairs accumulator against ONNX Runtime on an (emulated) Haswell: what scripts/record_pairs.py recorded, bit for bit."""

from pathlib import Path

import numpy as np
import pytest

from bvverify.load.load import load
from bvverify.run import interpreter

RECORDED = np.load(Path(__file__).parent / "pairs.npz")
NAMES = sorted(name.removesuffix("/model") for name in RECORDED.files if name.endswith("/model"))
DEPTHWISE = {"QLinearConv_10", "QLinearConv_11"}
"""Exact on every CPU; in all the others some recorded pair saturates."""


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_output(tmp_path, name):
    path = tmp_path / "m.onnx"
    path.write_bytes(RECORDED[f"{name}/model"].tobytes())
    x, y = RECORDED[f"{name}/x"].astype(np.int64), RECORDED[f"{name}/y"]
    paired = load(path, "onnxruntime, accumulator saturating-pairs")
    assert (interpreter.run(paired, x).reshape(y.shape) == y).all()
    exact = (interpreter.run(load(path), x).reshape(y.shape) == y).all()
    assert exact == (name in DEPTHWISE)
