"""Deciding whether two readings of one model, or two models, can differ on a box.

The stages, in order: agreement, bounds, suggestions, gates, the whole pipeline.

*Equal* is shown by induction over the operations (``agreement``), or by ``pipeline.decide`` on the joint network, with a certificate that
the kernel has accepted. *Differs* comes with an input on which the exact interpreter gives two answers, and which the runtimes that are
installed have confirmed, each for its own reading.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from fractions import Fraction

from bvverify import pipeline
from bvverify.compare import asked, gates, suggest
from bvverify.compare.answer import Answer
from bvverify.compare.asked import EXACTLY, differing_classes, differing_outputs
from bvverify.compare.joint import Joint, join, rejoin
from bvverify.compare.parting import Parting, part
from bvverify.errors import InternalError
from bvverify.model.certificate import Certificate
from bvverify.model.network import Network
from bvverify.model.query import Box, Property, Query
from bvverify.model.result import CheckReport, Result, StageReport, Verdict, Witness
from bvverify.model.types import Int64Array
from bvverify.run import interpreter, replay

_GATE_SECONDS = 20.0
_SUGGEST_SECONDS = 15.0
_QUICK = frozenset({"clean input", "interval", "linear"})
_PARTS = "an input of the box parts them"
_MEETS = {Verdict.VERIFIED: "never meet", Verdict.FALSIFIED: "can meet", Verdict.UNKNOWN: "may or may not meet"}
_ANSWERS = {Verdict.VERIFIED: Answer.EQUAL, Verdict.FALSIFIED: Answer.DIFFERS, Verdict.UNKNOWN: Answer.UNKNOWN}


@dataclass(frozen=True, slots=True, eq=False)
class Begin:
    """An operation at which a difference can begin, and at how many of its ``elements``."""

    name: str
    candidates: int
    elements: int


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The answer for one box. ``witnesses`` are the same input replayed under A and under B; ``parting`` is where they part."""

    answer: Answer
    stage: str
    reason: str
    seconds: float
    asked: str
    begins: tuple[Begin, ...]
    stages: tuple[StageReport, ...]
    witnesses: tuple[Witness, Witness] | None = None
    parting: Parting | None = None
    certificates: tuple[Certificate, ...] = ()
    checked: CheckReport | None = None


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of a comparison; ``made`` is *unknown*, with what was known by then."""

    def __init__(self, made: Comparison) -> None:
        super().__init__(made.reason)
        self.made = made


def compare(
    a: Network,
    b: Network,
    box: Box,
    *,
    by_class: bool = False,
    delta: Fraction = EXACTLY,
    nominal: Int64Array | None = None,
    options: pipeline.Options | None = None,
    progress: pipeline.Progress | None = None,
) -> Comparison:
    """Decide whether A and B can differ on ``box``: at an output, or with ``by_class`` in the class (first index of the largest output).

    Outputs differ where they stand for real numbers more than ``delta`` apart. ``box`` is of the input that the two have in common
    (``align``), ``nominal`` the input that it was built around, if any. ``UnsupportedError`` where the two cannot be held against
    each other, ``Interrupted`` on Ctrl-C.
    """
    options = options or pipeline.Options()
    started = time.monotonic()
    joint = join(a, b, box)
    question = differing_classes(joint) if by_class else differing_outputs(joint, delta)
    begins = tuple(Begin(joint.a.tensors[s.op + 1].name, int(s.elements.sum()), int(s.elements.size)) for s in joint.starts)
    deadline = None if options.timeout is None else started + options.timeout
    work = _Work(joint, question, box, nominal, by_class, options, progress or (lambda _stage, _line: None), deadline)
    detail = f"a difference can begin at {sum(x.candidates for x in begins)} elements"
    work.reports.append(StageReport("agreement", time.monotonic() - started, None, detail))
    stages = {"agreement": _agreement, "bounds": _bounds, "suggestions": _suggestions, "gates": _gates, "search": _pipeline}
    name = ""
    try:
        end = next(end for name, stage in stages.items() if (end := stage(work)) is not None)
    except KeyboardInterrupt as stop:
        reason = str(stop) or f"interrupted in stage {name!r}"
        seconds = time.monotonic() - started
        raise Interrupted(Comparison(Answer.UNKNOWN, name, reason, seconds, question.text, begins, tuple(work.reports))) from stop
    checks = [r.checked for r in work.results if r.verdict is Verdict.VERIFIED]
    return Comparison(
        end.answer,
        end.stage,
        end.reason,
        time.monotonic() - started,
        question.text,
        begins,
        tuple(work.reports),
        None if end.x is None else both(joint.a, joint.b, end.x, by_class=by_class, delta=delta, runtimes=options.runtimes),
        None if end.x is None else part(joint.a, joint.b, end.x),
        end.certificates,
        None if None in checks or not checks or end.answer is not Answer.EQUAL else CheckReport.total([c for c in checks if c is not None]),
    )


@dataclass(slots=True)
class _Work:
    """What is known so far. ``results`` are those of the pipeline, on gates and on the joint network."""

    joint: Joint
    asked: Property
    box: Box
    nominal: Int64Array | None
    by_class: bool
    options: pipeline.Options
    progress: pipeline.Progress
    deadline: float | None
    agreed: frozenset[int] = frozenset()
    reports: list[StageReport] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    def query(self) -> Query:
        """The question about the joint network, which is there."""
        assert self.joint.network is not None
        return Query(self.joint.network, self.box, self.asked, self.nominal)

    @property
    def agrees(self) -> bool:
        """Whether nothing is left to ask: no operation can part the two, and their integers mean the same, or class alone is asked for."""
        return self.joint.network is None or (self.by_class and self.joint.agree)

    def limit(self, share: float, most: float | None = None) -> float | None:
        """Seconds for a part of the work: a share of what is left, and at most so many."""
        left = None if self.deadline is None else max((self.deadline - time.monotonic()) * share, 1e-3)
        return left if most is None else most if left is None else min(left, most)

    def decide(self, query: Query, limit: float | None, stages: frozenset[str] | None = None) -> Result:
        """The pipeline's result, which is kept; all its stages, or some."""
        result = pipeline.decide(query, replace(self.options, timeout=limit, runtimes=False, stages=stages), self.progress)
        self.results.append(result)
        return result


@dataclass(frozen=True, slots=True, eq=False)
class _End:
    """What a stage comes to."""

    answer: Answer
    stage: str
    reason: str
    x: Int64Array | None = None
    certificates: tuple[Certificate, ...] = ()


def _agreement(work: _Work) -> _End | None:
    if not work.agrees:
        return None
    why = "no operation's rounding can differ on an accumulator that the box allows, so that no tensor can be the first to differ"
    return _End(Answer.EQUAL, "agreement", f"{why} (induction over the operations; ranges: {work.joint.rule})")


def _bounds(work: _Work) -> _End | None:
    """What exact bounds of the joint network decide at once."""
    result = work.decide(work.query(), work.limit(0.25), _QUICK)
    work.reports += result.stages
    return None if result.verdict is Verdict.UNKNOWN else _settled(result)


def _suggestions(work: _Work) -> _End | None:
    query, begun = work.query(), time.monotonic()
    work.progress("suggestions", "accumulators are driven to where the roundings differ")
    limit = work.limit(0.25)
    x, tried = suggest.suggest(
        work.joint,
        query,
        work.options.seed,
        begun + min(limit or _SUGGEST_SECONDS, _SUGGEST_SECONDS),
    )
    work.reports.append(
        StageReport("suggestions", time.monotonic() - begun, None if x is None else Verdict.FALSIFIED, f"{tried} inputs tried")
    )
    return None if x is None else _End(Answer.DIFFERS, "suggestions", _PARTS, x)


def _gates(work: _Work) -> _End | None:
    """Each operation at which a difference can begin: shown to agree, or an input on which it parts, from which to go on."""
    joint, a, b = work.joint, work.joint.a, work.joint.b
    whole = work.query()
    for start in joint.starts:
        query = gates.question(a, b, start, work.box, joint.bounds, work.nominal)
        if query is None:
            continue
        begun = time.monotonic()
        result = work.decide(query, work.limit(0.5, _GATE_SECONDS))
        x = None
        if result.verdict is Verdict.VERIFIED:
            work.agreed |= {start.op}
        elif result.witness is not None:
            work.progress("gates", f"from an input on which {a.ops[start.op].name} parts")
            until = time.monotonic() + (work.limit(0.5, _SUGGEST_SECONDS) or _SUGGEST_SECONDS)
            x = suggest.wander(joint, start.op, result.witness.input, whole, work.options.seed, until, by_class=work.by_class)
        detail = f"{a.ops[start.op].name}: its accumulators {_MEETS[result.verdict]} a gap between the two roundings"
        work.reports.append(StageReport("gates", time.monotonic() - begun, None if x is None else Verdict.FALSIFIED, detail))
        if x is not None:
            return _End(Answer.DIFFERS, "gates", _PARTS, x)
    if not work.agreed:
        return None
    work.joint = rejoin(a, b, joint.bounds, joint.rule, work.agreed)
    if not work.agrees:
        return None
    why = "no accumulator meets a gap between the two roundings of its operation, so that no tensor can be the first to differ"
    return _End(Answer.EQUAL, "gates", f"{why} (induction over the operations; each by the pipeline)")


def _pipeline(work: _Work) -> _End:
    """``pipeline.decide`` on the joint network."""
    result = work.decide(work.query(), work.limit(1.0))
    work.reports += result.stages
    end = _settled(result)
    if end.answer is Answer.UNKNOWN and work.deadline is not None and time.monotonic() >= work.deadline:
        end = replace(end, reason=f"the time limit of {work.options.timeout:g} s ran out before anything decided")
    # With operations shown to agree by gates, the network that was decided cannot be made again from the model alone.
    return replace(end, certificates=()) if work.agreed else end


def _settled(result: Result) -> _End:
    """A result about the joint network as the end."""
    if result.witness is not None:
        return _End(Answer.DIFFERS, result.stage, _PARTS, result.witness.input)
    return _End(_ANSWERS[result.verdict], result.stage, result.reason, None, result.certificates)


def both(
    a: Network, b: Network, x: Int64Array, *, by_class: bool, delta: Fraction = EXACTLY, runtimes: bool = True
) -> tuple[Witness, Witness]:
    """Input ``x`` under both readings, by the interpreter and by each reading's own runtime; a runtime that disagrees raises.

    The two are aligned (``align``). ``InternalError`` where x is no witness (``differ``).
    """
    if not differ(a, b, x, by_class=by_class, delta=delta):
        raise InternalError(f"a witness for two {'classes' if by_class else 'outputs'} has one: please report this")
    one, other = (replay.reading(n, x, runtimes=runtimes) for n in (a, b))
    return one, other


def differ(a: Network, b: Network, x: Int64Array, *, by_class: bool, delta: Fraction = EXACTLY) -> bool:
    """Whether A and B differ on an input: in an output by more than ``delta``, or with ``by_class`` in the first index of the largest."""
    one, other = (interpreter.run(n, x[None]).ravel() for n in (a, b))
    return bool(one.argmax() != other.argmax()) if by_class else asked.differ(a, b, one, other, delta)
