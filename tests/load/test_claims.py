"""Claims from our CSV, from VNN-COMP's results, and from the published tables."""

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from bvverify import examples
from bvverify.errors import InputError, UsageError
from bvverify.load import claimed_witness
from bvverify.load.claims import Claimed, read_claims
from bvverify.load.load import load

HEADER = "model,input,label,radius,claim,claimed_witness\n"


def _claims(tmp_path, text, **others):
    file = tmp_path / "claims.csv"
    file.write_text(text)
    return read_claims(file, **others)


@pytest.mark.parametrize(
    ("word", "claimed"),
    [
        ("robust", "verified"),
        ("UNSAT", "verified"),
        ("non-robust", "falsified"),
        ("sat", "falsified"),
        ("timeout", "nothing"),
        ("misclassified", "nothing"),
        ("", "nothing"),
    ],
)
def test_words_of_tools(tmp_path, word, claimed):
    (made,) = _claims(tmp_path, f"{HEADER}m.onnx,x.npy,,1,{word},\n")
    assert (str(made.claimed), made.instance.error) == (claimed, None)
    assert made.echo()["claim"] == word


def test_a_word_that_nobody_uses_is_an_error_of_its_row_alone(tmp_path):
    one, other = _claims(tmp_path, f"{HEADER}m.onnx,x.npy,,1,maybe,\nm.onnx,x.npy,,1,robust,\n")
    assert "row 2: claim is 'maybe'" in one.instance.error
    assert other.instance.error is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("model,input,radius\nm,x,1\n", "no column claim"),
        ("model,claim\nm,robust\n", "no column input, radius"),
        ("a,b\n1,2\n", "no header of claims"),
        ("", "is empty"),
    ],
)
def test_what_is_no_list_of_claims_is_refused(tmp_path, text, complaint):
    with pytest.raises(InputError, match=complaint):
        _claims(tmp_path, text)


@pytest.mark.parametrize(
    ("content", "claimed"), [("Model status\nInfeasible\n", Claimed.VERIFIED), ("# Objective value = 0\nx_0 1\n", Claimed.FALSIFIED)]
)
def test_an_empty_claim_is_what_the_solvers_file_says(tmp_path, content, claimed):
    (tmp_path / "ilp.sol").write_text(content)
    (made,) = _claims(tmp_path, f"{HEADER}m.onnx,x.npy,,1,,ilp.sol\n")
    assert (made.claimed, made.witness) == (claimed, str(tmp_path / "ilp.sol"))


# -- VNN-COMP -------------------------------------------------------------------------------------------------------------------------

RESULTS = (
    "digits,./benchmarks/onnx/net.onnx,./benchmarks/vnnlib/p0.vnnlib,.01,unsat,1.5\n"
    "digits,./benchmarks/onnx/net.onnx,./benchmarks/vnnlib/p1.vnnlib.gz,.01,sat,0.5\n"
    "digits,./benchmarks/onnx/net.onnx,./benchmarks/vnnlib/p2.vnnlib,.01,timeout,116\n"
)


def test_results_answer_instances_by_their_names(tmp_path):
    (tmp_path / "instances.csv").write_text("".join(f"onnx/net.onnx,vnnlib/p{i}.vnnlib,60\n" for i in (1, 0, 2, 3)))
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits/net_p1.counterexample.gz").write_bytes(gzip.compress(b"sat\n((X_0 0.5))"))
    made = _claims(tmp_path, RESULTS, instances=tmp_path / "instances.csv")
    assert [str(c.claimed) for c in made] == ["falsified", "verified", "nothing", "nothing"]
    assert [c.instance.property.name for c in made] == ["p1.vnnlib", "p0.vnnlib", "p2.vnnlib", "p3.vnnlib"]
    assert {c.instance.timeout for c in made} == {60.0}
    assert [c.witness for c in made] == [str(tmp_path / "digits/net_p1.counterexample.gz"), "", "", ""]
    assert made[0].echo()["claimed_seconds"] == "0.5"


def test_results_without_instances_and_without_a_category(tmp_path):
    made = _claims(tmp_path, "net.onnx,p0.vnnlib,violated,1.5\n")
    assert (made[0].claimed, made[0].instance.model) == (Claimed.FALSIFIED, tmp_path / "net.onnx")


def test_a_result_that_is_no_instance_is_named(tmp_path):
    (tmp_path / "instances.csv").write_text("onnx/net.onnx,vnnlib/p0.vnnlib,60\n")
    with pytest.raises(InputError, match=r"row 2: .*p1\.vnnlib\.gz is no instance"):
        _claims(tmp_path, RESULTS, instances=tmp_path / "instances.csv")


# -- published tables -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def labels(tmp_path):
    (tmp_path / "images").mkdir()
    content = struct.pack(">BBBBI", 0, 0, 8, 1, 3) + bytes([7, 2, 1])
    (tmp_path / "images/mnist_t10k_labels.idx1.gz").write_bytes(gzip.compress(content))
    np.savez(tmp_path / "images/fashion_mnist_test_first400.npz", images=np.zeros((2, 4), np.uint8), labels=np.array([9, 5]))
    return tmp_path


def test_table_3_of_qvip(labels):
    text = "network,sample,radius,published_verdict,published_seconds\nP1-8,2,20,robust,0.5\nP3-6,1,4,none,none\nP1-6,0,2,non-robust,3\n"
    one, two, three = _claims(labels, text, benchmarks=labels)
    assert one.instance.model == labels / "nets/qvip_P1-8.h5"
    assert (one.instance.label, one.instance.radius, one.claimed) == (1, 20, Claimed.VERIFIED)
    assert one.instance.semantics == "fixed-point:bits=8,input_bits=8"
    assert "another sample" not in one.echo()["source"]
    assert (two.claimed, "another sample" in two.echo()["source"]) == (Claimed.NOTHING, True)
    assert (three.instance.model.name, three.instance.semantics) == ("aaai21_mnist.h5", "fixed-point:bits=6,input_bits=8")


def test_both_verdicts_of_aaai21(labels):
    text = "network,dataset,sample,radius,smt_aaai21,ilp_qvip\naaai21_fashion,fashion-mnist,1,4,none,non-robust\n"
    one, two = _claims(labels, text, benchmarks=labels)
    assert (one.claimed, two.claimed) == (Claimed.NOTHING, Claimed.FALSIFIED)
    assert one.instance.label == 5


@pytest.mark.parametrize(
    ("row", "complaint"),
    [("P1-8,3,20,robust,1", "0 to 2"), ("P1,0,20,robust,1", "bit width"), ("P1-8,0,20,sure,1", "claim is 'sure'"), ("P1-8,0", "2 cells")],
)
def test_a_row_of_a_table_that_does_not_fit(labels, row, complaint):
    with pytest.raises(InputError, match=complaint):
        _claims(labels, f"network,sample,radius,published_verdict,published_seconds\n{row}\n", benchmarks=labels)


# -- claimed witnesses ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mlp():
    return load(examples.path("digits_mlp_qop.onnx"))


@pytest.fixture(scope="module")
def integers():
    """The third image as the integers that the network reads."""
    return [round(16 * v) for v in np.load(examples.path(examples.IMAGES))["images"][3].ravel().tolist()]


def _written(tmp_path, integers, kind):
    reals = [v / 16 for v in integers]
    match kind:
        case "cell":
            return json.dumps(integers)
        case "list.json":
            content = json.dumps(integers)
        case "result.json":
            content = json.dumps({"witness": {"input": integers}})
        case "batch.json":
            content = json.dumps({"verdict": "falsified", "witness": integers})
        case "w.sol":
            content = "\n".join(f"x_{i} {v}" for i, v in enumerate(integers))
        case "w.counterexample":
            content = "sat\n(" + "\n".join(f"(X_{i} {v})" for i, v in enumerate(reals)) + "\n(Y_0 1.5))"
        case "old.counterexample":
            content = "\n".join(f"(X_{i} {v})" for i, v in enumerate(reals))
        case _:
            np.save(tmp_path / kind, np.array(reals, np.float32).reshape(1, 8, 8))
            return str(tmp_path / kind)
    (tmp_path / kind).write_text(content)
    return str(tmp_path / kind)


KINDS = ("cell", "list.json", "result.json", "batch.json", "w.sol", "w.counterexample", "old.counterexample", "w.npy")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same_integers(tmp_path, mlp, integers, kind):
    spec = _written(tmp_path, integers, kind)
    found = claimed_witness.read(spec, mlp)
    assert found.x.shape == mlp.input.tensor.shape
    assert found.x.ravel().tolist() == integers
    assert claimed_witness.reported(spec) == "sat"
    assert bool(found.outputs) == (kind == "w.counterexample")


def test_an_image_with_an_index(mlp, integers):
    spec = f"{examples.path(examples.IMAGES)}::3"
    assert claimed_witness.read(spec, mlp).x.ravel().tolist() == integers


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("w.json", "[1, 2]", "has 2 values, the input has 64"),
        ("w.json", "[1.5]", "no list of integers"),
        ("w.json", "[true]", "no list of integers"),
        ("w.json", "{}", "no list of integers"),
        ("w.json", "[", "no JSON"),
        ("w.counterexample", "sat\n((X_0 a))", "line 2: is no value"),
        ("w.counterexample", "sat\n((X_0 1)(X_0 1))", "line 2: X_0 has two values"),
        ("w.counterexample", "sat\n((X_1 1))", "does not give X_0"),
        ("w.counterexample", "sat\n((X_0 1)", "line 2: a parenthesis is never closed"),
        ("w.counterexample", "timeout", "holds no counterexample"),
        ("w.counterexample", "sat\n((X_0 1e999))", "line 2: is no value"),
        ("w.counterexample", "sat" + "".join(f"(X_{i} 1e80)" for i in range(64)), "NaN or infinite"),
        ("w.sol", "".join(f"x_{i} 1e300\n" for i in range(64)), "no list of integers"),
        ("w.sol.gz", "noise", "cannot be read"),
        ("w.sol", "Model status\nInfeasible\n", "holds no solution"),
        ("w.npy", "noise", "cannot be read as an array"),
    ],
)
def test_a_file_without_an_input_says_what_is_wrong(tmp_path, mlp, name, content, complaint):
    (tmp_path / name).write_text(content)
    with pytest.raises((InputError, UsageError), match=complaint):
        claimed_witness.read(str(tmp_path / name), mlp)


def test_a_missing_file_is_named(mlp):
    with pytest.raises(InputError, match=r"nowhere\.sol: cannot be read"):
        claimed_witness.read(str(Path("nowhere.sol")), mlp)
