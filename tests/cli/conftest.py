"""The command line called as a function: exit code, stdout and stderr."""

from dataclasses import dataclass

import pytest

from bvverify import examples
from bvverify.cli import main

MLP, CNN = str(examples.path("digits_mlp_qop.onnx")), str(examples.path("digits_cnn_qop.onnx"))
IMAGES = str(examples.path(examples.IMAGES))


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def first(self) -> str:
        return self.out.partition("\n")[0]


@pytest.fixture
def cli(capsys):
    """Calls ``bvverify`` with the given arguments (anything with a string form)."""

    def call(*arguments) -> Outcome:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def mlp() -> str:
    return MLP


@pytest.fixture
def cnn() -> str:
    return CNN


@pytest.fixture
def images() -> str:
    return IMAGES
