"""The work behind ``bvverify doctor``: the machine, what is installed, and small questions with known answers."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from bvverify import examples, pipeline
from bvverify._version import __version__
from bvverify.cli.output import SCHEMA_VERSION, emit
from bvverify.cli.question import ask_property, ask_robust
from bvverify.errors import BvverifyError, InternalError
from bvverify.load.load import load, load_object
from bvverify.model import saturating_pairs
from bvverify.model.result import Verdict
from bvverify.run import interpreter, oracle, oracle_litert, oracle_torch
from bvverify.run.oracles import ENGINES, Oracle, oracles

_PACKAGES = ("numpy", "torch", "z3-solver", "onnx", "h5py", "pillow", "vnnlib", "typer", "rich")
_SOLVERS = ("z3-solver", "bitwuzla", "python-sat", "dratify")
_PROGRAMS = ("cvc5", "yices-smt2", "drat-trim")
_SECONDS = 60.0


def run(*, as_json: bool) -> int:
    """Print the report and return the exit code: 0, or 6 when a check failed."""
    asked = oracles()
    report = {
        "bvverify": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"model": _cpu_model(), "cores": os.cpu_count(), "vnni": oracle.has_vnni()},
        "memory_gb": _memory(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "runtimes": dict(oracle.installed()),
        "oracles": [asdict(o) for o in asked],
        "solvers": {name: version for name in _SOLVERS if (version := _version(name))}
        | _highs()
        | {name: where for name in _PROGRAMS if (where := shutil.which(name))},
    }
    absent = [] if oracle_litert.version() else [_litert_agrees]
    checks = {name: _outcome(check) for name, check in _CHECKS.items() if check not in absent}
    failed = [name for name, outcome in checks.items() if not outcome.startswith("ok")]
    if as_json:
        emit(json.dumps({"schema_version": SCHEMA_VERSION, "command": "doctor", **report, "self_test": checks, "ok": not failed}))
    else:
        emit("\n".join(_as_lines(report, asked, checks)))
    return InternalError.exit_code if failed else 0


def _highs() -> dict[str, str]:
    try:
        return {"highs": metadata.version("highspy")}
    except metadata.PackageNotFoundError:
        return {}


def _as_lines(report: dict[str, Any], asked: tuple[Oracle, ...], checks: dict[str, str]) -> list[str]:
    cpu = report["cpu"]
    pairs = [name for name in saturating_pairs.RUNTIMES if oracle.sums_exactly(name) is False]
    sums = f"saturating pairs in {' and '.join(pairs)}, see --accumulator" if pairs else "uint8 by int8 is summed exactly"
    vnni = "whether it has VNNI is unknown" if cpu["vnni"] is None else f"{'VNNI' if cpu['vnni'] else 'no VNNI'}: {sums}"
    described = {
        "bvverify": report["bvverify"],
        "python": f"{report['python']}, {report['platform']}",
        "cpu": f"{cpu['model']}, {cpu['cores']} cores, {vnni}",
        "memory": f"{report['memory_gb']} GB",
        "packages": _pairs(report["packages"]),
        "solvers": _pairs(report["solvers"]),
    }
    lines = [f"{name:<10} {text}" for name, text in described.items()]
    lines += ["oracles", *(_about_oracle(o) for o in asked), f"  {'cmsis-nn':<12} none: it runs on microcontrollers"]
    return [*lines, "self-test", *(f"  {outcome:<8} {name}" for name, outcome in checks.items())]


def _about_oracle(o: Oracle) -> str:
    """One line: the version, the profiles whose witnesses it replays, and what is missing."""
    if o.version is None:
        return f"  {o.name:<12} absent, so that the interpreter alone replays its witnesses: {o.missing}"
    return f"  {o.name:<12} {o.version}: {', '.join(o.profiles)}" + (f"; {o.missing}" if o.missing else "")


def _pairs(versions: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    """The machine's memory, where the system says."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, AttributeError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _outcome(check: Callable[[], None]) -> str:
    """``ok``, or ``failed: why``."""
    try:
        check()
    except (BvverifyError, ImportError, OSError) as error:
        return f"failed: {' '.join(str(error).split())}"
    return "ok"


def _expect(verdict: Verdict, expected: Verdict, question: str) -> None:
    if verdict is not expected:
        raise InternalError(f"{question} came out {verdict}, not {expected}")


def _bounds_prove() -> None:
    question = ask_property(examples.path("digits_mlp_qop.onnx"), examples.path(examples.PROPERTY), None)
    result = pipeline.decide_all(question.queries, pipeline.Options(timeout=_SECONDS))
    _expect(result.verdict, Verdict.VERIFIED, "a bundled property")


def _solver_proves() -> None:
    source = f"{examples.path(examples.IMAGES)}::0"
    question = ask_robust(examples.path("digits_mlp_qdq.onnx"), source, 0, None, None, None)
    result = pipeline.decide_all(question.queries, pipeline.Options(engine="smt", timeout=_SECONDS))
    _expect(result.verdict, Verdict.VERIFIED, "a bundled property, by the solver alone,")


def _attack_refutes() -> None:
    source = f"{examples.path(examples.IMAGES)}::0"
    question = ask_robust(examples.path("digits_cnn_qop.onnx"), source, 16, None, None, None)
    result = pipeline.decide_all(question.queries, pipeline.Options(timeout=_SECONDS))
    _expect(result.verdict, Verdict.FALSIFIED, "a bundled property that does not hold")
    if "onnxruntime" in oracle.installed() and (result.witness is None or not result.witness.replayed_by):
        raise InternalError("a runtime is installed, but it did not replay the witness")


def _litert_agrees() -> None:
    for profile in oracle_litert.PROFILES:
        network = load(examples.path(examples.TFLITE), profile)
        x = np.load(examples.path(examples.IMAGES))["images"].reshape(-1, *network.input.file_shape[1:])
        got = interpreter.declared_output(network, interpreter.run(network, interpreter.quantise_input(network, x)))
        if not np.array_equal(got, oracle_litert.ask(network, x)):
            raise InternalError(f"{profile}: LiteRT and the interpreter disagree on the bundled images")


def _pytorch_agrees() -> None:
    """Reading a module compares it with the interpreter, on random inputs and at every operator."""
    import torch

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            weight = torch.arange(-60, 68, 4, dtype=torch.int8).reshape(4, 8)
            quantised = torch._make_per_tensor_quantized_tensor(weight, 0.01, 0)
            self.packed = torch.ops.quantized.linear_prepack(quantised, torch.tensor([0.5, -0.25, 0.0, 0.7]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            read = torch.quantize_per_tensor(x, 0.02, 128, torch.quint8)
            made: torch.Tensor = torch.ops.quantized.linear(read, self.packed, 0.05, 120)
            return made.dequantize()

    for engine in ENGINES:
        if engine in torch.backends.quantized.supported_engines:
            with oracle_torch.engine(engine):
                load_object(Layer(), np.zeros((1, 8)), f"pytorch-{engine}")


_CHECKS: dict[str, Callable[[], None]] = {
    "integer bounds prove a bundled property": _bounds_prove,
    "the bit-vector solver proves a bundled property": _solver_proves,
    "the attack refutes a bundled property, and the witness replays": _attack_refutes,
    "LiteRT computes what the interpreter does, in every kernel mode": _litert_agrees,
    "PyTorch computes what the interpreter does, on every engine": _pytorch_agrees,
}
