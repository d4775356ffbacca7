"""Replay: the only way to a witness.

A search may suggest any input; here it is run through the interpreter, held against the box and the property, turned into what the
model's file takes, and run in the real runtime where that is installed. A suggestion that does not replay is a bug in
bvverify and raises ``InternalError``; it never becomes ``unknown``.
"""

from __future__ import annotations

import numpy as np

from bvverify.errors import InternalError
from bvverify.model.box import dequantise, quantise
from bvverify.model.ideal import SUFFIX
from bvverify.model.network import Network
from bvverify.model.query import Query
from bvverify.model.result import Replay, Witness
from bvverify.model.types import AnyArray, Int64Array, frozen_array
from bvverify.run import interpreter


def violates(query: Query, x: Int64Array) -> AnyArray:
    """Which inputs of a batch (batch, *input shape) lie in the box and violate the property, by the interpreter; bool (batch,)."""
    y = interpreter.run(query.network, x)
    inside = ((query.box.lo <= x) & (x <= query.box.hi)).reshape(len(x), -1).all(axis=1)
    return np.asarray(query.property.violated(x.reshape(len(x), -1), y.reshape(len(y), -1)) & inside)


def witness(query: Query, x: Int64Array, *, runtimes: bool = True) -> Witness:
    """The witness that input ``x`` (the input tensor's shape) is; ``InternalError`` when it is none.

    With ``runtimes``, the real runtime that ships the model is asked too, where it is installed; one that disagrees with the
    interpreter is an ``InternalError`` that names the first output that differs.
    """
    x = np.asarray(x, np.int64).reshape(query.network.input.tensor.shape)
    if not query.box.contains(x):
        raise InternalError(f"a witness for {query.property.text!r} leaves the box: please report this")
    if not violates(query, x[None])[0]:
        raise InternalError(f"a witness for {query.property.text!r} does not replay in the interpreter: please report this")
    return reading(query.network, x, runtimes=runtimes)


def reading(network: Network, x: Int64Array, *, runtimes: bool = True) -> Witness:
    """What one network makes of input ``x`` (the input tensor's shape): by the interpreter, and with ``runtimes`` by its own runtime.

    ``InternalError`` names the first output on which a runtime that was asked disagrees.
    """
    y = interpreter.run(network, x[None])
    given = file_input(network, x)
    replayed = runtime_replays(network, given, interpreter.declared_output(network, y)) if runtimes else ()
    for replay in replayed:
        if replay.agreed is False:
            raise InternalError(
                f"{network.provenance.path}: {replay.runtime} {replay.version} disagrees with the interpreter under"
                f" {network.semantics}: {replay.detail}"
            )
    return Witness(frozen_array(x, np.int64), frozen_array(y[0], np.int64), given, replayed)


def runtime_replays(network: Network, given: AnyArray, declared: AnyArray) -> tuple[Replay, ...]:
    """What the installed runtimes make of one input as the file takes it, held against the declared output of the interpreter."""
    if network.semantics.endswith(SUFFIX):
        return ()  # nothing runs an ideal twin
    # Imported here: loading a runtime costs more than most properties take.
    match network.provenance.format:
        case "onnx":
            from bvverify.run import oracle

            return oracle.replay(network, given, declared)
        case "tflite":
            from bvverify.run import oracle_litert

            return oracle_litert.replay(network, given, declared)
        case "torch":
            from bvverify.run import oracle_torch

            return oracle_torch.replay(network, given, declared)
        case _:
            return ()


def no_runtime(network: Network) -> str:
    """Why a network's witnesses are replayed by no runtime."""
    if network.semantics.startswith("cmsis-nn"):
        return "no runtime: CMSIS-NN runs on microcontrollers"
    return "no runtime installed for this model's format"


def file_input(network: Network, x: Int64Array) -> AnyArray:
    """Integers ``x`` (the input tensor's shape) as the model's file takes them, in its declared shape.

    Where the graph begins in float: the dequantised value, nudged by single steps of float32 where it does not come back to
    the same integer. Raises ``InternalError`` when no float32 near it does.
    """
    declared, shape = network.input, network.input.file_shape
    if declared.quantiser is None:
        qtype = declared.tensor.qtype
        return frozen_array(x.reshape(shape), f"{'' if qtype.signed else 'u'}int{8 if qtype.bits <= 8 else 16}")
    values = dequantise(x, declared.quantiser)
    up, down = values.copy(), values.copy()
    for _ in range(64):
        wrong = quantise(values, declared.quantiser, declared.tensor.qtype) != x
        if not wrong.any():
            return frozen_array(values.reshape(shape), np.float32)
        up, down = np.nextafter(up, np.float32(np.inf)), np.nextafter(down, np.float32(-np.inf))
        fits = quantise(up, declared.quantiser, declared.tensor.qtype) == x
        values = np.where(wrong, np.where(fits, up, down), values)
    raise InternalError(f"{network.provenance.path}: no float input reaches the integers of a witness")
