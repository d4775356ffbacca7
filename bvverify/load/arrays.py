"""Inputs from files: .npy, .npz, IDX, .png, .csv, a witness's .json (.gz too), each with ``::INDEX`` along its first axis.

Pixels (uint8) that are given to a network whose file takes floats are divided by 255 in float32, which is what such networks are trained
on; every other value is taken as it is. Colour pictures come out channels first.
"""

from __future__ import annotations

import io
import json
import struct
import tokenize
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.errors import InputError, UsageError
from bvverify.load.packed import check_archive, gunzip
from bvverify.model.box import clipped
from bvverify.model.network import Network
from bvverify.model.types import AnyArray, Int64Array
from bvverify.run import interpreter

KINDS = ".npy, .npz, .png, .csv, IDX (each also as .gz) and the .json of a witness"
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PREFERRED = ("images", "inputs", "input", "x")
_BROKEN = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    TypeError,
    SyntaxError,
    MemoryError,
    OverflowError,
    RuntimeError,  # encrypted archives and versions of .zip that are not known; JSON that nests too deep
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,  # NumPy reads the headers of its files as Python
    Warning,
)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Inputs as the model's file takes them (batch axis first, the file's shape), and what had to be done to the numbers for that.

    ``divided``: grey levels were divided by 255; ``reshaped``: a flat row of numbers was read as an array of several axes.
    """

    values: AnyArray
    divided: bool = False
    reshaped: bool = False

    def clipped(self, network: Network) -> int:
        """How many values lie beyond the range of the quantiser that the model's file begins with, which clips them."""
        declared = network.input
        return 0 if declared.quantiser is None else clipped(self.values, declared.quantiser, declared.tensor.qtype)

    def notes(self, network: Network) -> list[str]:
        """What a person should know of the numbers before believing an answer about them."""
        count, size = self.clipped(network), self.values.size
        shape = "x".join(map(str, network.input.file_shape[1:]))
        return [
            *(["grey levels 0 to 255, divided by 255"] if self.divided else []),
            *([f"flat numbers, read row by row as {shape}"] if self.reshaped else []),
            *([f"{count} of {size} values lie beyond the quantiser's range and were clipped"] if count else []),
        ]

    def as_object(self, network: Network) -> dict[str, Any]:
        """The same for programs."""
        return {"divided_by_255": self.divided, "reshaped": self.reshaped, "clipped": self.clipped(network)}


def read(spec: str) -> AnyArray:
    """The array of ``FILE`` or, without its first axis, its element ``FILE::INDEX``."""
    name, separator, index = spec.rpartition("::")
    if not separator:
        return _decoded(Path(spec))
    values = _decoded(Path(name))
    if not index.isascii() or not index.isdigit():
        raise UsageError(f"{spec}: an index is a number from 0, not {index!r}")
    if values.ndim == 0 or int(index) >= len(values):
        raise UsageError(
            f"{name}: has no element {index}; it holds {len(values) if values.ndim else 1} along its first axis, counted from 0"
        )
    return np.asarray(values[int(index)])


def as_model_input(values: AnyArray, network: Network) -> Batch:
    """A batch of inputs as the model's file takes them; ``UsageError`` where the shape does not fit."""
    declared = network.input
    wanted = declared.file_shape[1:]
    batch = _as_batch(values, wanted)
    if batch is None:
        raise UsageError(f"the input has the shape {values.shape}, which is neither {wanted} (one input) nor a batch of such inputs")
    one = values.shape if values.size == batch[:1].size and len(batch) == 1 else values.shape[1:]
    reshaped = sum(d != 1 for d in one) <= 1 < sum(d != 1 for d in wanted)
    if declared.quantiser is None or batch.dtype.kind == "f":
        return Batch(batch, reshaped=reshaped)
    if batch.dtype == np.uint8:
        return Batch(batch.astype(np.float32) / np.float32(255), divided=True, reshaped=reshaped)
    return Batch(batch.astype(np.float32), reshaped=reshaped)


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """One input: as the model's file takes it (a ``batch`` of one), and as integers ``x`` of the input tensor's shape."""

    batch: Batch
    x: Int64Array


def read_input(spec: str, network: Network) -> Given:
    """The one input that ``FILE`` or ``FILE::INDEX`` names."""
    read_values = read(spec)
    try:
        batch = as_model_input(read_values, network)
    except UsageError as error:
        raise InputError(f"{spec}: {error}") from error
    count = len(batch.values)
    if count != 1:
        raise UsageError(f"{spec}: holds {count} inputs; pick one with ::INDEX (0 to {count - 1})")
    try:
        return Given(batch, interpreter.quantise_input(network, batch.values)[0])
    except UsageError as error:
        raise InputError(f"{spec}: {error}") from error


def _as_batch(values: AnyArray, wanted: tuple[int, ...]) -> AnyArray | None:
    """``values`` as (batch, *wanted) where it is one input or a batch of them; sizes alone do not make an image of another shape fit."""
    size = int(np.prod(wanted))
    core = tuple(d for d in wanted if d != 1)

    def fits(shape: tuple[int, ...]) -> bool:
        mine = tuple(d for d in shape if d != 1)
        # A flat side says nothing about rows and columns, so that there is nothing to confuse.
        return int(np.prod(shape)) == size and (mine == core or len(mine) <= 1 or len(core) <= 1)

    if fits(values.shape):
        return values.reshape(1, *wanted)
    if values.ndim and fits(values.shape[1:]):
        return values.reshape(len(values), *wanted)
    return None


def _decoded(path: Path) -> AnyArray:
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        file, colon, index = str(path).rpartition(":")
        mend = f"; element {index} is {file}::{index}" if colon and index.isdigit() and Path(file).is_file() else ""
        raise InputError(f"{path}: cannot be read: {error.strerror}{mend}") from error
    if path.is_dir():
        raise InputError(f"{path}: is a directory; an input is a file: {KINDS}")
    return _decode(path, changed)


@lru_cache(maxsize=4)
def _decode(path: Path, changed: int) -> AnyArray:
    """The whole file, decoded; ``changed`` is its time of last change, so that a file that was rewritten is read again."""
    try:
        content, name = path.read_bytes(), path.name.lower()
        if name.endswith(".gz"):
            content, name = gunzip(content), name[:-3]
        with warnings.catch_warnings():
            # Pictures that are too large and tables without a number are warned of, and are no inputs.
            warnings.simplefilter("error")
            values = _by_kind(path, content, name)
    except _BROKEN as error:
        raise InputError(f"{path}: cannot be read as an array: {' '.join(str(error).split()) or type(error).__name__}") from error
    if values.dtype.kind not in "iufb":
        raise InputError(f"{path}: holds {values.dtype}, not numbers")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"{path}: holds NaN or infinite values")
    values.setflags(write=False)
    return values


def _by_kind(path: Path, content: bytes, name: str) -> AnyArray:
    if name.endswith(".npy"):
        return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
    if name.endswith(".npz"):
        return _npz(path, content)
    if name.endswith(".png"):
        return _png(content)
    if name.endswith(".csv"):
        return np.atleast_2d(np.loadtxt(io.StringIO(content.decode()), delimiter=",", ndmin=2))
    if name.endswith(".json"):
        return _witness(content)
    if content[:2] == b"\0\0" or "idx" in name:
        return _idx(content)
    raise InputError(f"{path}: is no input that bvverify reads; it reads {KINDS}")


def _npz(path: Path, content: bytes) -> AnyArray:
    check_archive(content)
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        names = list(archive.files)
        chosen = names if len(names) == 1 else [name for name in _PREFERRED if name in names][:1]
        if not chosen:
            raise InputError(f"{path}: holds the arrays {', '.join(names)}; name the one with the inputs {' or '.join(_PREFERRED)}")
        return np.asarray(archive[chosen[0]])


def _witness(content: bytes) -> AnyArray:
    """The input of a witness, as the model's file takes it, from what ``--json`` printed or ``--witness FILE.json`` saved."""
    data = json.loads(content)
    witness = data.get("witness") if isinstance(data, dict) else None
    given = witness.get("file_input") if isinstance(witness, dict) else None
    if not isinstance(given, dict):
        raise ValueError("it holds no witness.file_input, the input of a result that is falsified or differs")
    return np.array(given["data"]).astype(np.dtype(given["dtype"])).reshape(given["shape"])


def _png(content: bytes) -> AnyArray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            if picture.mode not in ("L", "RGB"):
                raise ValueError(f"a picture of mode {picture.mode}; save it as 8-bit grey or RGB without transparency or palette")
            values = np.array(picture)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    return values if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))


def _idx(content: bytes) -> AnyArray:
    """The MNIST database's format: two zero bytes, the type, the number of axes, their lengths (big endian), the values."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise ValueError("the magic number of an IDX file is missing")
    axes = content[3]
    shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
    dtype = np.dtype(_IDX_TYPES[content[2]])
    body = content[4 + 4 * axes :]
    if len(body) != int(np.prod(shape, dtype=object)) * dtype.itemsize:
        raise ValueError(f"the shape {shape} does not fit its {len(body)} bytes")
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))
