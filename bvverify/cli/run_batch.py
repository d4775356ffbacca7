"""The work behind ``bvverify run``: inputs in, outputs out, in slices that bound the memory."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from bvverify.cli.output import SCHEMA_VERSION, check_writable, emit, write
from bvverify.errors import InputError, UsageError
from bvverify.load import arrays
from bvverify.load.load import load
from bvverify.model.network import Network
from bvverify.model.types import AnyArray, Int64Array
from bvverify.run import interpreter

_SLICE = 256
"""Inputs at a time: a convolution unfolds its windows, which takes many times the memory of its input."""


def run(model: Path, source: str, output: Path | None, semantics: str | None, *, integers: bool, as_json: bool) -> int:
    """Print one input's outputs, or write those of a batch; returns the exit code."""
    check_writable(output, ".npy")
    network = load(model, semantics)
    batch = arrays.as_model_input(arrays.read(source), network)
    values = batch.values
    if output is None and len(values) != 1:
        raise UsageError(f"{source}: holds {len(values)} inputs; pick one with ::INDEX, or write all outputs with --output OUT.npy")
    y = evaluate(network, values, source)
    declared = _integers(network, y) if integers else interpreter.declared_output(network, y)
    if output is not None:
        if network.output.stripped is not None:
            # The file's own outputs, which only its runtime knows.
            from bvverify.run import oracle_litert

            declared = oracle_litert.finish(network, declared)
        buffer = io.BytesIO()
        np.save(buffer, declared)
        write(output, buffer.getvalue())
    if as_json:
        emit(json.dumps(_as_object(network, y, declared, output) | {"input": batch.as_object(network)}))
    elif output is not None:
        by = "" if network.output.stripped is None else f", the final {network.output.stripped} by LiteRT itself"
        emit(f"wrote {output}: {declared.dtype} {'x'.join(map(str, declared.shape))}, semantics {network.semantics}{by}")
    else:
        emit("\n".join(_as_lines(network, y[0], declared[0], batch.notes(network))))
    return 0


def evaluate(network: Network, values: AnyArray, source: str) -> Int64Array:
    """The integer outputs (batch, *output shape) for inputs as the model's file takes them; ``InputError`` names the file."""
    try:
        x = interpreter.quantise_input(network, values)
    except UsageError as error:
        raise InputError(f"{source}: {error}") from error
    if not len(x):
        raise InputError(f"{source}: holds no input at all")
    return np.concatenate([interpreter.run(network, x[i : i + _SLICE]) for i in range(0, len(x), _SLICE)])


def _integers(network: Network, y: Int64Array) -> AnyArray:
    """The output integers in the type they have, in the file's shape."""
    qtype = network.output_tensor.qtype
    dtype = f"{'' if qtype.signed else 'u'}int{8 if qtype.bits <= 8 else 16}"
    return y.reshape(len(y), *network.output.file_shape[1:]).astype(dtype)


def _as_lines(network: Network, y: Int64Array, declared: AnyArray, notes: list[str]) -> list[str]:
    lines = [f"class {int(y.argmax())}", f"  {'integers':<10} {' '.join(map(str, y.ravel().tolist()))} ({network.output_tensor.qtype})"]
    if declared.dtype.kind == "f":
        lines.append(f"  {'reals':<10} {' '.join(str(v) for v in declared.ravel())}")
    lines.append(f"  {'semantics':<10} {network.semantics}")
    if network.output.stripped is not None:
        lines.append(f"  {'outputs of':<10} what the final {network.output.stripped} reads")
    return lines + [f"  {'input':<10} {note}" for note in notes]


def _as_object(network: Network, y: Int64Array, declared: AnyArray, output: Path | None) -> dict[str, object]:
    report: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "command": "run",
        "model": {"path": network.provenance.path, "format": network.provenance.format, "sha256": network.provenance.sha256},
        "semantics": network.semantics,
        "classes": [int(row.argmax()) for row in y],
    }
    if output is not None:
        return report | {"output": str(output), "dtype": str(declared.dtype), "shape": list(declared.shape)}
    return report | {"integers": [int(v) for v in y.ravel()], "outputs": declared.ravel().tolist(), "dtype": str(declared.dtype)}
