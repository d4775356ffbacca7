"""`run` against PyTorch's engines, bit for bit; the long version is scripts/bench fidelity_torch."""

import numpy as np
import pytest
import torch
import torch_modules as tm

import bvverify
from bvverify.model.box import dequantise, quantise
from bvverify.model.types import UINT8, Quantisation
from bvverify.run import interpreter, oracle_torch, replay


def mismatches(network, x):
    expected = oracle_torch.ask(network, dequantise(x, network.input.quantiser))
    got = interpreter.declared_output(network, interpreter.run(network, x))
    assert got.dtype == expected.dtype
    return int((got != expected).sum())


@pytest.mark.parametrize("engine", tm.ENGINES)
@pytest.mark.parametrize("kind", ["linear", "conv", "grouped", "depthwise"])
def test_layers_at_the_edges_of_their_arithmetic(engine, kind):
    rng = np.random.default_rng(len(kind))
    for _ in range(4):
        with tm.engine(engine):
            module, shape = tm.layer(rng, kind)
            network = bvverify.load(module, torch.zeros(1, *shape))
        assert network.semantics == f"pytorch-{engine}"
        assert mismatches(network, rng.integers(0, 256, (40, *shape))) == 0


@pytest.mark.parametrize("engine", tm.ENGINES)
def test_whole_modules(engine):
    for seed, (make, shape) in enumerate([(lambda r: tm.Mlp(), (64,)), (tm.Cnn, (1, 8, 8)), (tm.Cnn, (1, 8, 8))]):
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        x = torch.randn(32, *shape)
        network = bvverify.load(tm.quantised(make(rng), x, engine), x, f"pytorch-{engine}")
        assert mismatches(network, rng.integers(0, 256, (40, *shape))) == 0
        assert mismatches(network, interpreter.quantise_input(network, x.numpy())) == 0


@pytest.mark.parametrize("engine", tm.ENGINES)
@pytest.mark.parametrize("kernel", [(2, 2), (3, 3), (1, 6), (4, 4)])
def test_means_at_every_sum(engine, kernel):
    """Windows whose sums are all that there are, or every third: each tie is among them."""
    n, zero = kernel[0] * kernel[1], 37

    class Pool(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.avg_pool2d(torch.quantize_per_tensor(x, 0.3, zero, torch.quint8), kernel)

    sums = np.arange(0, 255 * n + 1, 3)
    x = np.sort(np.stack([sums // n + (np.arange(n)[:, None] < sums % n)[i] for i in range(n)]), axis=0)
    image = x.T.reshape(1, 1, -1, *kernel).transpose(0, 1, 3, 2, 4).reshape(1, 1, kernel[0], -1)
    # Two channels, so that the layout is no matter of taste.
    image = np.concatenate([image, image[..., ::-1]], axis=1)
    network = bvverify.load(Pool(), torch.zeros(image.shape), f"pytorch-{engine}")
    assert mismatches(network, image) == 0


def test_the_quantiser_is_one_multiply_add():
    rng = np.random.default_rng(3)
    differs = 0
    for _ in range(60):
        scale, zero = float(np.float32(10 ** rng.uniform(-3, 0))), int(rng.integers(0, 256))
        x = ((rng.integers(-20, 280, 500) - zero + 0.5) * np.float32(scale)).astype(np.float32)
        x = np.nextafter(x, np.float32(np.inf) * rng.choice([-1, 1], 500).astype(np.float32))
        expected = torch.quantize_per_tensor(torch.from_numpy(x), scale, zero, torch.quint8).int_repr().numpy()
        assert np.array_equal(quantise(x, Quantisation(scale, zero, "multiply-add-half-even"), UINT8), expected)
        differs += int((quantise(x, Quantisation(scale, zero), UINT8) != expected).sum())
        back = torch._make_per_tensor_quantized_tensor(torch.arange(256, dtype=torch.uint8), scale, zero).dequantize().numpy()
        assert np.array_equal(dequantise(np.arange(256), Quantisation(scale, zero)), back)
    assert differs > 0, "ONNX's quantiser gives the same: the inputs are too easy"


@pytest.mark.parametrize("engine", tm.ENGINES)
def test_the_engines_are_told_apart(engine):
    """The other engine's formulas on the same weights give other integers: the comparison sees a tie rounded otherwise."""
    torch.manual_seed(0)
    x = torch.randn(3000, 8)
    module = tm.quantised(tm.Mlp((8, 64, 10)), x, engine)
    networks = [bvverify.load(module, x, f"pytorch-{e}") for e in tm.ENGINES]
    q = interpreter.quantise_input(networks[0], x.numpy())
    answers = [interpreter.run(network, q) for network in networks]
    assert (answers[0] != answers[1]).any()
    assert [mismatches(network, q[:50]) for network in networks] == [0, 0]


def test_pytorch_is_asked_about_a_witness_and_a_lie_is_found_out():
    torch.manual_seed(1)
    x = torch.randn(20, 64)
    network = bvverify.load(tm.quantised(tm.Mlp(), x, "fbgemm"), x, "pytorch-fbgemm")
    q = interpreter.quantise_input(network, x[:1].numpy())
    given = replay.file_input(network, q[0])
    declared = interpreter.declared_output(network, interpreter.run(network, q))
    answer = replay.runtime_replays(network, given, declared)[0]
    assert answer.agreed
    assert answer.runtime == "pytorch (fbgemm)"
    lie = declared.copy()
    lie[0, 3] += 1
    answer = replay.runtime_replays(network, given, lie)[0]
    assert not answer.agreed
    assert "output 3" in answer.detail


def test_robustness_of_a_digits_classifier_is_decided_and_replayed():
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = torch.from_numpy((digits.data / 16).astype(np.float32)), torch.from_numpy(digits.target)
    torch.manual_seed(0)
    module = tm.Mlp((64, 16, 10))
    optimiser = torch.optim.Adam(module.parameters(), 0.05)
    for _ in range(40):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(images), labels).backward()
        optimiser.step()
    module = tm.quantised(module, images, "fbgemm")
    network = bvverify.load(module, images, "pytorch-fbgemm")
    small = bvverify.robust(network, images[0].numpy(), 1, timeout=30)
    assert str(small.verdict) == "verified"
    assert small.checked is not None
    large = bvverify.robust(network, images[0].numpy(), 60, timeout=30)
    assert str(large.verdict) == "falsified"
    assert [r.agreed for r in large.witness.replayed_by] == [True]
    given = torch.from_numpy(large.witness.file_input.copy())
    with tm.engine("fbgemm"):
        assert int(module(given).argmax()) != int(labels[0])
