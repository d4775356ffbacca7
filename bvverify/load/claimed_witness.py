"""The input that somebody claims to violate a property, from the file in which a tool left it, as integers of the input tensor.

* ``[0, 3, 17, ...]`` in the cell itself, or in a ``.json`` file, alone or as the witness of one of bvverify's own results: the integers;
* ``.sol``: an integer program's solution, whose x_0, x_1, ... are the integers (``bvverify.load.solution``);
* a competition's counterexample (``bvverify.load.counterexample``): what the model's file takes, through its quantiser;
* any other file: an array, as ``--input`` takes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from bvverify.errors import InputError
from bvverify.load import arrays, counterexample, solution
from bvverify.load.packed import gunzip
from bvverify.model.box import nearest_float32
from bvverify.model.network import Network
from bvverify.model.types import Int64Array
from bvverify.run.interpreter import quantise_input

_COUNTEREXAMPLES = (".counterexample", ".txt", "")
_LIMIT = 1 << 31


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """``x`` int64 of the input tensor's shape, not yet held against type or box; ``note`` says what was done to make it integers.

    ``outputs`` are those that the file claims (as the model's file declares them), by index.
    """

    x: Int64Array
    note: str
    outputs: dict[int, Fraction]


def reported(spec: str) -> str:
    """The verdict that the file reports, as a word of ``claims.WORDS``; "sat" for an input without one."""
    path = Path(spec)
    if spec.startswith("["):
        return "sat"
    if _suffix(path) == ".sol":
        return solution.parse(path, _text(path)).word
    if _suffix(path) in _COUNTEREXAMPLES:
        return counterexample.read(path, _text(path)).word
    return "sat"


def read(spec: str, network: Network) -> Candidate:
    """The claimed input; ``InputError`` or ``UsageError`` where the file holds none of this network."""
    path, size, shape = Path(spec), network.input.tensor.size, network.input.tensor.shape
    if spec.startswith("["):
        return Candidate(_integers("the claimed witness", _json("the claimed witness", spec), size).reshape(shape), "", {})
    suffix = _suffix(path)
    if suffix == ".json":
        return Candidate(_integers(spec, _json(spec, _text(path)), size).reshape(shape), "", {})
    if suffix == ".sol":
        found = solution.parse(path, _text(path))
        if found.word != "sat":
            raise InputError(f"{path}: holds no solution")
        values, off = solution.integers(path, found, size)
        note = f"rounded to integers, from up to {float(off):.2g} away" if off else ""
        return Candidate(_integers(spec, values, size).reshape(shape), note, {})
    if suffix in _COUNTEREXAMPLES:
        return _of_competition(path, network)
    return Candidate(arrays.read_input(spec, network).x, "", {})


def _of_competition(path: Path, network: Network) -> Candidate:
    found, size = counterexample.read(path, _text(path)), network.input.tensor.size
    if not found.inputs:
        raise InputError(f"{path}: holds no counterexample (it says {found.word[:60]!r})")
    wrong = set(range(size)) ^ set(found.inputs)
    if wrong:
        verb = "gives" if min(wrong) in found.inputs else "does not give"
        raise InputError(f"{path}: {verb} X_{min(wrong)}; the input has {size} values, X_0 to X_{size - 1}")
    values = [found.inputs[i] for i in range(size)]
    if network.input.quantiser is None:
        fraction = next((i for i, v in enumerate(values) if v.denominator != 1), None)
        if fraction is not None:
            raise InputError(f"{path}: X_{fraction} is {float(values[fraction]):g}, and the model's file takes integers")
        return Candidate(_integers(str(path), [int(v) for v in values], size).reshape(network.input.tensor.shape), "", found.outputs)
    reals = np.array([nearest_float32(v) for v in values], np.float32)
    return Candidate(quantise_input(network, reals[None])[0], "through the model's quantiser", found.outputs)


def _suffix(path: Path) -> str:
    """What kind of file it is, ``.gz`` aside."""
    if "::" in path.name:
        return "array"
    suffixes = [s.lower() for s in path.suffixes]
    return "" if not suffixes else suffixes[-2] if suffixes[-1] == ".gz" and len(suffixes) > 1 else suffixes[-1]


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return (gunzip(content) if path.suffix == ".gz" else content).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text: {error}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _json(name: str, text: str) -> object:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: is no JSON: {error}") from error
    for field in ("witness", "input"):
        if isinstance(data, dict):
            data = data.get(field)
    return data


def _integers(name: str, values: object, size: int) -> Int64Array:
    if not isinstance(values, list) or not all(isinstance(v, int) and not isinstance(v, bool) and abs(v) < _LIMIT for v in values):
        raise InputError(f"{name}: is no list of integers")
    if len(values) != size:
        raise InputError(f"{name}: has {len(values)} values, the input has {size}")
    return np.array(values, np.int64)
