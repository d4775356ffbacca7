"""One network, three ways (scripts/export_three_ways): TorchScript, ONNX and .tflite, each held against its own runtime."""

import json

import numpy as np
import pytest
from export_three_ways import FORMS, READINGS, layers_of, module_of, read_archive, write

from bvverify import examples
from bvverify.cli import main
from bvverify.load.load import load
from bvverify.model.ops import Conv2d, Dense
from bvverify.run import interpreter, oracle, oracle_litert, oracle_torch

NETWORKS = read_archive()
RUNTIMES = {"pt": "pytorch (fbgemm)", "onnx": "onnxruntime", "tflite": "litert (xnnpack)"}
ASK = {"pt": oracle_torch.ask, "onnx": oracle.ask, "tflite": oracle_litert.ask}
IMAGES = np.load(examples.path(examples.IMAGES))["images"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("three")
    return {name: write(layers, name, folder) for name, layers in NETWORKS.items()}


def read(files, name, form, semantics=None):
    return load(files[name][form], semantics or FORMS[form], allow_pickle=True)


def answers(network, x):
    """The integers of the outputs for grey levels ``x`` (batch, 64), as uint8 whatever the file's type is."""
    types = network.input.tensor.qtype, network.output_tensor.qtype
    return interpreter.run(network, (x + types[0].lo).reshape(-1, *network.input.tensor.shape)).reshape(len(x), -1) - types[1].lo


def test_the_archive_is_what_the_module_of_pytorch_holds():
    """From integers to a module of PyTorch and back."""
    for layers in NETWORKS.values():
        again = layers_of(module_of(layers))
        assert len(again) == len(layers) > 1
        for one, other in zip(layers, again, strict=True):
            assert (one.kind, one.pads, one.pool, one.output_zero_point) == (other.kind, other.pads, other.pool, other.output_zero_point)
            for field in ("weight", "weight_scale", "bias", "output_scale"):
                assert np.array_equal(getattr(one, field), getattr(other, field))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("form", "semantics"), READINGS)
def test_every_runtime_bit_for_bit(files, name, form, semantics):
    network = read(files, name, form, semantics)
    x = np.concatenate([IMAGES, np.random.default_rng(0).random((60, 1, 8, 8), np.float32)]).reshape(-1, *network.input.file_shape[1:])
    got = interpreter.declared_output(network, interpreter.run(network, interpreter.quantise_input(network, x)))
    assert np.array_equal(got, ASK[form](network, x))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("form", FORMS)
def test_verdicts_name_their_semantics_and_are_replayed_by_their_own_runtime(files, name, form, tmp_path, capsys):
    saved = tmp_path / "w.json"
    images = IMAGES.reshape(-1, 8, 8, 1) if form == "tflite" else IMAGES
    np.save(tmp_path / "x.npy", images)
    model = [str(files[name][form]), "--semantics", FORMS[form], "--allow-pickle"]
    question = [*model, "--input", f"{tmp_path / 'x.npy'}::0", "--timeout", "60"]

    def robust(radius):
        code = main(["robust", *question, "--radius", str(radius), "--json", "--witness", str(saved)])
        return code, json.loads(capsys.readouterr().out)

    code, proved = robust(1)
    assert (code, proved["verdict"], proved["semantics"]) == (0, "verified", FORMS[form])
    assert proved["checked"] is not None
    code, refuted = robust(6)
    assert (code, refuted["verdict"], refuted["semantics"]) == (10, "falsified", FORMS[form])
    (replay,) = refuted["witness"]["replays"]
    assert (replay["runtime"], replay["agreed"]) == (RUNTIMES[form], True)
    assert main(["replay", str(saved), "--allow-pickle"]) == 10
    assert f"{RUNTIMES[form]} {replay['version']} agrees" in capsys.readouterr().out


@pytest.mark.parametrize("name", NETWORKS)
def test_by_default_the_three_are_one_function_threshold_by_threshold(files, name):
    """Three arithmetics; on these scales they step at the same sums in every channel, once the bias is taken off both sides."""
    readings = [[op for op in read(files, name, form).ops if isinstance(op, Dense | Conv2d)] for form in FORMS]
    for layers in zip(*readings, strict=True):
        steps = [np.broadcast_to(op.staircase.thresholds, (len(op.weight), 255)) - op.bias[:, None] for op in layers]
        assert all(len(s) == len(layers[0].weight) for s in steps)
        reachable = np.abs(steps[1]) <= 255 * np.abs(layers[1].weight).reshape(len(steps[1]), -1).sum(axis=1, keepdims=True)
        assert reachable.any()
        for other in (steps[0], steps[2]):
            assert np.array_equal(other[reachable], steps[1][reachable])
    x = np.random.default_rng(0).integers(0, 17, (500, 64))
    one, *others = (answers(read(files, name, form), x) for form in FORMS)
    assert all(np.array_equal(one, other) for other in others)


@pytest.mark.parametrize("name", NETWORKS)
def test_other_kernels_on_the_same_integers_are_another_function(files, name):
    """An image on which PyTorch and LiteRT's built-in kernels give two classes; either runtime says so itself."""
    x = np.random.default_rng(0).integers(0, 17, (1000, 64))
    torch, litert = read(files, name, "pt"), read(files, name, "tflite", "tflite-optimised")
    one, other = answers(torch, x), answers(litert, x)
    apart = np.flatnonzero(one.argmax(1) != other.argmax(1))
    assert len(apart)
    image = x[apart[:1]].reshape(1, 1, 8, 8).astype(np.float32) / 16
    assert oracle_torch.ask(torch, image).argmax() == one[apart[0]].argmax()
    assert oracle_litert.ask(litert, image.reshape(1, 8, 8, 1)).argmax() == other[apart[0]].argmax()
