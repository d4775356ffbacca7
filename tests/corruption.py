"""Damaged files: for every loader a sound file, random damage to its bytes, and what may come of reading it.

Whatever the bytes, a loader gives what it reads, or one of the errors of ``bvverify.errors`` that name a wrong file or question, in one
line; never another exception, a warning, a hang, or memory without end. ``python -m corruption SUBJECT FIRST COUNT`` reads damaged files in
a process whose memory and time are limited, as ``children`` starts it.
"""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import gzip
import io
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from bvverify import examples
from bvverify.errors import InputError, UsageError

MEMORY_MB = 3072
"""Address space of a child; the libraries alone take up to one of it."""
SECONDS = 20
"""What reading one file may take at most, on a machine that has other work as well."""
HUGE = [
    b"\xff" * 4,
    b"\xff\xff\xff\x7f",
    b"\x7f\xff\xff\xff",
    b"\x00\x00\x00\x80",
    b"\xff" * 8,
    b"\xff" * 7 + b"\x7f",
    b"\xff" * 9 + b"\x01",
]
WORDS = [
    b"9" * 400,
    b"1e999",
    b"-1",
    b"1e99999999",
    b"nan",
    b"(" * 3000,
    b")",
    b"\x00",
    b"\xc3\x28",
    b'"',
    b",",
    b"\n",
    b"0" * 5000 + b"1",
    b"[1,2",
]


@dataclass(frozen=True)
class Edit:
    """One piece of damage; ``at``, ``length`` and ``value`` are any integers from 0 and are taken modulo what there is."""

    kind: int
    at: int
    length: int
    value: int


KINDS = 9
Reader = Callable[[Path], object]


def damaged(data: bytes, edits: list[Edit]) -> bytes:
    """The bytes after every edit in turn."""
    for edit in edits:
        size = max(len(data), 1)
        at = edit.at % size
        end = min(at + 1 + edit.length % 64, size)
        match edit.kind % KINDS:
            case 0:
                data = data[:at] + bytes([data[at] ^ (1 << edit.value % 8)]) + data[at + 1 :] if data else data
            case 1:
                data = data[:at] + bytes([edit.value % 256]) + data[at + 1 :]
            case 2:
                data = data[:at]
            case 3:
                data = data[:at] + data[end:]
            case 4:
                data = data[:at] + data[at:end] * (2 + edit.value % 3) + data[end:]
            case 5:
                source = edit.value % size
                data = data[:at] + data[source : source + end - at] + data[end:]
            case 6:
                word = HUGE[edit.value % len(HUGE)]
                data = data[:at] + word + data[at + len(word) :]
            case 7:
                data = data[:at] + WORDS[edit.value % len(WORDS)] + data[at:]
            case _:
                data = data[:at] + WORDS[edit.value % len(WORDS)] + data[end:]
    return data


def random_edits(rng: np.random.Generator) -> list[Edit]:
    """One to four edits."""
    return [Edit(*map(int, rng.integers(0, 1 << 31, 4))) for _ in range(rng.integers(1, 5))]


@dataclass(frozen=True)
class Subject:
    """A sound file: its name, what is in it, who reads it."""

    name: str
    content: Callable[[], bytes]
    read: Reader


def attempt(subject: Subject, data: bytes, folder: Path) -> str:
    """Read the bytes as the subject's file: "read", or the error's name; whatever else happens is raised."""
    path = folder / subject.name
    path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            subject.read(path)
        return "read"
    except (InputError, UsageError) as error:
        line = " ".join(str(error).split())
        assert line, "an error without a word"
        assert len(line) < 1600, f"an error of {len(line)} characters"
        return type(error).__name__


def children(names: list[str], first: int, count: int) -> dict[str, dict[str, int]]:
    """Outcomes of ``count`` damaged files of each subject, numbered from ``first``, in a process of its own; a failure raises."""
    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder) / "mark"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]), "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "corruption", str(mark), str(first), str(count), *names],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        if done.returncode:
            at = mark.read_text() if mark.exists() else "the start"
            raise AssertionError(f"{at}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return json.loads(done.stdout)


def main() -> None:
    """The child."""
    import resource

    mark, first, count, *names = sys.argv[1:]
    chosen = subjects()
    contents = {name: chosen[name].content() for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            attempt(chosen[name], contents[name], Path(folder))  # what is imported late is not the file's memory
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MB << 20, MEMORY_MB << 20))
        outcomes = {name: collections.Counter() for name in names}
        with Path(mark).open("w") as place:
            for name in names:
                for number in range(int(first), int(first) + int(count)):
                    os.pwrite(place.fileno(), f"{name} {number:<12}".encode(), 0)
                    faulthandler.dump_traceback_later(SECONDS, exit=True)
                    edits = random_edits(np.random.default_rng([number, len(name)]))
                    outcomes[name][attempt(chosen[name], damaged(contents[name], edits), Path(folder))] += 1
                    faulthandler.cancel_dump_traceback_later()
    sys.stdout.write(json.dumps(outcomes))


def subjects() -> dict[str, Subject]:
    """Every kind of file that bvverify reads."""
    from bvverify.load import arrays, certificate_file, claimed_witness, claims, instances, property_file

    def bundled(name: str) -> Callable[[], bytes]:
        return examples.path(name).read_bytes

    def question(path: Path) -> object:
        return property_file.read(path, _network("digits_mlp_qop.onnx" if "1" in path.name else "tiny.onnx"))

    def array(path: Path) -> object:
        return arrays.as_model_input(arrays.read(str(path) if path.suffix == ".png" else f"{path}::0"), _network("digits_mlp_qop.onnx"))

    def claimed(path: Path) -> object:
        return claimed_witness.reported(str(path)), claimed_witness.read(str(path), _network("tiny.onnx"))

    models = (*examples.MODELS, examples.BRIGHT, examples.NEAR_TIE, *examples.TINY, examples.TFLITE)
    made = [Subject(name, bundled(name), _run_model) for name in models]
    made += [
        Subject("network.h5", _h5, _run_model),
        Subject("x.npz", bundled(examples.IMAGES), array),
        Subject("x.npy", _npy, array),
        Subject("x.npy.gz", lambda: gzip.compress(_npy(), mtime=0), array),
        Subject("x.png", _png, array),
        Subject("x-idx3-ubyte", lambda: b"\0\0\x08\x03" + np.array([2, 8, 8], ">u4").tobytes() + bytes(range(128)), array),
        Subject("x.csv", lambda: "\n".join(",".join(f"{(i * j) % 16 / 16}" for j in range(64)) for i in range(3)).encode(), array),
        Subject("version1.vnnlib", bundled(examples.PROPERTY), question),
        Subject("version1.vnnlib.gz", lambda: gzip.compress(examples.path(examples.PROPERTY).read_bytes(), mtime=0), question),
        Subject("version2.vnnlib", lambda: _VERSION_2, lambda p: property_file.read(p, _network("tiny.onnx"))),
        Subject("rows.csv", lambda: _ROWS, instances.read_instances),
        Subject("instances.csv", lambda: b"onnx/a.onnx,vnnlib/p.vnnlib,100\nonnx/b.onnx,vnnlib/q.vnnlib,20.5\n", instances.read_instances),
        Subject("claims.csv", lambda: _CLAIMS, claims.read_claims),
        Subject("claim.counterexample", lambda: b"sat\n((X_0 3)\n(X_1 -1.0)\n(Y_0 7)\n(Y_1 5e0))\n", claimed),
        Subject("claim.counterexample.gz", lambda: gzip.compress(b"sat\n((X_0 3) (X_1 1))\n", mtime=0), claimed),
        Subject("claim.sol", lambda: b"# Solution for model\n# Objective value = 0\nx_0 3\nx_1 -1\n", claimed),
        Subject("claim.json", _witness, claimed),
        Subject("input.json", _witness, lambda p: arrays.as_model_input(arrays.read(str(p)), _network("tiny.onnx"))),
        Subject("proof.bvcert", _certificate, lambda p: _check(certificate_file.read(p))),
        Subject("witness.json", _witness, _replay),
        Subject("20_6_3_weights_0.npy", _spiking, _run_spiking),
        Subject("spikes.json", _spikes_proof, _check_spikes),
        Subject("proof.bvflips", _flips_proof, _check_flips),
    ]
    return {subject.name: subject for subject in made}


_VERSION_2 = b"""(vnnlib-version <2.0>)
(declare-network f
  (declare-input X int8 [1,2])
  (declare-output Y int8 [1,2]))
(assert (and (>= X[0,0] -8) (<= X[0,0] 7) (>= X[0,1] -8) (<= X[0,1] 7)))
(assert (or (<= Y[0,0] Y[0,1]) (>= Y[0,0] 3)))
"""
_CLAIMS = b"model,input,label,radius,claim,claimed_witness\na.onnx,x.npz::1,3,2,robust,\nb.onnx,x.npz::2,1,1,sat,w.sol\n"
_ROWS = b"model,input,label,radius,timeout,semantics\na.onnx,x.npz::1,3,2,10,onnxruntime\nb.onnx,x.npz::2,,1,,\n"


@cache
def _network(name: str):
    from bvverify.load.load import load

    return load(examples.path(name))


def _run_model(path: Path) -> None:
    """A network that could be read computes something, and has bounds."""
    from bvverify.load.load import load
    from bvverify.run import interpreter

    network = load(path, "fixed-point:bits=6,input_bits=8" if path.suffix == ".h5" else None)
    tensor = network.input.tensor
    if tensor.size <= 1 << 16:
        interpreter.run(network, np.full((1, *tensor.shape), tensor.qtype.lo, np.int64))


def _h5() -> bytes:
    import h5py

    buffer, rng = io.BytesIO(), np.random.default_rng(0)
    with h5py.File(buffer, "w") as file:
        file.attrs["layer_names"] = [b"dense", b"dense_1"]
        for name, shape in (("dense", (4, 3)), ("dense_1", (3, 2))):
            group = file.create_group(f"{name}/{name}")
            group.create_dataset("kernel:0", data=rng.uniform(-1, 1, shape).astype(np.float32))
            group.create_dataset("bias:0", data=rng.uniform(-1, 1, shape[1:]).astype(np.float32))
    return buffer.getvalue()


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, (np.arange(128).reshape(2, 1, 8, 8) % 17 / 16).astype(np.float32))
    return buffer.getvalue()


def _png() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray((np.arange(64).reshape(8, 8) * 3).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@cache
def _query():
    from bvverify.cli.question import ask_robust

    (query,) = ask_robust(examples.path("digits_mlp_qop.onnx"), f"{examples.path(examples.IMAGES)}::0", 1, None, None, None).queries
    return query


def _certificate() -> bytes:
    from bvverify.load.certificate_file import to_bytes
    from bvverify.pipeline import Options, decide

    result = decide(_query(), Options(stages=frozenset({"interval", "linear", "root", "search"}), runtimes=False))
    return to_bytes(result.certificates[0])


def _check(certificate: object) -> None:
    """The kernel accepts or rejects; nothing else."""
    from bvverify.certify import kernel

    try:
        kernel.check(certificate, _query())
    except kernel.Rejected as rejected:
        raise InputError(f"rejected: {rejected}") from None


def _witness() -> bytes:
    from bvverify.cli import report
    from bvverify.cli.question import ask_robust
    from bvverify.pipeline import Options, attack_only

    question = ask_robust(examples.path("tiny.onnx"), f"{examples.path(examples.TINY_ROWS)}::0", 100, None, None, None)
    result = attack_only(question.queries[0], Options(runtimes=False))
    return json.dumps(report.as_object("robust", question, result)).encode()


def _replay(path: Path) -> None:
    from bvverify.cli.claim import Claim
    from bvverify.cli.witness_file import replayed

    claim = Claim(path, "replay")
    replayed(claim, claim.network(examples.path("tiny.onnx")))


def _spiking() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(0).normal(40, 50, (3, 6, 1)))
    return buffer.getvalue()


def _run_spiking(path: Path) -> None:
    from bvverify.spikes.load import load
    from bvverify.spikes.network import run

    network = load(path)
    if network.inputs <= 1 << 16:
        run(network, np.full((1, network.inputs), 3))


@cache
def _about_spikes():
    from bvverify.cli import spikes_report

    model = examples.path("20_3_2_2_weights_0.npy")
    return spikes_report.ask(model, f"{examples.path('spikes.csv')}::0", 1, None, None, "strict", "first-index", 20, None)


def _spikes_proof() -> bytes:
    from bvverify.cli import spikes_report

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        file = Path(folder) / "proof.json"
        spikes_report.answer(_about_spikes(), 60, file, None, as_json=True)
        return file.read_bytes()


def _check_spikes(path: Path) -> None:
    from bvverify.cli import spikes_report

    with contextlib.redirect_stdout(io.StringIO()):
        if spikes_report.check_proof(_about_spikes(), path, as_json=True):
            raise InputError("rejected")


@cache
def _about_flips():
    from bvverify.bitflip.ask import Question
    from bvverify.cli.question import ask_robust

    (query,) = ask_robust(examples.path("digits_mlp_qop.onnx"), f"{examples.path(examples.IMAGES)}::1", 1, None, None, None).queries
    return Question(query.network, query.box, query.property.label, ("weight",), ("layer0_node",))


def _flips_proof() -> bytes:
    from bvverify.bitflip import proof_file
    from bvverify.bitflip.search import search

    found = search(_about_flips(), _about_flips().box.lo, 60)
    assert found.verdict == "verified"
    return proof_file.to_bytes(_about_flips(), found.steps, found.certificates)


def _check_flips(path: Path) -> None:
    from bvverify.bitflip import kernel, proof_file

    try:
        kernel.check(_about_flips(), *proof_file.read(path, _about_flips()))
    except kernel.Rejected as rejected:
        raise InputError(f"rejected: {rejected}") from None


if __name__ == "__main__":
    main()
