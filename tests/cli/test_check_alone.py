"""Every verified verdict on the bundled networks is accepted by ``check`` where there is no solver, no torch and no search."""

import csv
import json
import subprocess
import sys

import pytest

from bvverify import examples

ALONE = """
import sys
class Absent:
    def find_spec(self, name, path, target=None):
        if name.partition('.')[0] in ('z3', 'torch', 'bitwuzla') or name.startswith(tuple('bvverify.' + n for n in GONE)):
            raise ImportError(f'{name} is not here')
GONE = ('search', 'attack', 'encode', 'solve', 'bounds', 'pipeline', 'compare')
sys.meta_path.insert(0, Absent())
from bvverify.cli import main
codes = [main(['check', file]) for file in sys.argv[1:]]
print(sorted(m for m in sys.modules if m.partition('.')[0] in ('z3', 'torch') or m.startswith('bvverify.search')), set(codes), len(codes))
"""
MODELS = (*examples.MODELS, "digits_mlp_6bit.onnx", "digits_cnn_6bit.onnx", examples.TFLITE)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Of every bundled network: images 0 to 5 at radius 1, the property file, and tiny layers at radius 3."""
    from bvverify.cli import main

    folder = tmp_path_factory.mktemp("alone")
    rows = [[model, f"{examples.path(examples.IMAGES)}::{i}", 1] for model in MODELS for i in range(6)]
    rows += [[examples.BRIGHT, f"{examples.path(examples.BRIGHT_IMAGES)}::{i}", 1] for i in range(3)]
    rows += [[model, f"{examples.path(examples.TINY_ROWS)}::{i}", 3] for model in examples.TINY for i in range(2)]
    asked = {"inputs": (["input", "radius"], rows), "files": (["property"], [[examples.MODELS[0], examples.path(examples.PROPERTY)]])}
    found = []
    for name, (columns, given) in asked.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["model", *columns, "timeout"])
            writer.writerows([examples.path(model), *rest, 5] for model, *rest in given)
        out = folder / f"{name}.jsonl"
        main(["batch", str(folder / f"{name}.csv"), "--output", str(out), "--jobs", "1", "--certificates", str(folder / name)])
        found += [json.loads(line) for line in out.read_text().splitlines()]
    assert [a["reason"] for a in found if a["verdict"] == "error"] == []
    assert len(found) == len(rows) + 1
    return found


def test_every_certificate_is_accepted_by_a_process_that_has_only_the_kernel(answers):
    verified = [a for a in answers if a["verdict"] == "verified"]
    assert {a["model"] for a in verified} >= {str(examples.path(model)) for model in MODELS}
    assert len(verified) > 25
    files = [file for a in verified for file in a["certificate"]]
    done = subprocess.run([sys.executable, "-c", ALONE, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"[] {{0}} {len(files)}"
    assert done.stdout.count("accepted\n") == len(files)


def test_no_certificate_has_a_leaf_that_nobody_checked(answers):
    for answer in answers:
        if answer["verdict"] == "verified":
            assert answer["checked"]["solver_leaves"] == 0, answer["input"]
