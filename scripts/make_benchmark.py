"""An int8 benchmark in the layout of VNN-COMP, with the answers that bvverify knows.

    DIR/1.0/instances.csv    onnx/MODEL,vnnlib/PROPERTY,SECONDS, no header
    DIR/1.0/onnx/            the models, as they are
    DIR/1.0/vnnlib/          properties: around an input no other class is as large as the network's own
    DIR/1.0/answers.csv      onnx,vnnlib,answer,stage,nodes,checked,semantics: sat, unsat or unknown
    DIR/2.0/                 the same in VNN-LIB 2

The ends of a box are exact float32 numbers, each the value that its integer stands for, so that a radius counts steps of the model's own
quantiser. Every sat was replayed by the interpreter and, where it is installed, ONNX Runtime; every unsat was accepted by the kernel, in
exact integers ("checked" counts its leaves). The search is limited by nodes, not by time, so that a seed gives the same benchmark and the
same answers everywhere.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bvverify import examples
from bvverify.errors import BvverifyError, UsageError
from bvverify.load import arrays
from bvverify.load import property_file as properties
from bvverify.load.load import load
from bvverify.model import box
from bvverify.model.network import Network
from bvverify.model.query import Box, Query
from bvverify.model.result import Result, Verdict
from bvverify.pipeline import Options, decide_all
from bvverify.run import interpreter

ANSWERS = {Verdict.VERIFIED: "unsat", Verdict.FALSIFIED: "sat", Verdict.UNKNOWN: "unknown"}
HEADER = ("onnx", "vnnlib", "answer", "stage", "nodes", "checked", "semantics")


@dataclass(frozen=True)
class Instance:
    model: Path
    property: Path
    answer: str
    result: Result

    def row(self) -> tuple[object, ...]:
        r = self.result
        checked = 0 if r.checked is None else r.checked.interval_leaves + r.checked.bound_leaves
        return f"onnx/{self.model.name}", f"vnnlib/{self.property.name}", self.answer, r.stage, r.nodes, checked, r.semantics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a folder that is empty or not there")
    bundled = [examples.path(name) for name in examples.MODELS]
    parser.add_argument("--models", type=Path, nargs="+", default=bundled, metavar="MODEL.onnx", help="default: the bundled digit networks")
    parser.add_argument("--images", default=str(examples.path(examples.IMAGES)), metavar="FILE", help="the inputs; default: bundled digits")
    parser.add_argument("--count", type=int, default=5, metavar="N", help="inputs drawn for each model (5)")
    parser.add_argument("--radii", type=int, nargs="+", default=[1, 2, 3], metavar="R", help="integer steps (1 2 3)")
    parser.add_argument("--seconds", type=int, default=100, metavar="S", help="the time limit in instances.csv (100)")
    parser.add_argument("--nodes", type=int, default=2000, metavar="N", help="where the search for the known answer ends (2000)")
    parser.add_argument("--versions", nargs="+", choices=("1.0", "2.0"), default=["1.0", "2.0"], help="of VNN-LIB")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        counts = make(arguments)
    except (BvverifyError, OSError) as error:
        sys.exit(f"make_benchmark: {error}")
    for version, answers in counts.items():
        print(f"{arguments.output / version}: {len(answers)} instances, " + ", ".join(f"{answers.count(a)} {a}" for a in ANSWERS.values()))


def make(a: argparse.Namespace) -> dict[str, list[str]]:
    """Write the benchmark; the answers of each version."""
    if a.output.exists() and any(a.output.iterdir()):
        raise UsageError(f"{a.output}: is not empty")
    if a.count < 1 or min(a.radii) < 0 or a.seconds < 1 or a.nodes < 0:
        raise UsageError("--count and --seconds are at least 1, radii and --nodes at least 0")
    if len({m.name for m in a.models}) != len(a.models):
        raise UsageError("two models have the same name")
    known: dict[str, list[str]] = {}
    for version in a.versions:
        folder = a.output / version
        for part in ("onnx", "vnnlib"):
            (folder / part).mkdir(parents=True)
        rng = np.random.default_rng(a.seed)
        made = [instance for model in a.models for instance in of_model(a, version, folder, model, rng)]
        with (folder / "instances.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows((*i.row()[:2], a.seconds) for i in made)
        with (folder / "answers.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([HEADER, *(i.row() for i in made)])
        known[version] = [i.answer for i in made]
    return known


def of_model(a: argparse.Namespace, version: str, folder: Path, model: Path, rng: np.random.Generator) -> list[Instance]:
    """The instances of one model, which is copied."""
    network = load(model)
    if network.provenance.format != "onnx":
        raise UsageError(f"{model}: benchmarks of VNN-COMP hold ONNX files")
    shutil.copy(model, folder / "onnx" / model.name)
    inputs = len(arrays.as_model_input(arrays.read(a.images), network).values)
    made = []
    for index in sorted(rng.choice(inputs, min(a.count, inputs), replace=False).tolist()):
        x = arrays.read_input(f"{a.images}::{index}", network).x
        for radius in a.radii:
            around = box.around(x, radius, network.input.tensor.qtype)
            path = folder / "vnnlib" / f"{model.stem}_{index}_{radius}.vnnlib"
            path.write_text(
                text(network, around, int(interpreter.run(network, x[None])[0].argmax()), version, f"input {index}, {radius} steps")
            )
            made.append(decided(network, model, path, a.nodes, a.seed))
    return made


def decided(network: Network, model: Path, path: Path, nodes: int, seed: int) -> Instance:
    """The property with its answer, read from the file that is shipped."""
    queries = [Query(network, b, p) for b, p in properties.read(path, network)]
    stages = frozenset({"clean input", "interval", "linear", "one by one", "root", "attack", "search"})
    result = decide_all(queries, Options(seed=seed, most_nodes=nodes, stages=stages))
    return Instance(model, path, ANSWERS[result.verdict], result)


def text(network: Network, around: Box, label: int, version: str, about: str) -> str:
    """The property: some other output is at least as large as the label's."""
    ends = [_reals(network, side) for side in (around.lo, around.hi)]
    rivals = [i for i in range(network.output_tensor.size) if i != label]
    lines = [f"; {about}: no class is as large as {label}"]
    if version == "1.0":
        x, y = (lambda i: f"X_{i}"), (lambda i: f"Y_{i}")
        lines += [f"(declare-const {x(i)} Real)" for i in range(len(ends[0]))]
        lines += [f"(declare-const {y(i)} Real)" for i in range(network.output_tensor.size)]
    else:
        shapes = network.input.file_shape, network.output.file_shape
        x, y = (lambda i: _element("X", i, shapes[0])), (lambda i: _element("Y", i, shapes[1]))
        kinds = _element_type(network, reads=True), _element_type(network, reads=False)
        lines += ["(vnnlib-version <2.0>)", "(declare-network N"]
        lines += [
            f"    (declare-{w} {n} {k} [{','.join(map(str, s))}])"
            for w, n, k, s in zip(("input", "output"), "XY", kinds, shapes, strict=True)
        ]
        lines.append(")")
    for i, (lo, hi) in enumerate(zip(*ends, strict=True)):
        lines += [f"(assert (>= {x(i)} {lo}))", f"(assert (<= {x(i)} {hi}))"]
    lines += ["(assert (or", *(f"    (and (>= {y(i)} {y(label)}))" for i in rivals), "))"]
    return "\n".join(lines) + "\n"


def _reals(network: Network, side: np.ndarray) -> list[str]:
    """What the integers of a side stand for, as decimals that are exact and without an exponent, which VNN-LIB does not know."""
    quantiser = network.input.quantiser
    values = side if quantiser is None else box.dequantise(side, quantiser)
    return [
        np.format_float_positional(v, unique=False, trim="0", precision=160) if values.dtype.kind == "f" else str(v) for v in values.ravel()
    ]


def _element(name: str, flat: int, shape: tuple[int, ...]) -> str:
    return f"{name}[{','.join(str(int(i)) for i in np.unravel_index(flat, shape))}]"


def _element_type(network: Network, *, reads: bool) -> str:
    real = network.input.quantiser if reads else network.output.dequantiser
    if real is not None:
        return "float32"
    qtype = network.input.tensor.qtype if reads else network.output_tensor.qtype
    return f"{'' if qtype.signed else 'u'}int8"


if __name__ == "__main__":
    main()
