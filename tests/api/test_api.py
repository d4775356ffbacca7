"""The Python interface: what ``import bvverify`` gives, and that it costs nothing before it is used."""

import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest

import bvverify
from bvverify import examples
from bvverify.errors import UsageError

IMAGES = np.load(examples.path(examples.IMAGES))


@pytest.fixture(scope="module")
def network():
    return bvverify.load(examples.path("digits_mlp_qop.onnx"))


def test_everything_that_is_promised_is_there():
    assert set(bvverify.__all__) <= set(dir(bvverify)) | {"Ends", "Options", "Result", "Verdict"}
    for name in bvverify.__all__:
        assert getattr(bvverify, name) is not None
    assert not hasattr(bvverify, "verify_everything")
    assert files(bvverify).joinpath("py.typed").is_file()


def test_the_three_questions(network):
    x, label = IMAGES["images"][5], int(IMAGES["labels"][5])
    small = bvverify.robust(network, x, radius=1, timeout=60)
    assert isinstance(small, bvverify.Result)
    assert small.verdict is bvverify.Verdict.VERIFIED
    large = bvverify.robust(network, x, 5, label, seed=1)
    assert (large.verdict, large.witness.input.shape) == (bvverify.Verdict.FALSIFIED, network.input.tensor.shape)
    ends = bvverify.radius(network, x)
    assert isinstance(ends, bvverify.Ends)
    assert (ends.falsified, ends.settled) == (ends.verified + 1, True)
    assert 1 <= ends.verified < 5
    assert bvverify.radius(network, x, maximum=1).verified == 1
    # Asked a second time, the functions are still functions and not the modules that they import.
    assert (
        bvverify.verify(network, examples.path(examples.PROPERTY)).verdict
        is bvverify.verify(network, str(examples.path(examples.PROPERTY))).verdict
    )


def test_what_cannot_be_asked(network):
    with pytest.raises(UsageError, match="radius is -1"):
        bvverify.robust(network, IMAGES["images"][5], -1)
    with pytest.raises(UsageError):
        bvverify.radius(network, IMAGES["images"][5], label=3, target=4)
    with pytest.raises(TypeError):
        bvverify.robust(network, IMAGES["images"][5], 1, timeuot=3)


def test_an_import_is_light():
    heavy = "numpy", "torch", "z3", "onnx", "typer"
    code = f"import sys, bvverify; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
