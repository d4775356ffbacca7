"""The pipeline, as a list of stages: clean input, interval, linear, one by one, root, attack, search, solver.

The stages themselves are in ``stages``, what they know of a question in ``state``. *Falsified* goes through ``run.replay`` and nothing
else. *Verified* leaves a certificate that the kernel (``bvverify.certify``) has accepted, and where a solver closed a leaf, a proof that
a checker has (``bvverify.proofs``); a contradiction between any two of them raises ``InternalError``. Ctrl-C ends a question with what is
known of it (``Interrupted``).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata

import numpy as np

from bvverify import stages
from bvverify._version import __version__
from bvverify.errors import InternalError, UsageError
from bvverify.model import box
from bvverify.model.certificate import Certificate
from bvverify.model.network import Network
from bvverify.model.query import Property, Query
from bvverify.model.result import CheckReport, Open, Result, StageReport, Verdict, Witness
from bvverify.model.types import Int64Array
from bvverify.run import interpreter, replay
from bvverify.search import proof
from bvverify.search.memory import Memory
from bvverify.state import Engine, Options, Progress, State

__all__ = [
    "Engine",
    "Interrupted",
    "Options",
    "Progress",
    "attack_only",
    "decide",
    "decide_all",
    "robustness_query",
    "suggested",
]

_PROOF_SECONDS = 120.0
"""For the proofs of all leaves that a solver closed."""
_PACKAGES = {"z3": ("z3-solver",), "bitwuzla": ("z3-solver", "bitwuzla"), "both": ("z3-solver", "bitwuzla")}
"""What each solver's answer rests on: the questions are written with Z3's terms."""
_STAGES: dict[str, Callable[[State], stages.Outcome]] = {
    "clean input": stages.clean_input,
    "interval": stages.intervals,
    "linear": stages.linear_bounds,
    "one by one": stages.one_by_one,
    "root": stages.root_bounds,
    "attack": stages.attack,
    "search": stages.branch_and_bound,
    "solver": stages.whole_question,
    "ilp": stages.ilp_reading,
}
STAGES = tuple(name for name in _STAGES if name != "ilp")
"""Of the engine "auto", in turn."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of a question, or a signal handled like it; ``result`` is *unknown*, with what was known by then."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.reason)
        self.result = result


def decide(query: Query, options: Options | None = None, progress: Progress | None = None, memory: Memory | None = None) -> Result:
    """Answer one question. Raises ``InternalError`` when bvverify contradicts itself, ``Interrupted`` on Ctrl-C, and nothing else.

    ``memory`` holds what earlier questions left, about the same network and property; this one adds to it.
    """
    options = options or Options()
    names: tuple[str, ...] = {"auto": STAGES, "smt": ("interval", "solver")}.get(options.engine, ("ilp",))
    return _run(query, options, progress, [n for n in names if options.stages is None or n in options.stages], memory)


def attack_only(query: Query, options: Options | None = None, progress: Progress | None = None) -> Result:
    """Search for a counterexample and prove nothing: falsified or unknown."""
    return _run(query, options or Options(), progress, ["clean input", "attack"])


def decide_all(queries: Sequence[Query], options: Options | None = None, progress: Progress | None = None) -> Result:
    """Answer a disjunction of questions (several boxes): falsified if one is, verified if all are. The limit is for all together."""
    options = options or Options()
    if not queries:
        raise UsageError("the property has no input to speak about: every box in it is empty")
    started = time.monotonic()
    results: list[Result] = []
    for query in queries:
        left = None if options.timeout is None else max(options.timeout - (time.monotonic() - started), 1e-3)
        try:
            result = decide(query, replace(options, timeout=left), progress)
        except Interrupted as stop:
            raise Interrupted(_together([*results, stop.result], started)) from stop
        results.append(result)
        if result.verdict is Verdict.FALSIFIED:
            break
    return _together(results, started)


def _together(results: Sequence[Result], started: float) -> Result:
    """The answer to a disjunction from those to its parts."""
    worst = min(results, key=lambda r: r.verdict)
    stages = tuple(report for result in results for report in result.stages)
    checks = [r.checked for r in results]
    return replace(
        worst,
        seconds=time.monotonic() - started,
        stages=stages,
        certificates=tuple(r.certificates[0] for r in results if r.certificates),
        checked=None if None in checks else CheckReport.total([c for c in checks if c is not None]),
        nodes=sum(r.nodes for r in results),
    )


def suggested(query: Query, x: Int64Array, options: Options | None = None) -> Result:
    """Falsified, by an input that somebody else found; it has to be a witness (``replay.violates``), else ``InternalError``."""
    options, started = options or Options(), time.monotonic()
    witness = replay.witness(query, x, runtimes=options.runtimes)
    state = State(query, options, lambda _stage, _line: None, None, list(range(len(query.property.violation))), Memory())
    seconds = time.monotonic() - started
    state.reports.append(StageReport("claimed witness", seconds, Verdict.FALSIFIED, "an input that was suggested"))
    reason = "the claimed witness violates the property; " + _replayed_by(witness)
    return _result(state, Verdict.FALSIFIED, "claimed witness", reason, started, witness)


def robustness_query(network: Network, x: Int64Array, radius: int, label: int | None = None) -> Query:
    """The question whether the class of ``x`` (integers, the input tensor's shape) stays ``label`` within ``radius`` of every element.

    Without a label, the network's own prediction for ``x``. ``UsageError`` for a radius or label that makes no sense.
    """
    qtype, outputs = network.input.tensor.qtype, network.output_tensor.size
    if radius < 0:
        raise UsageError(f"the radius is {radius}; it counts integer steps and cannot be negative")
    if radius > qtype.hi - qtype.lo:
        raise UsageError(f"the radius is {radius}, but {qtype} has only {qtype.hi - qtype.lo} steps from end to end")
    predicted = int(interpreter.run(network, x[None]).reshape(-1).argmax())
    label = predicted if label is None else label
    if not 0 <= label < outputs:
        raise UsageError(f"the label is {label}, but the network has outputs 0 to {outputs - 1}")
    return Query(network, box.around(x, radius, qtype), Property.robustness(label, outputs), x)


def _run(query: Query, options: Options, progress: Progress | None, names: Sequence[str], memory: Memory | None = None) -> Result:
    started = time.monotonic()
    deadline = None if options.timeout is None else started + options.timeout
    conjunctions = list(range(len(query.property.violation)))
    state = State(query, options, progress or (lambda _stage, _line: None), deadline, conjunctions, memory or Memory())
    try:
        return _through(state, names, started)
    except KeyboardInterrupt as stop:
        raise Interrupted(_interrupted(state, started)) from stop


def _through(state: State, names: Sequence[str], started: float) -> Result:
    """The stages in turn, until one decides."""
    query, options = state.query, state.options
    for name in names:
        left = state.remaining()
        if left is not None and left <= 0:
            state.reason = state.reason or f"the time limit of {options.timeout:g} s ran out before stage {name!r}"
            state.ran_out = "time"
            break
        if state.ran_out == "nodes":
            break  # a limit of nodes is there to end the question; a solver would know of no end
        if name == "one by one" and query.box.points(stages.FEW // max(len(state.open), 1)) is None:
            continue
        state.progress(name, f"{len(state.open)} of {len(query.property.violation)} violations open")
        begun, state.stage = time.monotonic(), name
        outcome = _STAGES[name](state)
        verdict = None if outcome is None else Verdict.VERIFIED if outcome == "verified" else Verdict.FALSIFIED
        detail = state.detail or f"{len(state.open)} of {len(query.property.violation)} violations left open"
        state.detail = ""
        state.reports.append(StageReport(name, time.monotonic() - begun, verdict, detail))
        if isinstance(outcome, Witness):
            _cross_check(state, outcome)
            reason = "an input of the box violates the property; " + _replayed_by(outcome)
            return _result(state, Verdict.FALSIFIED, name, reason, started, outcome)
        if outcome == "verified":
            made = proof.certificate(query, state.tightenings, [state.trees[i] for i in range(len(query.property.violation))])
            checked = _checked(state, made) if options.check else None
            if checked is not None and not checked.complete and not options.trust_solver:
                made, checked = _proved(state, made, checked)
                if not checked.complete and options.engine != "smt":
                    return _result(state, Verdict.UNKNOWN, name, state.reason, started)
            return _result(state, Verdict.VERIFIED, name, _PROVED_BY[name], started, certificate=made, checked=checked)
    reason = state.reason or "no stage decided"
    return _result(state, Verdict.UNKNOWN, state.reports[-1].stage if state.reports else "none", reason, started)


def _interrupted(state: State, started: float) -> Result:
    """*Unknown*, with the bound that a search had reached."""
    state.ran_out = "interrupt"
    state.reason = f"interrupted in stage {state.stage!r}"
    if state.searching is not None:
        stages.note(state, state.searching.so_far())
        state.reason += f": {state.detail}"
    return _result(state, Verdict.UNKNOWN, state.stage, state.reason, started)


def _replayed_by(witness: Witness) -> str:
    return "replayed by " + ", ".join(["the interpreter", *(f"{r.runtime} {r.version}" for r in witness.replayed_by if r.agreed)])


_PROVED_BY = {
    "interval": "exact integer intervals exclude every violation",
    "linear": "exact integer linear bounds exclude every violation",
    "one by one": "none of the box's few inputs violates the property",
    "root": "Lagrangian bounds on the whole box exclude every violation",
    "search": "branch and bound excludes every violation",
    "solver": "the bit-vector solver answers unsat",
}


def _checked(state: State, made: Certificate) -> CheckReport:
    """The kernel's word on a certificate; a rejection is a bug in bvverify."""
    from bvverify.certify import kernel

    state.progress("check", "the kernel checks the certificate")
    begun = time.monotonic()
    try:
        report = kernel.check(made, state.query)
    except kernel.Rejected as rejected:
        raise InternalError(f"the kernel rejects our own certificate: {rejected}; please report this") from None
    detail = f"{report.claims} claims, {report.interval_leaves + report.bound_leaves} leaves checked, {report.solver_leaves} not"
    state.reports.append(StageReport("check", time.monotonic() - begun, None, detail))
    return report


def _proved(state: State, made: Certificate, report: CheckReport) -> tuple[Certificate, CheckReport]:
    """Proofs of the leaves that a solver closed; where one is lacking, ``state`` says so."""
    from bvverify.proofs import leaves

    state.progress("proofs", f"{report.solver_leaves} leaves that a solver closed")
    begun = time.monotonic()
    deadline = min(begun + _PROOF_SECONDS, state.deadline or np.inf)
    made, found = leaves.prove(made, state.query, deadline, state.options.memory_mb)
    state.reports.append(StageReport("proofs", time.monotonic() - begun, None, str(found)))
    if found.left:
        state.ran_out, state.left = "proof", None
        state.open = sorted({conjunction for _, conjunction, _ in found.left})
        state.reason = f"{found}; --trust-solver takes the solver's word"
    return made, found.added_to(report)


def _cross_check(state: State, witness: Witness) -> None:
    """A witness that leaves the bounds, or violates what the bounds excluded, shows that one of the readings is wrong."""
    query = state.query
    if state.bounds is not None and not state.bounds.contains(interpreter.trace(query.network, witness.input[None])):
        raise InternalError("a replayed witness leaves the integer bounds: please report this")
    left = Query(query.network, query.box, query.property.only(state.open))
    if not replay.violates(left, witness.input[None])[0]:
        raise InternalError("a replayed witness violates what the bounds had excluded: please report this")


def _result(
    state: State,
    verdict: Verdict,
    stage: str,
    reason: str,
    started: float,
    witness: Witness | None = None,
    certificate: Certificate | None = None,
    checked: CheckReport | None = None,
) -> Result:
    query = state.query
    return Result(
        verdict,
        stage,
        reason,
        query.network.semantics,
        time.monotonic() - started,
        tuple(state.reports),
        state.options.seed,
        query.network.provenance.sha256,
        _digest(query),
        query.property.text,
        witness,
        {"bvverify": __version__} | {name: metadata.version(name) for name in ("numpy", "torch", *_PACKAGES[state.options.solver])},
        () if certificate is None else (certificate,),
        checked,
        state.options.trust_solver,
        0 if state.searching is None else state.searching.nodes,
        _open(state) if verdict is Verdict.UNKNOWN else None,
    )


def _open(state: State) -> Open:
    total, left = len(state.query.property.violation), state.left
    if left is None:
        return Open(len(state.open), total, state.ran_out)
    # Without an open node there is no worst one.
    return Open(len(left.conjunctions), total, state.ran_out, left.open, float(left.bound) if np.isfinite(left.bound) else None)


def _digest(query: Query) -> str:
    """The SHA-256 of what is asked: the property's file where it came from one, and the box."""
    digest = hashlib.sha256((query.property.sha256 or query.property.text).encode())
    for side in (query.box.lo, query.box.hi):
        digest.update(np.ascontiguousarray(side, "<i8").tobytes())
    return digest.hexdigest()
