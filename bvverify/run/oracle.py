"""The real runtime as an oracle: ONNX Runtime, where it is installed, on the very file that a network was read from.

The session options are those that the network's profile stands for, one thread, the CPU provider. Whether a CPU has VNNI matters: without
it, uint8 by int8 products are summed in pairs with int16 saturation, and the runtime is another function (SSE and AVX2 ``pmaddubsw``).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.errors import InputError
from bvverify.model import saturating_pairs
from bvverify.model.network import Network
from bvverify.model.result import Replay
from bvverify.model.types import AnyArray

FLOAT_OPERATORS = frozenset(
    {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "Add", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu"}
)
"""Operators that have an integer twin: one of them in the graph that runs means that it was not fused."""


def installed() -> dict[str, str]:
    """The installed runtimes and their versions."""
    found = {}
    for name, package in (("onnxruntime", "onnxruntime"), ("litert", "ai-edge-litert")):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(package)
    return found


def has_vnni() -> bool | None:
    """Whether this CPU multiplies uint8 by int8 without saturation (AVX-VNNI, AVX512-VNNI, or ARM); None where that is not known."""
    return _has("avx_vnni", "avx512_vnni", "asimd")


def sums_exactly(semantics: str) -> bool | None:
    """Whether the runtime of a profile sums exactly on this CPU; None where that is not known."""
    if not saturating_pairs.possible(semantics):
        return True
    return has_vnni() if saturating_pairs.exact_with(semantics) == "VNNI" else _has("avx512_vnni", "asimd")


def _has(*features: str) -> bool | None:
    info = Path("/proc/cpuinfo")
    return bool(set(features) & set(info.read_text().split())) if info.exists() else None


def not_asked(network: Network) -> str:
    """Why a runtime on this CPU is no oracle for the network: it sums its pairs in the other way. Empty where it is one."""
    exact, saturating = sums_exactly(network.semantics), saturating_pairs.assumed(network.semantics)
    if exact is None or exact != saturating or saturating_pairs.never_matter(network):
        return ""
    return f"this CPU has {'' if exact else 'no '}{saturating_pairs.exact_with(network.semantics)}"


def ask(network: Network, given: AnyArray) -> AnyArray:
    """The declared outputs of ONNX Runtime for a batch ``given`` (batch, *the file's shape), one input at a time."""
    session, name = _session(network.provenance.path, network.semantics, network.provenance.sha256)
    shape = network.input.file_shape
    return np.concatenate([np.asarray(session.run(None, {name: x.reshape(shape)})[0]) for x in given])


def operators_that_run(path: Path | str, semantics: str, folder: Path) -> Sequence[str]:
    """The operators of the graph that ONNX Runtime executes after its optimiser; ``folder`` receives the optimised model."""
    import onnx

    optimised = folder / "optimised.onnx"
    _make_session(str(path), semantics, optimised)
    return [node.op_type for node in onnx.load(str(optimised)).graph.node]


def replay(network: Network, given: AnyArray, declared: AnyArray) -> tuple[Replay, ...]:
    """What ONNX Runtime makes of one input (the file's shape, batch axis included), held against ``declared`` (1, ...)."""
    versions = installed()
    if "onnxruntime" not in versions:
        return ()
    why = not_asked(network)
    if why:
        return (Replay("onnxruntime", versions["onnxruntime"], None, f"not asked: {why}"),)
    answer = ask(network, given[None] if given.ndim < len(network.input.file_shape) else given.reshape(1, *network.input.file_shape[1:]))
    return (held_against("onnxruntime", versions["onnxruntime"], answer, declared),)


def held_against(runtime: str, version: str, answer: AnyArray, declared: AnyArray) -> Replay:
    """A runtime's outputs against the interpreter's; the detail names the first that differs, and what matters of the CPU."""
    vnni = {True: "a CPU with VNNI", False: "a CPU without VNNI", None: "an unknown CPU"}[has_vnni()]
    expected = declared.reshape(answer.shape) if declared.size == answer.size else declared
    if expected.shape == answer.shape and np.array_equal(expected, answer):
        return Replay(runtime, version, True, f"{answer.size} outputs equal, on {vnni}")
    if expected.shape != answer.shape:
        return Replay(runtime, version, False, f"outputs of shape {answer.shape}, not {expected.shape}")
    first = int((expected.ravel() != answer.ravel()).argmax())
    detail = f"output {first} is {answer.ravel()[first]!s}, not {expected.ravel()[first]!s}, on {vnni}"
    return Replay(runtime, version, False, detail)


@lru_cache(maxsize=4)
def _session(path: str, semantics: str, _sha256: str) -> tuple[Any, str]:
    """Kept for the file as it was read: one that was written anew is another."""
    session = _make_session(path, semantics, None)
    return session, session.get_inputs()[0].name


def _make_session(path: str, semantics: str, optimised: Path | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if "qdqisint8allowed=1" in semantics:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    # ONNX Runtime's exceptions have no common base but RuntimeError and its pybind classes derive from Exception itself.
    except Exception as error:
        raise InputError(f"{path}: ONNX Runtime cannot load it: {' '.join(str(error).split())}") from error
