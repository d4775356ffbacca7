"""--accumulator: both verdicts of the bundled example, what is said about pairs and runtimes, and what is refused."""

import csv
import json
import re
from collections import Counter

import numpy as np
import onnx
import onnx_networks
import pytest

from bvverify import examples
from bvverify.bounds.pairs import Reach
from bvverify.errors import UnsupportedError
from bvverify.load.load import load
from bvverify.model import saturating_pairs
from bvverify.model.query import Box
from bvverify.run import interpreter, oracle

BRIGHT, IMAGES = examples.path(examples.BRIGHT), examples.path(examples.BRIGHT_IMAGES)
PAIRS = ("--accumulator", "saturating-pairs")
SEMANTICS = "onnxruntime, accumulator saturating-pairs"


@pytest.fixture
def vnni(monkeypatch):
    """Makes the CPU one with VNNI, one without, or an unknown one."""

    def make(has):
        monkeypatch.setattr(oracle, "has_vnni", lambda: has)

    return make


def both(path=BRIGHT):
    return load(path), load(path, SEMANTICS)


@pytest.mark.parametrize(("image", "radius"), [(0, 10), (2, 2)])
def test_what_holds_with_vnni_fails_without(cli, vnni, tmp_path, image, radius):
    vnni(True)
    question = ("robust", BRIGHT, "--input", f"{IMAGES}::{image}", "--radius", radius)
    exact = cli(*question)
    assert (exact.code, exact.first) == (0, "verified")
    assert "may differ: --accumulator saturating-pairs" in exact.out
    pairs = cli(*question, *PAIRS, "--witness", tmp_path / "w.json")
    assert (pairs.code, pairs.first) == (10, "falsified")
    assert f"  semantics  {SEMANTICS} (float32-half-even)" in pairs.out
    assert "could leave int16 on this box" in pairs.out
    # The witness is one for the one accumulator and none for the other.
    x = np.array(json.loads((tmp_path / "w.json").read_text())["witness"]["input"]).reshape(1, -1)
    with_vnni, without = both()
    x = x.reshape(1, *with_vnni.input.tensor.shape)
    nominal = interpreter.quantise_input(with_vnni, np.load(IMAGES)["images"][image : image + 1])
    label = interpreter.run(with_vnni, nominal).argmax()
    assert interpreter.run(without, nominal).argmax() == label == interpreter.run(with_vnni, x).argmax()
    assert interpreter.run(without, x).argmax() != label


def test_the_runtime_of_another_cpu_is_not_asked(cli, vnni, tmp_path, mlp, images):
    saved, question = tmp_path / "w.json", ("--input", f"{IMAGES}::2", "--radius", 2)
    vnni(True)
    outcome = cli("attack", BRIGHT, *question, *PAIRS, "--witness", saved)
    assert outcome.code == 10
    assert "not asked: this CPU has VNNI" in outcome.out
    assert "not asked: this CPU has VNNI" in cli("replay", saved).out
    recorded = json.loads(saved.read_text())
    assert recorded["witness"]["replays"][0]["agreed"] is None
    assert recorded["pairs"]["on_box"] > 0
    # Where pairs never matter, the runtime is asked on every CPU.
    assert "agrees" in cli("robust", mlp, "--input", f"{images}::7", "--radius", 16, *PAIRS).out
    network = load(BRIGHT)
    vnni(False)
    assert oracle.not_asked(network) == "this CPU has no VNNI"
    assert oracle.not_asked(load(BRIGHT, SEMANTICS)) == oracle.not_asked(load(mlp)) == ""
    vnni(None)
    assert oracle.not_asked(network) == oracle.not_asked(load(BRIGHT, SEMANTICS)) == ""


def test_both_accumulators_can_be_compared_on_either_cpu(cli, vnni):
    vnni(True)
    outcome = cli("compare", BRIGHT, "--against", SEMANTICS, "--class", "--input", f"{IMAGES}::2", "--radius", 2)
    assert (outcome.code, outcome.first, outcome.err) == (10, "differs", "")
    assert "agrees" in outcome.out.partition("replayed A")[2].partition("\n")[0]
    assert "not asked: this CPU has VNNI" in outcome.out.partition("replayed B")[2]


def test_a_certificate_names_the_accumulator(cli, tmp_path):
    proof, question = tmp_path / "p.bvcert", ("--input", f"{IMAGES}::0", "--radius", 1)
    assert cli("robust", BRIGHT, *question, *PAIRS, "--certificate", proof).first == "verified"
    assert SEMANTICS in cli("check", proof, *question).out


def test_run_and_export_take_it_too(cli):
    x = np.load(IMAGES)["images"]
    _, without = both()
    expected = interpreter.run(without, interpreter.quantise_input(without, x))
    assert " ".join(map(str, expected[1])) in cli("run", BRIGHT, "--input", f"{IMAGES}::1", *PAIRS).out
    script = cli("export", BRIGHT, "--input", f"{IMAGES}::2", "--radius", 0, *PAIRS)
    assert (script.code, script.err) == (0, "")
    assert "(check-sat)" in script.out


def test_in_a_batch_it_holds_for_all_rows(cli, tmp_path):
    rows, out = tmp_path / "rows.csv", tmp_path / "out.jsonl"
    with rows.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "input", "label", "radius", "timeout", "semantics"])
        for semantics in ("", "onnxruntime", "onnxruntime, accumulator exact"):
            writer.writerow([BRIGHT, f"{IMAGES}::2", "", 0, 60, semantics])
    assert cli("batch", rows, "--output", out, "--jobs", 1, *PAIRS).code == 0
    assert sorted(json.loads(line)["semantics"] for line in out.read_text().splitlines()) == ["onnxruntime", SEMANTICS, SEMANTICS]


def test_where_the_check_says_no_difference_there_is_none():
    """On boxes around dark inputs no pair can leave int16, and outputs are equal; on the whole input space they differ."""
    with_vnni, without = both()
    shape, rng, harmless = with_vnni.input.tensor.shape, np.random.default_rng(0), 0
    for _ in range(60):
        brightness = rng.integers(20, 256)
        lo = rng.integers(0, brightness, shape)
        box = Box.of(lo, np.minimum(lo + rng.integers(0, 40), 255))
        x = rng.integers(box.lo, box.hi + 1, (50, *shape))
        same = (interpreter.run(with_vnni, x) == interpreter.run(without, x)).all()
        if not Reach.of(without, [box]).on_box:
            harmless += 1
            assert same
    assert 5 < harmless < 60
    assert Reach.of(without, []) == Reach(0, 23)
    every = rng.integers(0, 256, (200, *shape))
    assert (interpreter.run(with_vnni, every) != interpreter.run(without, every)).any()


def test_no_pair_of_the_other_examples_matters(mlp, cnn):
    for path in (mlp, cnn):
        with_vnni, without = both(path)
        assert saturating_pairs.never_matter(with_vnni)
        assert len(with_vnni.ops) == len(without.ops)
        assert str(Reach.of(without, [])).startswith("none can leave int16, whatever the input")


def test_random_onnx_files(tmp_path):
    """Of a file, uint8 by int8 saturates as the instruction does, in QDQ as well; int8 by int8 does not."""
    seen, refused = Counter(), []
    for seed in range(40):
        content, shape = onnx_networks.model(seed)
        path = tmp_path / f"{seed}.onnx"
        path.write_bytes(content)
        exact = load(path)
        try:
            paired = load(path, SEMANTICS)
        except UnsupportedError as error:
            refused.append(str(error))
            continue
        x = interpreter.quantise_input(exact, onnx_networks.inputs(np.random.default_rng(seed), shape, 20))
        outputs, op = interpreter.run(exact, x), exact.ops[-1]
        if exact.input.tensor.qtype.signed:
            assert len(exact.ops) == len(paired.ops)
            assert (outputs == interpreter.run(paired, x)).all()
            seen["signed"] += 1
            continue
        # The last layer by its definition, on what the layers before it made.
        tensors, last = interpreter.trace(paired, x), [t.name for t in paired.tensors].index(exact.tensors[op.x].name)
        products = tensors[last][:, None, :] * op.weight[None]
        products = np.pad(products, ((0, 0), (0, 0), (0, products.shape[2] % 2)))
        acc = np.clip(products.reshape(*products.shape[:2], -1, 2).sum(axis=3), -32768, 32767).sum(axis=2)
        assert (tensors[-1] == op.staircase.apply(acc + op.bias - op.input_zero_point * op.weight.sum(axis=1))).all()
        form = "qop" if seed % 2 else "qdq"
        seen[f"{form} {'saturates' if (tensors[-1] != outputs).any() else 'fits'}"] += 1
    assert min(seen[k] for k in ("signed", "qop saturates", "qdq saturates")) > 0
    assert all(re.search("node n.*(its padding is so wide|pairs of products can leave int16)", line) for line in refused)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--semantics", "tflite-xnnpack", *PAIRS), "tflite-xnnpack sums exactly on every CPU"),
        (("--semantics", "onnxruntime, accumulator int7"), "exact or saturating-pairs"),
    ],
)
def test_refusals(cli, arguments, words):
    outcome = cli("robust", BRIGHT, "--input", f"{IMAGES}::0", "--radius", 1, *arguments)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (1, "", 1)
    assert words in outcome.err


def test_a_weight_zero_point_is_refused(cli, tmp_path):
    model = onnx.load(BRIGHT)
    zero = next(t for t in model.graph.initializer if t.name == "layer0_weight_zero_point")
    zero.CopyFrom(onnx.numpy_helper.from_array(np.array(3, np.int8), zero.name))
    onnx.save(model, tmp_path / "z.onnx")
    outcome = cli("robust", tmp_path / "z.onnx", "--input", f"{IMAGES}::0", "--radius", 1, *PAIRS)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert "node layer0_node (QGemm)" in outcome.err
    assert "zero point other than 0" in outcome.err
