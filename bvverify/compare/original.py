"""Whether an int8 network and its float original can differ on a box: in the class, or in an output by more than delta.

The original is taken over the reals (``bvverify.model.real``): float32 weights as the dyadic rationals that they are, sums and products
without rounding. It reads the real numbers that the box's integers stand for. ``approximate`` puts a network of integers in its place
that is within a proved error of it, and the two integer networks stand side by side:

* *equal*, where the approximation stays within delta less the error: shown by a certificate that the kernel has accepted;
* *differs*, where an input's exact outputs, in rationals, are further apart than delta. One that only the approximation's error
  lets through is none; then inputs are looked for that part the two by delta and the error.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from fractions import Fraction

from bvverify import pipeline
from bvverify.compare.answer import Answer
from bvverify.compare.approximate import Approximation, approximate, meaning_of_input
from bvverify.compare.joint import side_by_side
from bvverify.errors import InternalError, UnsupportedError
from bvverify.model.certificate import Certificate
from bvverify.model.network import Network
from bvverify.model.ops import Op, inputs, moved
from bvverify.model.query import Box, Linear, Property, Query
from bvverify.model.real import RealNetwork
from bvverify.model.result import CheckReport, StageReport, Verdict, Witness
from bvverify.model.types import Int64Array, Quantisation, Tensor
from bvverify.run import interpreter, real, replay

_GRAIN = 1 << 8
"""The coefficient of the approximation's output: the other one is rounded, which costs a 512th of its unit."""
_SHARE = 0.6
"""Of the time, for the first question."""


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """The answer. ``x`` parts the two, ``witness`` is A's reading of it, ``reals`` the original's exact outputs; ``error`` the largest."""

    answer: Answer
    reason: str
    stage: str
    seconds: float
    asked: str
    error: Fraction
    stages: tuple[StageReport, ...]
    witness: Witness | None = None
    reals: tuple[Fraction, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    checked: CheckReport | None = None
    nodes: int = 0


def joint(a: Network, approximation: Network) -> Network:
    """A's outputs, then the approximation's, on A's input."""
    ops: list[Op] = list(a.ops)
    tensors: list[Tensor] = list(a.tensors)
    place = {0: 0}
    for index, op in enumerate(approximation.ops):
        ops.append(moved(op, tuple(place[t] for t in inputs(op))))
        tensors.append(approximation.tensors[index + 1])
        place[index + 1] = len(ops)
    return side_by_side(a, approximation, ops, tensors, place)


def compare(
    a: Network,
    original: RealNetwork,
    box: Box,
    *,
    delta: Fraction | None,
    nominal: Int64Array | None = None,
    options: pipeline.Options | None = None,
    progress: pipeline.Progress | None = None,
) -> Compared:
    """Decide whether A and ``original`` can differ on ``box`` (A's integers) by more than ``delta``, or for None in the class."""
    options, begun = options or pipeline.Options(), time.monotonic()
    close = approximate(a, original, box)
    network, error = joint(a, close.network), max(close.error)
    stages: list[StageReport] = []
    asked = question(a, close, delta, sure=False)
    for sure in (False, True):
        left = None if options.timeout is None else max(options.timeout - (time.monotonic() - begun), 1e-3) * (1 if sure else _SHARE)
        query = Query(network, box, question(a, close, delta, sure=True) if sure else asked, nominal)
        result = pipeline.decide(query, replace(options, timeout=left, runtimes=False), progress)
        stages += result.stages
        common = (time.monotonic() - begun, asked.text, error, tuple(stages))
        if result.verdict is Verdict.VERIFIED and not sure:
            return Compared(Answer.EQUAL, result.reason, result.stage, *common, certificates=result.certificates, checked=result.checked)
        if result.witness is not None:
            x = result.witness.input
            if differ(a, original, x, delta):
                reals = tuple(real.run(original, x - meaning_of_input(a).zero_point, meaning_of_input(a).scale))
                reason = "an input of the box parts them, by the exact interpreter and by rationals"
                return Compared(Answer.DIFFERS, reason, result.stage, *common, replay.reading(a, x, runtimes=options.runtimes), reals)
            if sure:
                raise InternalError("an input that should part the network and its original does not: please report this")
    if result.verdict is Verdict.VERIFIED:
        near = float(2 * error)
        reason = f"inputs of the box come within the approximation's error, {near:.3g}, of a difference; whether one makes it is open"
    else:
        reason = result.reason
    return Compared(Answer.UNKNOWN, reason, result.stage, time.monotonic() - begun, asked.text, error, tuple(stages), nodes=result.nodes)


def differ(a: Network, original: RealNetwork, x: Int64Array, delta: Fraction | None) -> bool:
    """Whether the two differ on an input, exactly."""
    meaning = meaning_of_input(a)
    y = interpreter.run(a, x[None]).reshape(-1)
    z = real.run(original, x - meaning.zero_point, meaning.scale)
    if delta is None:
        return int(y.argmax()) != max(range(len(z)), key=lambda i: (z[i], -i))
    out = meaning_of_output(a)
    return any(abs(Fraction(out.scale) * (int(p) - out.zero_point) - q) > delta for p, q in zip(y.tolist(), z, strict=True))


def meaning_of_output(a: Network) -> Quantisation:
    """What A's output integers stand for; ``UnsupportedError`` where the file does not say."""
    meaning = a.output.dequantiser or a.output_tensor.quantisation
    if meaning is None:
        raise UnsupportedError(f"{a.provenance.path}: its outputs stand for no real numbers; ask about the class (--class)")
    return meaning


def question(a: Network, close: Approximation, delta: Fraction | None, *, sure: bool) -> Property:
    """About the joint network: violated wherever A and the original differ; with ``sure`` only where they do."""
    n, path = a.output_tensor.size, close.network.provenance.path
    if delta is None:
        text = f"the class is that of {path} over the reals"
        return Property(tuple(_classes(n, close, sure=sure)), text)
    rows = []
    meaning, qtype = meaning_of_output(a), a.output_tensor.qtype
    grain = _GRAIN / close.unit
    scale = Fraction(meaning.scale) * grain
    p = round(scale)
    rounded = abs(scale - p) * max(abs(qtype.lo), abs(qtype.hi))
    for i in range(n):
        error = close.error[i] * grain + rounded
        for sign in (1, -1):
            # sign * (scale * (y - zero) - GRAIN * z) > grain * delta, of which the error is taken, or to which it is added.
            beyond = grain * delta + sign * scale * meaning.zero_point + (error if sure else -error)
            rows.append((Linear.of(2 * n, {i: -sign * p, n + i: sign * _GRAIN}, -(math.floor(beyond) + 1)),))
    if max(p, *(abs(row.bound) for (row,) in rows)) >= 1 << 31:
        raise UnsupportedError(f"{a.provenance.path}: outputs of the scale {meaning.scale:g} against steps of {float(close.unit):g}")
    return Property(tuple(rows), f"no output is more than {delta} from that of {path} over the reals")


def _classes(n: int, close: Approximation, *, sure: bool) -> list[tuple[Linear, ...]]:
    """A's class is i and the original's j, for each i and j; of the original's outputs the error is allowed for."""

    def may_beat(j: int, k: int) -> Linear:
        slack = math.floor((close.error[j] + close.error[k]) / close.unit)
        return Linear.of(2 * n, {n + k: 1, n + j: -1}, -slack - 1 if sure else slack)

    of_a = [tuple(Linear.beats(2 * n, i, k) for k in range(n) if k != i) for i in range(n)]
    of_original = [tuple(may_beat(j, k) for k in range(n) if k != j) for j in range(n)]
    return [(*of_a[i], *of_original[j]) for i in range(n) for j in range(n) if i != j]
