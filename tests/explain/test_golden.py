"""What is printed, word by word: results that were saved once are explained, and runs are traced, with the bundled networks.

``BVVERIFY_GOLDEN=write`` writes the expected texts anew; read the difference before it is committed.
"""

import os
import shutil
from pathlib import Path

import pytest

from bvverify import examples
from bvverify.cli import main

GOLDEN = Path(__file__).parent / "golden"
MLP, CNN, TFLITE, IMAGES = "digits_mlp_qop.onnx", "digits_cnn_qop.onnx", examples.TFLITE, examples.IMAGES
CASES = {
    "explain-verified": ["explain", "verified.json"],
    "explain-falsified": ["explain", "falsified.json"],
    "explain-unknown": ["explain", "unknown.json"],
    "trace": ["trace", MLP, "--input", f"{IMAGES}::5"],
    "trace-neuron": ["trace", CNN, "--input", f"{IMAGES}::5", "--neuron", "layer1_node:7,1,0"],
    "trace-against": ["trace", TFLITE, "--input", f"{IMAGES}::5", "--semantics", "tflite-reference", "--against", "tflite-optimised"],
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name, tmp_path, monkeypatch, capsys):
    for file in (MLP, CNN, TFLITE, IMAGES):
        shutil.copy(examples.path(file), tmp_path)
    for file in GOLDEN.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(CASES[name]) == 0
    printed, expected = capsys.readouterr().out, GOLDEN / f"{name}.txt"
    if os.environ.get("BVVERIFY_GOLDEN") == "write":
        expected.write_text(printed)
    assert printed == expected.read_text()
