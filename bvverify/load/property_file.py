"""VNN-LIB property files to integer questions, exactly.

A file speaks of reals; the network, of integers. What cannot be carried over exactly is refused, with the line:

* inputs: a real reaches the model's quantiser as the nearest float32, and the quantiser is non-decreasing, so that an interval of reals
  is an interval of integers; where the file takes integers, bounds are rounded inwards to the integers that satisfy them;
* one output against a constant: dequantisation ``fl((q - z) * s)`` is increasing, so that the largest integer that satisfies it is found by
  trying all of them;
* differences of outputs against 0: increasing dequantisation keeps the order;
* any other row over outputs: only where ``(q - z) * s`` is exact in float32 for every integer of the type.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from bvverify.errors import InputError, UnsupportedError
from bvverify.load import vnnlib1, vnnlib2
from bvverify.load.formula import LIMIT, Conjunction, Constraint, Formula, TooLarge, Variable, normal_form
from bvverify.load.packed import gunzip
from bvverify.load.sexpr import SyntaxProblem
from bvverify.model import box as boxes
from bvverify.model.network import Network
from bvverify.model.query import Box, Linear, Property
from bvverify.model.types import Float32Array, Int64Array, Quantisation, frozen_array

_COEFFICIENT = (1 << 31) - 1
End = tuple[Fraction, bool]
"""An end of an interval of reals, and whether it is strict."""


def read(path: Path, network: Network) -> tuple[tuple[Box, Property], ...]:
    """One box and property for each box of the file; none where every box is empty. A violation in any of them is one of the whole."""
    content = _content(path)
    reader = _Mapping(path, network)
    cases: dict[tuple[bytes, bytes], tuple[Box, list[tuple[Linear, ...]]]] = {}
    for conjunction in _conjunctions(path, content, network):
        where = reader.box([c for c in conjunction if _is_bound(c)])
        rows = reader.rows([c for c in conjunction if not _is_bound(c)])
        if where is not None and rows is not None:
            cases.setdefault((where.lo.tobytes(), where.hi.tobytes()), (where, []))[1].append(rows)
    digest = hashlib.sha256(content).hexdigest()
    return tuple(
        (b, Property(tuple(rows), f"no input of the box meets the violation of {path.name}", None, digest)) for b, rows in cases.values()
    )


@dataclass(frozen=True, slots=True)
class RealBox:
    """The reals that a file allows for each input, both ends inclusive."""

    lo: tuple[Fraction, ...]
    hi: tuple[Fraction, ...]


def real_box(path: Path, network: Network, x: Int64Array, y: Int64Array) -> RealBox:
    """The file's own box around a witness: integer input ``x`` and output ``y`` (the tensors' shapes). ``InputError`` where it is none."""
    reader = _Mapping(path, network)
    flat = x.reshape(1, -1), y.reshape(1, -1)
    for conjunction in _conjunctions(path, _content(path), network):
        bounds = [c for c in conjunction if _is_bound(c)]
        where, rows = reader.box(bounds), reader.rows([c for c in conjunction if not _is_bound(c)])
        if where is not None and rows is not None and where.contains(x) and all(row.value(*flat)[0] <= row.bound for row in rows):
            lo, hi = reader.ends(bounds)
            return RealBox(tuple(v for v, _ in lo), tuple(v for v, _ in hi))
    raise InputError(f"{path}: no box of it holds the witness")


def text_of(path: Path) -> str:
    """What a property file says; ``InputError`` where it is no text."""
    try:
        return _content(path).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text: {error}") from error


def _conjunctions(path: Path, content: bytes, network: Network) -> list[Conjunction]:
    """The file's disjunctive normal form over reals."""
    try:
        text = content.decode()
        declared, formula = _parse(path, text, network)
        _check_declared(declared, network)
        return normal_form(formula)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text: {error}") from error
    except SyntaxProblem as error:
        raise InputError(f"{path}, {error}") from error
    except TooLarge:
        raise UnsupportedError(f"{path}: its disjunctive normal form has more than {LIMIT} conjunctions; split the file") from None
    # Python reads no number of more than a few thousand digits.
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gunzip(content) if path.suffix == ".gz" else content
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _parse(path: Path, text: str, network: Network) -> tuple[set[Variable], Formula]:
    if vnnlib2.is_version_2(text):
        return vnnlib2.read(text, network)
    return vnnlib1.read(text)


def _check_declared(declared: set[Variable], network: Network) -> None:
    for kind, size in (("X", network.input.tensor.size), ("Y", network.output_tensor.size)):
        mine = {i for k, i in declared if k == kind}
        if missing := set(range(size)) - mine:
            raise SyntaxProblem(f"line 1: {kind}_{min(missing)} is not declared; the network has {kind}_0 to {kind}_{size - 1}")
        if beyond := mine - set(range(size)):
            raise SyntaxProblem(f"line 1: {kind}_{min(beyond)} is declared, but the network has {kind}_0 to {kind}_{size - 1}")


def _is_bound(c: Constraint) -> bool:
    """A constraint of one input alone bounds the box."""
    return len(c.terms) == 1 and next(iter(c.terms))[0] == "X"


class _Mapping:
    """From reals to the integers of one network."""

    def __init__(self, path: Path, network: Network) -> None:
        self.path, self.network = path, network
        qtype = network.output_tensor.qtype
        self.outputs = np.arange(qtype.lo, qtype.hi + 1)
        self.dequantiser = network.output.dequantiser
        self.reals: Float32Array | None = None if self.dequantiser is None else boxes.dequantise(self.outputs, self.dequantiser)
        self.exact = self.dequantiser is None or _is_exact(self.outputs, self.reals, self.dequantiser)

    def ends(self, bounds: Sequence[Constraint]) -> tuple[list[End], list[End]]:
        """The reals that bounds on single inputs leave to each of them: the lower and the upper ends."""
        size = self.network.input.tensor.size
        lo: list[End | None] = [None] * size
        hi: list[End | None] = [None] * size
        for c in bounds:
            ((_, index), coefficient), value = next(iter(c.terms.items())), c.bound
            end = (value / coefficient, c.strict)
            if coefficient > 0:
                hi[index] = _tighter(hi[index], end, min)
            else:
                lo[index] = _tighter(lo[index], end, max)
        for i, (a, b) in enumerate(zip(lo, hi, strict=True)):
            if a is None or b is None:
                raise InputError(f"{self.path}: X_{i} has no {'lower' if a is None else 'upper'} bound; bound every input on both sides")
        return [a for a in lo if a is not None], [b for b in hi if b is not None]

    def box(self, bounds: Sequence[Constraint]) -> Box | None:
        """The integers that bounds on single inputs leave; None where there are none."""
        declared = self.network.input
        size, qtype = declared.tensor.size, declared.tensor.qtype
        low, high = np.empty(size, np.int64), np.empty(size, np.int64)
        for i, (a, b) in enumerate(zip(*self.ends(bounds), strict=True)):
            if a[0] > b[0] or (a[0] == b[0] and (a[1] or b[1])):
                return None
            if declared.quantiser is None:
                low[i] = max(math.floor(a[0]) + 1 if a[1] else math.ceil(a[0]), qtype.lo)
                high[i] = min(math.ceil(b[0]) - 1 if b[1] else math.floor(b[0]), qtype.hi)
            else:
                if a[1] or b[1]:
                    raise UnsupportedError(f"{self.path}: X_{i} has a strict bound (< or >); say <= or >= of the value that is meant")
                ends = [boxes.quantise(np.atleast_1d(boxes.nearest_float32(v)), declared.quantiser, qtype)[0] for v in (a[0], b[0])]
                low[i], high[i] = ends
        if (low > high).any():
            return None
        shape = declared.tensor.shape
        return Box.of(low.reshape(shape), high.reshape(shape))

    def rows(self, constraints: Sequence[Constraint]) -> tuple[Linear, ...] | None:
        """Integer rows; None where one of them never holds."""
        rows = []
        for c in constraints:
            row = self.row(c)
            if row is False:
                return None
            if row is not True:
                rows.append(row)
        return tuple(rows)

    def row(self, c: Constraint) -> Linear | bool:
        """The constraint over integers, or whether it always or never holds."""
        if not c.terms:
            return c.bound > 0 or (c.bound == 0 and not c.strict)
        over_inputs = any(kind == "X" for kind, _ in c.terms)
        if over_inputs and self.network.input.quantiser is not None:
            raise self.refused(c, "it mixes inputs, which are reals before a quantiser")
        if self.exact:
            return self.scaled(c)
        if over_inputs:
            raise self.refused(c, "it mixes integer inputs with outputs that float32 rounds")
        if len(c.terms) == 1:
            return self.single(c)
        (first, p), (second, q) = list(c.terms.items())[:2]
        if len(c.terms) == 2 and p == -q and c.bound == 0 and self.reals is not None and (np.diff(self.reals) > 0).all():
            positive, negative = (first[1], second[1]) if p > 0 else (second[1], first[1])
            return self.linear({positive: 1, negative: -1}, -1 if c.strict else 0)
        raise self.refused(c, "float32 rounds these outputs; single outputs and differences against 0 are exact")

    def single(self, c: Constraint) -> Linear | bool:
        """One output against a constant: by trying every integer."""
        ((_, index), coefficient) = next(iter(c.terms.items()))
        assert self.reals is not None
        bound = c.bound / coefficient
        values = [Fraction(float(v)) for v in self.reals]
        if coefficient > 0:
            met = [v < bound if c.strict else v <= bound for v in values]
            return False if not any(met) else True if all(met) else self.linear({index: 1}, int(self.outputs[sum(met) - 1]))
        met = [v > bound if c.strict else v >= bound for v in values]
        return False if not any(met) else True if all(met) else self.linear({index: -1}, -int(self.outputs[met.index(True)]))

    def scaled(self, c: Constraint) -> Linear:
        """A row over exact reals: substitute ``(q - z) * s``, clear the denominators."""
        scale, zero = (Fraction(1), 0) if self.dequantiser is None else (Fraction(self.dequantiser.scale), self.dequantiser.zero_point)
        terms = {v: k * scale if v[0] == "Y" else k for v, k in c.terms.items()}
        bound = c.bound + sum((k * zero for v, k in terms.items() if v[0] == "Y"), Fraction(0))
        common = math.lcm(*(k.denominator for k in terms.values()))
        whole = {v: int(k * common) for v, k in terms.items()}
        divisor = math.gcd(*whole.values())
        limit = bound * common / divisor
        top = math.ceil(limit) - 1 if c.strict else math.floor(limit)
        y = {v[1]: k // divisor for v, k in whole.items() if v[0] == "Y"}
        x = {v[1]: k // divisor for v, k in whole.items() if v[0] == "X"}
        if max(abs(k) for k in (*y.values(), *x.values())) > _COEFFICIENT:
            raise self.refused(c, "as integers its coefficients pass 2^31")
        if abs(top) > _COEFFICIENT:
            raise self.refused(c, "as an integer its bound passes 2^31")
        return self.linear(y, top, x)

    def linear(self, y: dict[int, int], bound: int, x: dict[int, int] | None = None) -> Linear:
        """A row from sparse coefficients."""
        outputs = _dense(y, self.network.output_tensor.size)
        return Linear(outputs, bound, _dense(x, self.network.input.tensor.size) if x else None)

    def refused(self, c: Constraint, why: str) -> UnsupportedError:
        """The constraint has no exact integer form."""
        return UnsupportedError(f"{self.path}, line {c.line}: this constraint has no exact integer form: {why}")


def _dense(sparse: dict[int, int], size: int) -> Int64Array:
    values = np.zeros(size, np.int64)
    for index, value in sparse.items():
        values[index] = value
    return frozen_array(values, np.int64)


def _is_exact(q: Int64Array, reals: Float32Array | None, quantisation: Quantisation) -> bool:
    assert reals is not None
    scale = Fraction(quantisation.scale)
    return all(Fraction(float(r)) == (int(v) - quantisation.zero_point) * scale for v, r in zip(q, reals, strict=True))


def _tighter(old: End | None, new: End, choose: Callable[[Fraction, Fraction], Fraction]) -> End:
    if old is None:
        return new
    if old[0] == new[0]:
        return old[0], old[1] or new[1]
    return old if choose(old[0], new[0]) == old[0] else new
