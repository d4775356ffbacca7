"""The saturating-pairs accumulator against fbgemm without VNNI: what scripts/record_pairs_torch.py recorded; and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch_modules as tm
from record_pairs_torch import layer

import bvverify
from bvverify.errors import UnsupportedError, UsageError
from bvverify.model import saturating_pairs
from bvverify.run import interpreter, oracle, oracle_torch

RECORDED = np.load(Path(__file__).parent / "pairs_torch.npz")
NAMES = sorted(name.removesuffix("/y") for name in RECORDED.files if name.endswith("/y"))
PAIRS = "pytorch-fbgemm, accumulator saturating-pairs"


def case(name):
    return {k.removeprefix(f"{name}/"): RECORDED[k] for k in RECORDED.files if k.startswith(f"{name}/")}


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_output(name):
    recorded = case(name)
    with tm.engine("fbgemm"):
        module = layer(recorded)
    example, x, y = np.zeros((1, *recorded["x"].shape[1:])), recorded["x"].astype(np.int64), recorded["y"]
    paired, exact = (bvverify.load(module, example, s) for s in (PAIRS, "pytorch-fbgemm"))
    assert (paired.semantics, saturating_pairs.never_matter(paired)) == (PAIRS, False)
    assert (interpreter.run(paired, x).reshape(y.shape) == y).all()
    assert (interpreter.run(exact, x).reshape(y.shape) != y).any()


@pytest.mark.parametrize(("shape", "groups"), [((4, 1, 3, 3), 4), ((1, 1, 3, 3), 1), ((8, 8, 3, 3), 1), ((8, 4, 3, 3), 2)])
def test_a_convolution_with_a_kernel_of_its_own_is_refused_unless_no_pair_can_matter(shape, groups):
    rng = np.random.default_rng(0)
    for limit in (64, 128):
        with tm.engine("fbgemm"):
            w, _ = tm.weight(rng, shape, False, limit)
            w = torch._make_per_tensor_quantized_tensor(w.int_repr(), 0.01, 0)
            packed = torch.ops.quantized.conv2d_prepack(w, None, [1, 1], [1, 1], [1, 1], groups)
        module = tm.Layer(torch.ops.quantized.conv2d, packed, (0.1, 7), (1.0, 9))
        example = torch.zeros(1, shape[1] * groups, 5, 5)
        bvverify.load(module, example, "pytorch-fbgemm")
        if limit == 64:
            assert saturating_pairs.never_matter(bvverify.load(module, example, PAIRS))
        else:
            with pytest.raises(UnsupportedError, match=r"grouped kernel sums pairs"):
                bvverify.load(module, example, PAIRS)


def test_the_module_is_asked_only_on_a_cpu_that_sums_as_the_network_does(monkeypatch):
    with tm.engine("fbgemm"):
        module = layer(case("linear_8x5"))
    x = np.zeros((1, 8))
    exact, paired = (bvverify.load(module, x, s) for s in ("pytorch-fbgemm", PAIRS))
    for here, asked, other in ((True, exact, paired), (False, paired, exact)):
        monkeypatch.setattr(oracle, "_has", lambda *features, here=here: here)
        assert oracle.not_asked(asked) == ""
        assert oracle.not_asked(other) == f"this CPU has {'' if here else 'no '}AVX512-VNNI"
        declared = interpreter.declared_output(other, interpreter.run(other, np.zeros((1, 8), np.int64)))
        (answer,) = oracle_torch.replay(other, np.zeros((1, 8), np.float32), declared)
        assert (answer.runtime, answer.agreed) == ("pytorch (fbgemm)", None)


def test_qnnpack_sums_exactly_on_every_cpu():
    with tm.engine("qnnpack"), pytest.raises(UsageError, match="pytorch-qnnpack sums exactly on every CPU"):
        bvverify.load(layer(case("linear_8x5")), np.zeros((1, 8)), "pytorch-qnnpack, accumulator saturating-pairs")
