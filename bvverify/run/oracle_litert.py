"""LiteRT as an oracle: on the very file that a network was read from, in the kernel mode that its profile names, on one thread.

The three modes are three functions: reference kernels, the built-in (ruy) ones without delegates, and the default with its XNNPACK
delegate. CMSIS-NN runs on microcontrollers only; there is no runtime to ask here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.errors import InputError
from bvverify.model.network import Network
from bvverify.model.result import Replay
from bvverify.model.types import AnyArray
from bvverify.run.oracle import held_against

_RESOLVERS = {
    "tflite-reference": "BUILTIN_REF",
    "tflite-optimised": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "tflite-xnnpack": "AUTO",
}
PROFILES = tuple(_RESOLVERS)
"""The profiles that LiteRT has a mode for."""


def version() -> str | None:
    """The installed version of LiteRT; None where it is absent."""
    try:
        return metadata.version("ai-edge-litert")
    except metadata.PackageNotFoundError:
        return None


def runs(semantics: str) -> bool:
    """Whether LiteRT has a mode for the profile."""
    return semantics in _RESOLVERS


def interpreter(content: bytes, semantics: str, what: str) -> Any:
    """LiteRT's interpreter of a model's bytes in the mode of ``semantics``; ``InputError`` names ``what`` where it refuses them."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = getattr(OpResolverType, _RESOLVERS[semantics])
    try:
        with _quiet():
            made = Interpreter(model_content=content, experimental_op_resolver_type=resolver, num_threads=1)
            made.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{what}: LiteRT cannot load it: {' '.join(str(error).split())}") from error
    return made


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The process without its stderr: past Python, LiteRT announces its delegate there; what goes wrong it raises as well."""
    try:
        kept = os.dup(2)
    except OSError:  # a process without a stderr has nothing to keep quiet
        yield
        return
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def invoke(made: Any, given: AnyArray) -> AnyArray:
    """The outputs for a batch ``given`` (batch, ...), one input at a time: (batch, *the file's output shape without its batch axis)."""
    entry, end = made.get_input_details()[0], made.get_output_details()[0]
    rows = []
    for x in given:
        made.set_tensor(entry["index"], x.reshape(entry["shape"]).astype(entry["dtype"]))
        made.invoke()
        rows.append(made.get_tensor(end["index"]).copy())
    return np.concatenate(rows) if rows[0].ndim else np.stack(rows)


def ask(network: Network, given: AnyArray) -> AnyArray:
    """The declared outputs of LiteRT for a batch ``given`` (batch, *the file's shape)."""
    made = network.provenance
    return invoke(_of_file(made.path, network.semantics, network.output.stripped is not None, made.sha256), given)


def replay(network: Network, given: AnyArray, declared: AnyArray) -> tuple[Replay, ...]:
    """What LiteRT makes of one input (the file's shape, batch axis included), held against ``declared``; empty where it cannot be asked."""
    installed = version()
    if installed is None or not runs(network.semantics):
        return ()
    mode = network.semantics.removeprefix("tflite-")
    return (held_against(f"litert ({mode})", installed, ask(network, given.reshape(1, *network.input.file_shape[1:])), declared),)


@lru_cache(maxsize=4)
def _of_file(path: str, semantics: str, stripped: bool, _sha256: str) -> Any:
    """Kept for the file as it was read: one that was written anew is another."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return interpreter(_part(content, tail=False) if stripped else content, semantics, path)


def finish(network: Network, logits: AnyArray) -> AnyArray:
    """What the operators that were left off (SOFTMAX, then perhaps DEQUANTIZE) make of the network's outputs, by LiteRT itself.

    ``InputError`` where LiteRT is absent or has no mode for the profile.
    """
    path, semantics = network.provenance.path, network.semantics
    if version() is None or not runs(semantics):
        why = f"{semantics} has no runtime here" if version() else "LiteRT is absent: pip install 'bvverify[litert]'"
        raise InputError(f"{path}: bvverify computes what the final {network.output.stripped} reads; the rest is LiteRT's, and {why}")
    return invoke(interpreter(_part(Path(path).read_bytes(), tail=True), semantics, path), logits)


def _part(content: bytes, *, tail: bool) -> bytes:
    """The model up to what its final SOFTMAX reads, or from there on (``tail``)."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph, end = model.subgraphs[0], model.subgraphs[0].outputs[0]
    last: list[Any] = []
    while not last or _code(model, last[0]) != schema.BuiltinOperator.SOFTMAX:
        last.insert(0, next(o for o in graph.operators if end in list(o.outputs)))
        end = last[0].inputs[0]
    if tail:
        graph.operators, graph.inputs = last, [end]
    else:
        graph.operators, graph.outputs = [o for o in graph.operators if not any(o is p for p in last)], [end]
    # A signature would name a tensor that nothing makes any more.
    model.signatureDefs = None
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _code(model: Any, operator: Any) -> int:
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)
