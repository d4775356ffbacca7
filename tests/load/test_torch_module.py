"""PyTorch modules and files: what is read, and how the rest is refused."""

import warnings

import numpy as np
import pytest
import torch
import torch_modules as tm
from torch import nn
from torch.ao import quantization as tq

import bvverify
from bvverify.cli import main
from bvverify.errors import InputError, UnsupportedError, UsageError
from bvverify.load import profile
from bvverify.load.load import load
from bvverify.model.ops import Add, Clamp, Dense, Lookup
from bvverify.run import interpreter


@pytest.fixture(scope="module")
def mlp():
    torch.manual_seed(0)
    x = torch.randn(20, 64)
    return tm.quantised(tm.Mlp(), x, "fbgemm"), x


class Between(nn.Module):
    """A function between a quantiser and a dequantiser."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        y = self.function(torch.quantize_per_tensor(x, 0.05, 77, torch.quint8))
        return y.dequantize() if isinstance(y, torch.Tensor) and y.is_quantized else y


def read(function, shape=(4, 6, 6), engine="fbgemm"):
    return bvverify.load(Between(function), torch.zeros(1, *shape), f"pytorch-{engine}")


def test_a_module_becomes_its_layers(mlp):
    module, x = mlp
    network = bvverify.load(module, x, "pytorch-fbgemm")
    assert [type(op) for op in network.ops] == [Dense] * 3
    assert network.requantisations() == ("fbgemm",)
    assert [op.staircase.lo for op in network.ops[:2]] == [t.quantisation.zero_point for t in network.tensors[1:3]]
    assert network.input.quantiser.rounding == "multiply-add-half-even"
    assert network.provenance.format == "torch"


def test_the_digest_is_that_of_the_network(mlp):
    module, x = mlp
    network, same = (bvverify.load(module, x, "pytorch-fbgemm") for _ in range(2))
    assert network.provenance.sha256 == same.provenance.sha256
    assert network.provenance.sha256 != bvverify.load(module, x, "pytorch-qnnpack").provenance.sha256
    other = tm.quantised(tm.Mlp(), x, "fbgemm")
    assert network.provenance.sha256 != bvverify.load(other, x, "pytorch-fbgemm").provenance.sha256


def test_functions_of_one_value_are_tables_and_monotone_clips_are_clamps():
    assert [type(op) for op in read(torch.relu).ops] == [Clamp]
    assert [type(op) for op in read(torch.sigmoid).ops] == [Lookup]
    assert [type(op) for op in read(torch.tanh).ops] == [Lookup]


def test_operations_in_place_and_their_aliases():
    assert [type(op) for op in read(lambda x: x.relu_()).ops] == [Clamp]

    def stale(x):
        view = x.view(1, -1)
        x.relu_()
        return torch.sigmoid(view)

    with pytest.raises(UnsupportedError, match="in place"):
        read(stale)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.dequantize().softmax(1), "logits"),
        (lambda x: x.dequantize() * 2, "after a DeQuantize"),
        (lambda x: x if float(x.dequantize().sum()) > 0 else torch.relu(x), "branch|floats after"),
        (lambda x: torch.ops.quantized.mul(x, x, 0.1, 3), r"quantized::mul.*not among"),
        (lambda x: nn.functional.avg_pool2d(x, 2, ceil_mode=True, padding=1), "padding"),
        (lambda x: nn.functional.max_pool2d(x, 4, 3, ceil_mode=True), "ceil_mode"),
        (lambda x: nn.functional.adaptive_avg_pool2d(x, 4), "different sizes"),
        (lambda x: nn.functional.avg_pool2d(x.contiguous(memory_format=torch.channels_last), 2), "channels-last"),
        (lambda x: x.flatten(), "batch"),
        (lambda x: (x, x), "return one tensor"),
        (lambda x: torch.ops.quantized.cat([x, x], 0, 0.1, 3), "batch axis"),
    ],
)
def test_what_is_not_exact_is_refused_by_name(function, message):
    with pytest.raises(UnsupportedError, match=message):
        read(function)


def test_branches_on_the_input_are_refused():
    class Branch(nn.Module):
        def forward(self, x):
            q = torch.quantize_per_tensor(x, 0.05, 77, torch.quint8)
            return torch.relu(q) if np.asarray(x.tolist()).sum() > 0 else q

    with pytest.raises(UnsupportedError, match=r"branch|other operators"):
        bvverify.load(Branch(), torch.zeros(1, 5), "pytorch-fbgemm")


class Sum(nn.Module):
    def __init__(self, zero):
        super().__init__()
        self.zero = zero

    def forward(self, x):
        q = torch.quantize_per_tensor(x, 0.25, self.zero, torch.quint8)
        return torch.ops.quantized.add(q, torch.relu(q), 1.0, self.zero).dequantize()


def test_an_addition_of_two_roundings_is_refused_and_one_of_one_is_read():
    assert isinstance(bvverify.load(Sum(4), torch.zeros(1, 5), "pytorch-fbgemm").ops[-1], Add)
    # With an odd zero point the last elements of a tensor round their ties the other way.
    with pytest.raises(UnsupportedError, match="more than one way"):
        bvverify.load(Sum(3), torch.zeros(1, 5), "pytorch-fbgemm")


def test_a_depthwise_kernel_reads_the_zero_point_in_its_padding_even_where_a_clamp_leaves_it_out():
    """Two inputs of at most 101 by weights of 100 fit into int16; two padded ones of 200 do not."""
    with tm.engine("fbgemm"):
        weight = torch._make_per_tensor_quantized_tensor(torch.full((8, 1, 3, 3), 100, dtype=torch.int8), 0.01, 0)
        packed = [torch.ops.quantized.conv2d_prepack(weight, None, [1, 1], [pad] * 2, [1, 1], 8) for pad in (0, 1)]

    class Whole(nn.Module):
        def __init__(self, packed):
            super().__init__()
            self.packed = packed

        def forward(self, x):
            q = torch.quantize_per_tensor(x, 0.1, 200, torch.quint8)
            clamped = nn.functional.hardtanh(q, -20.0, -9.9)
            return torch.ops.quantized.conv2d(clamped, self.packed, 1.0, 9).dequantize()

    bvverify.load(Whole(packed[0]), torch.zeros(1, 8, 5, 5), "pytorch-fbgemm")
    with pytest.raises(UnsupportedError, match="depthwise kernel sums pairs"):
        bvverify.load(Whole(packed[1]), torch.zeros(1, 8, 5, 5), "pytorch-fbgemm")


def test_a_depthwise_kernel_that_can_saturate_is_refused_and_another_is_read():
    rng = np.random.default_rng(0)
    for limit, refused in ((64, False), (128, True)):
        with tm.engine("fbgemm"):
            w, _ = tm.weight(rng, (8, 1, 3, 3), False, limit)
            packed = torch.ops.quantized.conv2d_prepack(w, None, [1, 1], [1, 1], [1, 1], 8)
        module = tm.Layer(torch.ops.quantized.conv2d, packed, (0.1, 7), (1.0, 9))
        if refused:
            with pytest.raises(UnsupportedError, match="pairs"):
                bvverify.load(module, torch.zeros(1, 8, 5, 5), "pytorch-fbgemm")
        else:
            bvverify.load(module, torch.zeros(1, 8, 5, 5), "pytorch-fbgemm")


def test_float_modules_and_wrong_calls_are_refused(mlp):
    module, x = mlp
    with pytest.raises(UnsupportedError, match="before any Quantize"):
        bvverify.load(nn.Linear(3, 2), torch.zeros(1, 3), "pytorch-fbgemm")
    with pytest.raises(UsageError, match="example_input"):
        bvverify.load(module)
    with pytest.raises(UsageError, match="path or a"):
        bvverify.load(3, x)
    with pytest.raises(UsageError, match="pytorch-fbgemm"):
        bvverify.load(module, x, "onnxruntime")
    with pytest.raises(InputError, match="cannot be run"):
        bvverify.load(module, torch.zeros(1, 5), "pytorch-fbgemm")


def test_engines_without_an_oracle():
    torch.manual_seed(0)
    x = torch.randn(500, 8)
    module = tm.quantised(tm.Mlp((8, 64, 64, 10)), x, "fbgemm")
    with tm.engine("onednn"), pytest.raises(UnsupportedError, match="onednn"):
        bvverify.load(module, x)
    with tm.engine("qnnpack"), pytest.raises(UnsupportedError, match="not converted for qnnpack"):
        bvverify.load(module, x)
    rng = np.random.default_rng(0)
    with tm.engine("x86"):
        assert bvverify.load(module, x).semantics == "pytorch-fbgemm"
        convolution, shape = tm.layer(rng, "conv")
        with pytest.raises(UnsupportedError, match="x86"):
            bvverify.load(convolution, torch.zeros(1, *shape))
        assert torch.backends.quantized.engine == "x86"


def saved(module, x, path, *, script):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(module, x[:1]), path) if script else torch.save(module, path)
    return path


@pytest.mark.parametrize("script", [False, True])
def test_a_file_is_opened_only_when_that_is_asked_for(tmp_path, capsys, mlp, script):
    module, x = mlp
    path = saved(module, x, tmp_path / "m.pt", script=script)
    with pytest.raises(InputError, match="--allow-pickle"):
        load(path, "pytorch-fbgemm:input=64")
    network = load(path, "pytorch-fbgemm:input=64", allow_pickle=True)
    assert network.semantics == "pytorch-fbgemm:input=64"
    q = interpreter.quantise_input(network, x.numpy())
    with tm.engine("fbgemm"), torch.no_grad():
        assert np.array_equal(interpreter.declared_output(network, interpreter.run(network, q)), module(x).numpy())
    np.save(tmp_path / "x.npy", x.numpy())
    arguments = ["robust", str(path), "--input", f"{tmp_path / 'x.npy'}::0", "--radius", "0", "--semantics", "pytorch-fbgemm:input=64"]
    assert main(arguments) == 2
    assert "--allow-pickle" in capsys.readouterr().err
    assert main([*arguments, "--allow-pickle"]) == 0
    assert main(arguments) == 2


def test_files_that_cannot_be_read_end_in_one_line(tmp_path, mlp):
    module, x = mlp
    broken, state = tmp_path / "broken.pt", tmp_path / "state.pth"
    broken.write_bytes(b"no pickle at all")
    torch.save({"weight": torch.ones(2)}, state)
    for path, message in ((broken, "cannot open"), (state, "whole module")):
        with pytest.raises(InputError, match=message):
            load(path, "pytorch-fbgemm:input=3", allow_pickle=True)
    with pytest.raises(UsageError, match="which engine"):
        load(broken)
    x = torch.randn(8, 1, 8, 8)
    cnn = tm.quantised(tm.Cnn(np.random.default_rng(0)), x, "fbgemm")
    with pytest.raises(InputError, match="TorchScript"):
        load(saved(cnn, x, tmp_path / "cnn.pt", script=False), "pytorch-fbgemm:input=1x8x8", allow_pickle=True)
    path = saved(cnn, x, tmp_path / "cnn.pt", script=True)
    with pytest.raises(UsageError, match="input=1x28x28"):
        load(path, "pytorch-fbgemm", allow_pickle=True)
    assert load(path, "pytorch-fbgemm:input=1x8x8", allow_pickle=True).input.file_shape == (1, 1, 8, 8)
    # A linear layer says what it takes.
    assert load(saved(module, None, tmp_path / "m.pt", script=False), "pytorch-qnnpack", allow_pickle=True).input.file_shape == (1, 64)


def test_a_profile_with_a_shape():
    assert str(profile.parse("pytorch-qnnpack:input=1x28x28")) == "pytorch-qnnpack:input=1x28x28"
    assert str(profile.parse("pytorch-qnnpack")) == "pytorch-qnnpack"
    for wrong in ("pytorch-qnnpack:input=", "pytorch-qnnpack:input=0x3", "pytorch-qnnpack:shape=3", "pytorch-qnnpack:input=a"):
        with pytest.raises(UsageError):
            profile.parse(wrong)


def test_the_stubs_alone_are_a_network():
    class Stubs(nn.Module):
        def __init__(self):
            super().__init__()
            self.quant, self.dequant = tq.QuantStub(), tq.DeQuantStub()

        def forward(self, x):
            return self.dequant(self.quant(x))

    x = torch.randn(9, 3)
    network = bvverify.load(tm.quantised(Stubs(), x, "fbgemm"), x, "pytorch-fbgemm")
    assert network.ops == ()


def test_the_function_of_the_package_stays_one_after_the_loaders_are_imported(mlp):
    from bvverify.load import arrays  # noqa: F401

    module, x = mlp
    assert callable(bvverify.load)
    assert bvverify.load(module, x, "pytorch-fbgemm").semantics == "pytorch-fbgemm"
