"""Flipped files, in the models' own formats: read back as the flipped network, and run by the models' own runtimes."""

import numpy as np
import pytest

from bvverify import examples
from bvverify.bitflip.stored import stored, with_flip
from bvverify.bitflip.written import written
from bvverify.cli.question import read_input
from bvverify.errors import UnsupportedError
from bvverify.load.load import load
from bvverify.run import interpreter, replay

FILES = [*examples.MODELS, examples.TFLITE, "digits_cnn_6bit.onnx"]


@pytest.mark.parametrize("name", FILES)
def test_the_file_holds_the_flip_and_its_runtime_runs_it(name, tmp_path):
    model = examples.path(name)
    network, rng = load(model), np.random.default_rng(0)
    x = read_input(network, f"{examples.path(examples.IMAGES)}::3").x
    for part in stored(network):
        place = tuple(int(rng.integers(n)) for n in part.values.shape)
        mask = 0x80 if part.kind == "weight" else 0x1200
        content = written(model, network, part, place, mask)
        assert sum(a != b for a, b in zip(content, model.read_bytes(), strict=True)) == 1
        file = tmp_path / f"flipped{model.suffix}"
        file.write_bytes(content)
        flipped, expected = load(file), with_flip(network, part, place, mask)
        assert (interpreter.run(flipped, x[None]) == interpreter.run(expected, x[None])).all()
        read = replay.reading(flipped, x)
        assert [r.agreed for r in read.replayed_by] == [True], "the runtime of the format is installed for the tests"


def test_a_file_that_stores_no_plain_bytes_is_refused(tmp_path):
    network = load(examples.path(examples.MODELS[0]))
    part = stored(network)[0]
    other = tmp_path / "model.onnx"
    other.write_bytes(b"nothing of it")
    with pytest.raises(UnsupportedError, match="not stored as plain bytes"):
        written(other, network, part, (0, 0), 1)


def test_bytes_that_lie_there_twice_are_told_apart(tmp_path):
    """The parameters' bytes once more in a file, where nothing reads them: the copy that counts is found."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(examples.path("digits_mlp_qop.onnx"))
    network = load(examples.path("digits_mlp_qop.onnx"))
    part = stored(network, ["weight"])[0]
    for held in list(model.graph.initializer):
        array = numpy_helper.to_array(held)
        if array.size == part.values.size:
            model.graph.initializer.insert(0, numpy_helper.from_array(array, "unread"))
    file = tmp_path / "twice.onnx"
    file.write_bytes(model.SerializeToString())
    network = load(file)
    part = stored(network, ["weight"])[0]
    flipped = tmp_path / "flipped.onnx"
    flipped.write_bytes(written(file, network, part, (3, 5), 0x80))
    assert load(flipped).ops[part.op].weight[3, 5] == part.flipped(0x80)[3, 5]
