"""Bad input of every kind: exit code 1 or 2, exactly one line on stderr, nothing on stdout, no traceback."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bvverify import examples
from bvverify.cli import main
from bvverify.load import load as loader

MLP, CNN = str(examples.path("digits_mlp_qop.onnx")), str(examples.path("digits_cnn_qop.onnx"))
IMAGES, PROPERTY = str(examples.path(examples.IMAGES)), str(examples.path(examples.PROPERTY))
ONE = ("--input", f"{IMAGES}::0", "--radius", "1")


def _file(folder: Path, name: str, content: bytes | str) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def _array(folder: Path, values) -> str:
    np.save(folder / "x.npy", values)
    return str(folder / "x.npy")


def _filled(value: float) -> np.ndarray:
    x = np.zeros((1, 1, 8, 8), np.float32)
    x[0, 0, 3, 3] = value
    return x


def _with_operator(folder: Path, operator: str) -> str:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], name="the_node")], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(folder / "op.onnx"))
    return str(folder / "op.onnx")


def _without_initialiser(folder: Path) -> str:
    model = onnx.load(MLP)
    del model.graph.initializer[0]
    onnx.save(model, str(folder / "gap.onnx"))
    return str(folder / "gap.onnx")


def _property(folder: Path, old: str, new: str) -> str:
    text = Path(PROPERTY).read_text()
    assert old in text
    return _file(folder, "p.vnnlib", text.replace(old, new, 1))


WRONG_MODEL = {
    "truncated": lambda d: ["robust", _file(d, "m.onnx", Path(MLP).read_bytes()[:2000]), *ONE],
    "corrupt": lambda d: ["robust", _file(d, "m.onnx", bytes(range(256)) * 20), *ONE],
    "empty": lambda d: ["robust", _file(d, "m.onnx", b""), *ONE],
    "text as onnx": lambda d: ["robust", _file(d, "m.onnx", "this is no model\n"), *ONE],
    "wrong magic h5": lambda d: ["robust", _file(d, "m.h5", Path(MLP).read_bytes()), *ONE],
    "unknown suffix": lambda d: ["robust", _file(d, "m.xyz", Path(MLP).read_bytes()), *ONE],
    "missing": lambda d: ["robust", str(d / "none.onnx"), *ONE],
    "a directory": lambda d: ["robust", str(d), *ONE],
    "unsupported operator": lambda d: ["robust", _with_operator(d, "Sin"), *ONE],
    "unknown operator": lambda d: ["robust", _with_operator(d, "Frobnicate"), *ONE],
    "missing initialiser": lambda d: ["robust", _without_initialiser(d), *ONE],
    "unknown semantics": lambda d: ["robust", MLP, *ONE, "--semantics", "no-such-machine"],
    "semantics of another format": lambda d: ["robust", MLP, *ONE, "--semantics", "fixed-point:bits=6,input_bits=8"],
}

WRONG_INPUT = {
    "NaN": lambda d: ["robust", MLP, "--input", _array(d, _filled(np.nan)), "--radius", "1"],
    "infinite": lambda d: ["robust", MLP, "--input", _array(d, _filled(np.inf)), "--radius", "1"],
    "wrong shape": lambda d: ["robust", MLP, "--input", _array(d, np.zeros((1, 1, 9, 9), np.float32)), "--radius", "1"],
    "no input in it": lambda d: ["run", MLP, "--input", _array(d, np.zeros((0, 1, 8, 8), np.float32))],
    "objects": lambda d: ["robust", MLP, "--input", _array(d, np.array([{}, 1], object)), "--radius", "1"],
    "text": lambda d: ["robust", MLP, "--input", _array(d, np.array(["a"] * 64)), "--radius", "1"],
    "missing": lambda d: ["robust", MLP, "--input", str(d / "none.npy"), "--radius", "1"],
    "a directory": lambda d: ["robust", MLP, "--input", str(d), "--radius", "1"],
    "truncated npz": lambda d: ["robust", MLP, "--input", _file(d, "x.npz", Path(IMAGES).read_bytes()[:500]) + "::0", "--radius", "1"],
    "truncated npy": lambda d: ["robust", MLP, "--input", _file(d, "x.npy", b"\x93NUMPY\x01\x00"), "--radius", "1"],
    "wrong magic png": lambda d: ["robust", MLP, "--input", _file(d, "x.png", "no picture"), "--radius", "1"],
    "wrong magic idx": lambda d: ["robust", MLP, "--input", _file(d, "x-idx3-ubyte", b"\x01\x02\x03\x04") + "::0", "--radius", "1"],
    "csv with words": lambda d: ["robust", MLP, "--input", _file(d, "x.csv", "one,two\n") + "::0", "--radius", "1"],
    "index out of range": lambda d: ["robust", MLP, "--input", f"{IMAGES}::20", "--radius", "1"],
    "negative index": lambda d: ["robust", MLP, "--input", f"{IMAGES}::-1", "--radius", "1"],
    "index is no number": lambda d: ["robust", MLP, "--input", f"{IMAGES}::first", "--radius", "1"],
    "several inputs": lambda d: ["robust", MLP, "--input", IMAGES, "--radius", "1"],
    "run prints one input": lambda d: ["run", MLP, "--input", IMAGES],
}

WRONG_PROPERTY = {
    "missing": lambda d: ["verify", MLP, str(d / "none.vnnlib")],
    "a directory": lambda d: ["verify", MLP, str(d)],
    "no property": lambda d: ["verify", MLP, _file(d, "p.vnnlib", "hello")],
    "bytes": lambda d: ["verify", MLP, _file(d, "p.vnnlib", bytes(range(256)))],
    "empty": lambda d: ["verify", MLP, _file(d, "p.vnnlib", "")],
    "unbalanced": lambda d: ["verify", MLP, _property(d, "(assert (or", "(assert (or (")],
    "missing output": lambda d: ["verify", MLP, _property(d, "(declare-const Y_9 Real)", "(declare-const Y_10 Real)")],
    "undeclared output": lambda d: ["verify", MLP, _property(d, "(>= Y_1 Y_0)", "(>= Y_77 Y_0)")],
    "missing input": lambda d: ["verify", MLP, _property(d, "(declare-const X_63 Real)", "")],
    "not linear": lambda d: ["verify", MLP, _property(d, "(>= Y_1 Y_0)", "(>= (* Y_1 Y_2) Y_0)")],
}

WRONG_NUMBER = {
    "negative radius": lambda d: ["robust", MLP, "--input", f"{IMAGES}::0", "--radius", "-1"],
    "radius over the type": lambda d: ["robust", MLP, "--input", f"{IMAGES}::0", "--radius", "256"],
    "radius is no integer": lambda d: ["robust", MLP, "--input", f"{IMAGES}::0", "--radius", "1.5"],
    "neither radius nor epsilon": lambda d: ["robust", MLP, "--input", f"{IMAGES}::0"],
    "both radius and epsilon": lambda d: ["robust", MLP, *ONE, "--epsilon", "0.1"],
    "negative epsilon": lambda d: ["robust", MLP, "--input", f"{IMAGES}::0", "--epsilon", "-0.1"],
    "epsilon is no number": lambda d: ["robust", MLP, "--input", f"{IMAGES}::0", "--epsilon", "nan"],
    "epsilon over nothing": lambda d: ["robust", MLP, "--input", f"{IMAGES}::0", "--epsilon", "1/0"],
    "label out of range": lambda d: ["robust", MLP, *ONE, "--label", "10"],
    "negative label": lambda d: ["robust", MLP, *ONE, "--label", "-1"],
    "zero timeout": lambda d: ["robust", MLP, *ONE, "--timeout", "0"],
    "timeout is not finite": lambda d: ["robust", MLP, *ONE, "--timeout", "nan"],
    "hardly any memory": lambda d: ["robust", MLP, *ONE, "--memory", "1"],
    "negative seed": lambda d: ["robust", MLP, *ONE, "--seed", "-1"],
}

WRONG_USAGE = {
    "unknown command": lambda d: ["robsut", MLP],
    "unknown option": lambda d: ["robust", MLP, *ONE, "--raduis", "1"],
    "unknown option before the command": lambda d: ["--frob", "robust"],
    "missing argument": lambda d: ["robust"],
    "missing option": lambda d: ["robust", MLP, "--radius", "1"],
    "option without its value": lambda d: ["robust", MLP, "--input"],
    "one argument too many": lambda d: ["robust", MLP, "more", *ONE],
    "unknown engine": lambda d: ["robust", MLP, *ONE, "--engine", "magic"],
    "unknown format": lambda d: ["export", MLP, *ONE, "--format", "tptp"],
    "property and input": lambda d: ["attack", MLP, PROPERTY, *ONE],
    "neither property nor input": lambda d: ["attack", MLP],
    "case out of range": lambda d: ["export", MLP, *ONE, "--case", "1"],
    "output in a missing folder": lambda d: ["run", MLP, "--input", IMAGES, "--output", str(d / "none" / "y.npy")],
    "output is a directory": lambda d: ["export", MLP, *ONE, "--output", str(d)],
    "output of another kind": lambda d: ["run", MLP, "--input", IMAGES, "--output", str(d / "y.csv")],
    "witness of another kind": lambda d: ["robust", MLP, *ONE, "--witness", str(d / "w.txt")],
    "witness in a missing folder": lambda d: ["robust", MLP, *ONE, "--witness", str(d / "none" / "w.npy")],
    "dump in a missing folder": lambda d: ["robust", MLP, *ONE, "--dump-smt2", str(d / "none" / "q.smt2")],
}

GOOD_ROW = f"{MLP},{IMAGES}::0,,1,,\n"
HEADER = "model,input,label,radius,timeout,semantics\n"

WRONG_BATCH = {
    "missing CSV": lambda d: ["batch", str(d / "none.csv"), "--output", str(d / "o.jsonl")],
    "CSV is a directory": lambda d: ["batch", str(d), "--output", str(d / "o.jsonl")],
    "empty CSV": lambda d: ["batch", _file(d, "i.csv", ""), "--output", str(d / "o.jsonl")],
    "missing column": lambda d: ["batch", _file(d, "i.csv", f"model,input,label\n{MLP},x,0\n"), "--output", str(d / "o.jsonl")],
    "bytes": lambda d: ["batch", _file(d, "i.csv", bytes(range(256))), "--output", str(d / "o.jsonl")],
    "no jobs": lambda d: ["batch", _file(d, "i.csv", HEADER + GOOD_ROW), "--output", str(d / "o.jsonl"), "--jobs", "0"],
    "output missing": lambda d: ["batch", _file(d, "i.csv", HEADER + GOOD_ROW)],
    "output in a missing folder": lambda d: ["batch", _file(d, "i.csv", HEADER + GOOD_ROW), "--output", str(d / "none" / "o.jsonl")],
    "output is something else": lambda d: ["batch", _file(d, "i.csv", HEADER + GOOD_ROW), "--output", _file(d, "o.jsonl", "hello\n")],
}

KINDS = {
    f"{group}: {name}": make
    for group, kinds in {
        "model": WRONG_MODEL,
        "input": WRONG_INPUT,
        "property": WRONG_PROPERTY,
        "number": WRONG_NUMBER,
        "usage": WRONG_USAGE,
        "batch": WRONG_BATCH,
    }.items()
    for name, make in kinds.items()
}


def _check(code: int, out: str, err: str) -> str:
    lines = err.splitlines()
    assert code in (1, 2), (code, out, err)
    assert len(lines) == 1, err
    assert lines[0].startswith("bvverify: error: ")
    assert "Traceback" not in err
    assert out == ""
    return lines[0]


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_one_clear_line(cli, tmp_path, kind):
    outcome = cli(*KINDS[kind](tmp_path))
    line = _check(outcome.code, outcome.out, outcome.err)
    assert len(line) < 600


@pytest.mark.parametrize("kind", ["model: truncated", "input: NaN", "number: radius over the type", "usage: unknown option"])
def test_so_it_is_as_a_process(tmp_path, kind):
    done = subprocess.run([sys.executable, "-m", "bvverify.cli", *KINDS[kind](tmp_path)], capture_output=True, text=True, check=False)
    _check(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("model: unsupported operator", ["op.onnx", "the_node", "Sin"]),
        ("model: missing", ["none.onnx"]),
        ("input: NaN", ["x.npy", "NaN"]),
        ("input: index out of range", ["digits.npz", "20"]),
        ("input: several inputs", ["digits.npz", "20", "::INDEX"]),
        ("number: radius over the type", ["256", "uint8", "255"]),
        ("number: label out of range", ["10", "0 to 9"]),
        ("usage: unknown command", ["robsut"]),
        ("usage: unknown engine", ["magic", "auto", "smt"]),
        ("batch: missing column", ["i.csv", "radius"]),
        ("batch: output is something else", ["o.jsonl", "line 1"]),
    ],
)
def test_the_line_names_the_place_and_the_mend(cli, tmp_path, kind, words):
    line = cli(*KINDS[kind](tmp_path)).err
    assert [word for word in words if word not in line] == []


def test_with_json_the_error_is_an_object_as_well(cli):
    outcome = cli("robust", MLP, "--input", f"{IMAGES}::0", "--radius", "-1", "--json")
    report = json.loads(outcome.out)
    assert (outcome.code, report["exit_code"], report["error"], report["schema_version"]) == (1, 1, "UsageError", 1)
    assert outcome.err == f"bvverify: error: {report['message']}\n"


def test_a_bug_is_exit_code_6_and_one_line_with_a_hint(cli, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(loader, "load", broken)
    outcome = cli("robust", MLP, *ONE)
    assert (outcome.code, outcome.out) == (6, "")
    assert outcome.err == "bvverify: error: internal error: ZeroDivisionError: a bug (BVVERIFY_TRACEBACK=1 shows where)\n"


def test_the_traceback_is_there_for_who_asks(cli, monkeypatch):
    monkeypatch.setenv("BVVERIFY_TRACEBACK", "1")
    outcome = cli("robust", MLP, "--input", f"{IMAGES}::0", "--radius", "-1")
    assert outcome.code == 1
    assert "Traceback (most recent call last)" in outcome.err


def test_an_interrupt_is_exit_code_130(cli, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loader, "load", interrupted)
    outcome = cli("robust", MLP, *ONE)
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "bvverify: interrupted\n")


def test_no_command_prints_help_and_is_no_success(capsys):
    assert main([]) == 1
    assert "Usage: bvverify" in capsys.readouterr().out
