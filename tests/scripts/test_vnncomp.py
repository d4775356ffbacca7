"""The competition's scripts from end to end: bundled models, small properties, every answer, signals, limits, wrong arguments."""

import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import make_benchmark
import numpy as np
import pytest

from bvverify import examples
from bvverify.load import property_file
from bvverify.load.assignment import assignment
from bvverify.load.load import load
from bvverify.model.box import nearest_float32, quantise
from bvverify.run import interpreter

SCRIPTS = Path(__file__).parents[2] / "scripts" / "vnncomp"
TINY, MLP = examples.path("tiny.onnx"), examples.path("digits_mlp_qop.onnx")

VERSION_1 = """(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(assert (>= X_0 -20))
(assert (<= X_0 20))
(assert (>= X_1 -20))
(assert (<= X_1 20))
(assert {})
"""
VERSION_2 = """(vnnlib-version <2.0>)
(declare-network f
    (declare-input A int8 [1,2])
    (declare-output B int8 [1,2]))
(assert (and (>= A[0,0] -20) (<= A[0,0] 20) (>= A[0,1] -20) (<= A[0,1] 20)))
(assert {})
"""
NEVER_1, NEVER_2 = "(>= Y_0 127.5)", "(and (> B[0,0] 127) (<= B[0,0] 127))"
SOMETIMES_1, SOMETIMES_2 = "(>= Y_0 Y_1)", "(>= B[0,0] B[0,1])"


def _script(name, *arguments, **options):
    # The scripts run the checkout's own environment; here it is the one that runs the tests.
    python = SCRIPTS.parent.parent / ".venv" / "bin" / "python"
    if not python.exists():
        if name != "run_instance.sh":
            pytest.skip("there is no .venv in this checkout")
        command = [sys.executable, str(SCRIPTS / "run_instance.py"), *map(str, arguments[1:])]
    else:
        command = ["bash", str(SCRIPTS / name), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options)


def _run(name, *arguments):
    process = _script(name, *arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture
def decide(tmp_path):
    """The results file of a property on a model, and the exit code."""

    def make(text, model=TINY, limit="60"):
        (tmp_path / "p.vnnlib").write_text(text)
        code, out, err = _run("run_instance.sh", "v1", "test", model, tmp_path / "p.vnnlib", tmp_path / "results.txt", limit)
        lines = (tmp_path / "results.txt").read_text().splitlines()
        assert out == lines[0] + "\n"
        return code, lines, err

    return make


def test_unsat(decide):
    assert decide(VERSION_1.format(NEVER_1))[:2] == (0, ["unsat"])


def test_sat_in_version_1_as_the_scoring_reads_it(decide):
    code, lines, _ = decide(VERSION_1.format(SOMETIMES_1))
    assert (code, lines[0]) == (0, "sat")
    content = " ".join(lines[1:]).strip()
    assert content.startswith("((X_0 ")
    assert content.endswith("))")
    found = re.findall(r"\(([XY])_(\d+) (\S+?)\)", content)
    assert [(k, int(i)) for k, i, _ in found] == [("X", 0), ("X", 1), ("Y", 0), ("Y", 1)]
    x, y = (np.array([int(v) for k, _, v in found if k == kind]) for kind in "XY")
    assert (abs(x) <= 20).all()
    assert y[0] >= y[1]
    assert (interpreter.run(load(TINY), x[None])[0] == y).all()


def test_sat_in_version_2_as_the_standard_prints_it(decide):
    code, lines, _ = decide(VERSION_2.format(SOMETIMES_2))
    assert (code, lines[0], lines[1], lines[4]) == (0, "sat", "A int8 [1,2]", "B int8 [1,2]")
    x, y = (np.array([int(v) for v in lines[at : at + 2]]) for at in (2, 5))
    assert len(lines) == 7
    assert y[0] >= y[1]
    assert (interpreter.run(load(TINY), x[None])[0] == y).all()


def test_what_cannot_be_read_is_an_error_with_its_reason(decide):
    code, lines, err = decide("(declare-const X_0 Real)")
    assert (code, lines) == (0, ["error"])
    assert err.startswith("run_instance: ")
    assert len(err.splitlines()) == 1
    assert decide(VERSION_1.format(NEVER_1), model="nothing.onnx")[:2] == (0, ["error"])


def test_a_named_network_is_its_file(decide):
    assert decide(VERSION_2.format(SOMETIMES_2), model=f"[('f', '{TINY}')]")[1][0] == "sat"


def test_a_short_limit_leaves_an_answer_in_time(decide):
    begun = time.monotonic()
    code, lines, _ = decide(VERSION_1.format(NEVER_1), limit="0.05")
    assert (code, lines) == (0, ["timeout"])
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_killed_run_leaves_an_answer(tmp_path, number):
    results = tmp_path / "results.txt"
    process = _script("run_instance.sh", "v1", "test", MLP, examples.path(examples.PROPERTY), results, "100")
    until = time.monotonic() + 60
    while not results.exists():
        assert time.monotonic() < until
        time.sleep(0.002)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    # Whoever is fast may have had the answer.
    assert results.read_text().splitlines()[0] in ("timeout", "unsat")
    assert [p.name for p in tmp_path.iterdir()] == ["results.txt"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("install_tool.sh", ("v2",)),
        ("prepare_instance.sh", ("v2", "c", "m.onnx", "p.vnnlib")),
        ("prepare_instance.sh", ("v1", "c", "m.onnx")),
        ("run_instance.sh", ("v1", "c", "m.onnx", "p.vnnlib", "{tmp}/r.txt")),
        ("run_instance.sh", ("v1", "c", "m.onnx", "p.vnnlib", "{tmp}/r.txt", "soon")),
        ("run_instance.sh", ("v1", "c", "m.onnx", "p.vnnlib", "{tmp}/r.txt", "-1")),
        ("run_instance.sh", ("v1", "c", "[('f','m'),('g','n')]", "p.vnnlib", "{tmp}/r.txt", "1")),
        ("run_instance.sh", ("v1", "c", "m.onnx", "p.vnnlib", "{tmp}/none/r.txt", "1")),
    ],
)
def test_wrong_arguments_are_exit_code_1(tmp_path, name, arguments):
    code, out, err = _run(name, *(a.replace("{tmp}", str(tmp_path)) for a in arguments))
    assert (code, out) == (1, "")
    assert err.strip()
    assert "Traceback" not in err
    assert not (tmp_path / "r.txt").exists()


def test_preparing_looks_for_the_files():
    good = ("prepare_instance.sh", "v1", "test", TINY, examples.path(examples.PROPERTY))
    assert _run(*good)[0] == 0
    code, _, err = _run(*good[:3], "none.onnx", examples.path(examples.PROPERTY))
    assert (code, err) == (2, "prepare_instance: none.onnx: no such file\n")


def test_an_unwritable_results_file_is_a_line():
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    code, _, err = _run("run_instance.sh", "v1", "test", TINY, examples.path(examples.PROPERTY), "/dev/full", "5")
    assert (code, err) == (1, "run_instance: /dev/full: cannot be written: No space left on device\n")


def _solver(*arguments):
    command = [sys.executable, str(SCRIPTS / "vnnlib_solver.py"), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_solver_interface_of_the_standard(tmp_path):
    query = tmp_path / "q.vnnlib"
    query.write_text(VERSION_2.format(SOMETIMES_2))
    done = _solver("verify", query, "--network", f"f={TINY}", "--timeout", "60")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == ["sat", "A int8 [1,2]"]
    query.write_text(VERSION_2.format(NEVER_2))
    assert _solver("verify", query, "--network", f"f={TINY}").stdout == "unsat\n"


def test_the_solver_interface_asks_for_the_networks_that_are_declared(tmp_path):
    query = tmp_path / "q.vnnlib"
    query.write_text(VERSION_2.format(NEVER_2))
    for networks in ([], ["--network", f"g={TINY}"], ["--network", f"f={TINY}", "--network", f"g={TINY}"]):
        done = _solver("verify", query, *networks)
        assert (done.returncode, done.stdout) == (1, "")
        assert "--network NAME=FILE" in done.stderr


def test_the_solver_interface_says_what_it_can():
    assert "QLinearConv" in _solver("supports", "--onnx-operators").stdout.split()
    assert _solver("--name").stdout == "bvverify\n"
    assert _solver("supports").returncode == 2


def test_an_element_type_of_another_model_is_refused(decide):
    code, lines, err = decide(VERSION_2.format(SOMETIMES_2).replace("A int8", "A uint8").replace("-20", "0"))
    assert (code, lines) == (0, ["error"])
    assert "uint8 is declared, but the model takes int8" in err


def _reals(low: str, high: str) -> str:
    """One class at least as large as 0, on a box of reals that is given for every pixel."""
    lines = [f"(declare-const X_{i} Real)" for i in range(64)] + [f"(declare-const Y_{i} Real)" for i in range(10)]
    lines += [f"(assert (>= X_{i} {low}))\n(assert (<= X_{i} {high}))" for i in range(64)]
    return "\n".join([*lines, "(assert (or", *(f"(and (>= Y_{i} Y_0))" for i in range(1, 10)), "))"])


@pytest.mark.parametrize(("low", "high"), [("0.51", "0.52"), ("0.1", "0.1"), ("0.53124", "0.53126"), ("-0.3", "0.01"), ("0.97", "1e6")])
def test_reals_of_a_counterexample_lie_in_the_file_s_box(tmp_path, low, high):
    """Dequantised, 0.5 would lie outside of [0.51, 0.52], though its integer is in the box's image."""
    path, network = tmp_path / "p.vnnlib", load(MLP)
    path.write_text(_reals(low, high))
    ((box, prop),) = property_file.read(path, network)
    rng = np.random.default_rng(1)
    for x in [box.lo, box.hi, *rng.integers(box.lo, box.hi + 1, (20, *box.lo.shape))]:
        y = interpreter.run(network, x[None])
        if not prop.violated(x.reshape(1, -1), y.reshape(1, -1))[0]:
            continue
        text = assignment(path, network, x, y[0])
        written = [np.float64(v) for v in re.findall(r"X_\d+ (\S+?)\)", text)]
        values = np.array(written, np.float32)
        assert (values == np.array(written)).all(), "a decimal that float32 rounds"
        assert (quantise(values, network.input.quantiser, network.input.tensor.qtype) == x.ravel()).all()
        at_ends = {float(nearest_float32(Fraction(v))) for v in (low, high)}
        assert all(Fraction(low) <= Fraction(float(v)) <= Fraction(high) or float(v) in at_ends for v in values)
        return
    pytest.fail("no input of the box violates the property")


def test_a_benchmark_is_the_same_for_a_seed_and_its_answers_hold(tmp_path, monkeypatch, capsys):
    def make(name: str, *more: str) -> Path:
        command = ["make_benchmark", "--output", str(tmp_path / name), "--models", str(MLP), "--count", "1", "--nodes", "200"]
        monkeypatch.setattr(sys, "argv", [*command, *more])
        make_benchmark.main()
        return tmp_path / name

    one, again, other = (
        make("one", "--radii", "1", "6", "--seed", "1"),
        make("again", "--radii", "1", "6", "--seed", "1"),
        make("other", "--radii", "0", "--seed", "3", "--versions", "1.0"),
    )
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert [(again / f).read_bytes() for f in files] == [(one / f).read_bytes() for f in files]
    drawn = [(folder / "1.0" / "instances.csv").read_text().split("_")[5] for folder in (one, other)]
    assert drawn[0] != drawn[1]
    for version in ("1.0", "2.0"):
        folder = one / version
        rows = [line.split(",") for line in (folder / "instances.csv").read_text().splitlines()]
        answers = [line.split(",") for line in (folder / "answers.csv").read_text().splitlines()][1:]
        assert [row[:2] for row in rows] == [row[:2] for row in answers]
        assert {row[2] for row in answers} <= {"sat", "unsat"}
        assert (folder / rows[0][0]).read_bytes() == MLP.read_bytes()
        network, (model, file, _) = load(folder / rows[-1][0]), rows[-1]
        code, _, err = _run("run_instance.sh", "v1", "c", folder / model, folder / file, tmp_path / "r.txt", "60")
        assert (code, (tmp_path / "r.txt").read_text().split()[0], err) == (0, answers[-1][2], "")
        assert property_file.read(folder / file, network)
    assert "2 instances" in capsys.readouterr().out


def test_a_benchmark_is_not_written_over(tmp_path, monkeypatch):
    (tmp_path / "precious").write_text("")
    monkeypatch.setattr(sys, "argv", ["make_benchmark", "--output", str(tmp_path)])
    with pytest.raises(SystemExit, match="is not empty"):
        make_benchmark.main()
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]
