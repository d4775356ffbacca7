"""--allow-pickle where files are opened for a command, in a batch and in a comparison; and --accumulator for PyTorch's files."""

import json
import warnings

import numpy as np
import pytest
import torch
import torch_modules as tm

from bvverify.run import oracle


@pytest.fixture
def saved(tmp_path):
    """A module and three of its inputs, as files."""
    torch.manual_seed(0)
    x = torch.randn(20, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(tm.quantised(tm.Mlp((6, 8, 3)), x, "fbgemm"), tmp_path / "m.pt")
    np.save(tmp_path / "x.npy", x[:3].numpy())
    return tmp_path


def test_a_batch_opens_what_it_is_told_to(cli, saved):
    rows, out = saved / "rows.csv", saved / "out.jsonl"
    rows.write_text("model,input,label,radius,timeout,semantics\n" + "".join(f"m.pt,x.npy::{i},,0,60,pytorch-fbgemm\n" for i in range(3)))
    batch = ("batch", rows, "--output", out, "--jobs", 1)
    assert cli(*batch).code == 0
    refused = [json.loads(line) for line in out.read_text().splitlines()]
    assert [a["verdict"] for a in refused] == ["error"] * 3
    assert all("--allow-pickle" in a["reason"] for a in refused)
    out.unlink()
    assert cli(*batch, "--allow-pickle").code == 0
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(a["verdict"], a["semantics"]) for a in answers] == [("verified", "pytorch-fbgemm")] * 3


def test_a_comparison_opens_what_it_is_told_to(cli, saved):
    engines = ("compare", saved / "m.pt", "--semantics", "pytorch-fbgemm", "--against", "pytorch-qnnpack", "--json")
    near = ("--input", f"{saved / 'x.npy'}::0", "--radius", 0)
    assert "--allow-pickle" in cli(*engines, *near).err
    answer = json.loads(cli(*engines, *near, "--allow-pickle").out)
    assert (answer["semantics"], answer["against"]) == ("pytorch-fbgemm", "pytorch-qnnpack")
    assert answer["verdict"] in ("equal", "differs")


def test_both_accumulators_of_fbgemm(cli, tmp_path):
    """Weights of 127 and inputs of 255: a pair is 64770 exactly, and 32767 where it saturates."""
    weight = torch._make_per_tensor_quantized_tensor(torch.tensor([[127, 127], [90, 90]], dtype=torch.int8), 1.0, 0)
    with tm.engine("fbgemm"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packed = torch.ops.quantized.linear_prepack(weight, None)
        module = tm.Layer(torch.ops.quantized.linear, packed, (1.0, 0), (512.0, 0))
        torch.jit.save(torch.jit.trace(module, torch.zeros(1, 2)), tmp_path / "m.pt")
    np.save(tmp_path / "x.npy", np.full((1, 2), 255, np.float32))
    asked = (tmp_path / "m.pt", "--input", f"{tmp_path / 'x.npy'}::0", "--semantics", "pytorch-fbgemm:input=2", "--allow-pickle")
    for accumulator, outputs in (("exact", "127 90"), ("saturating-pairs", "64 64")):
        mine = oracle.sums_exactly("pytorch-fbgemm") in (None, accumulator == "exact")
        assert f" {outputs} (uint8)\n" in cli("run", *asked, "--accumulator", accumulator).out
        robust = cli("robust", *asked, "--radius", 0, "--label", 1, "--accumulator", accumulator)
        assert (robust.code, robust.first) == (10, "falsified")
        assert ("agrees" if mine else "not asked: this CPU has") in robust.out.partition("replayed")[2]
        assert ("may differ: --accumulator" in robust.out) == (accumulator == "exact")


def test_the_permission_ends_with_the_command(cli, mlp, images):
    from bvverify.load.load import PICKLE_ALLOWED

    assert cli("robust", mlp, "--input", f"{images}::0", "--radius", "0", "--allow-pickle").code in (0, 10)
    assert PICKLE_ALLOWED.get() is False
