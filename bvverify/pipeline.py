"""The pipeline, as a list of stages: clean input, interval, linear, one by one, root, attack, search, solver.

Each stage is a function of the state; it decides, narrows what is open, or passes. *Falsified* goes through ``run.replay`` and nothing
else. *Verified* leaves a certificate that the kernel (``bvverify.certify``) has accepted, and where a solver closed a leaf, a proof that
a checker has (``bvverify.proofs``); a contradiction between any two of them raises ``InternalError``. Ctrl-C ends a question with what is
known of it (``Interrupted``).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bvverify._version import __version__
from bvverify.bounds import exclude, interval, linear
from bvverify.bounds.interval import Bounds
from bvverify.errors import InternalError, UsageError
from bvverify.model import box
from bvverify.model.certificate import Certificate, Forest, Tightening
from bvverify.model.network import Network
from bvverify.model.query import Property, Query
from bvverify.model.result import CheckReport, Open, Result, StageReport, Verdict, Witness
from bvverify.model.types import Int64Array
from bvverify.run import interpreter, replay
from bvverify.search import proof
from bvverify.search.memory import Memory

if TYPE_CHECKING:
    from bvverify.search.leaf import LeafSolver
    from bvverify.search.reserve import Reserve
    from bvverify.search.search import Outcome as SearchOutcome
    from bvverify.search.search import Search
    from bvverify.solve import Solver

Progress = Callable[[str, str], None]
"""Called with a stage and one short line about it, as often as there is news."""

Engine = Literal[
    "auto", "smt", "ilp:exact", "ilp:aaai24", "ilp:qvip", "ilp:exact:as-written", "ilp:aaai24:as-written", "ilp:qvip:as-written"
]
_PROOF_SECONDS = 120.0
"""For the proofs of all leaves that a solver closed."""
_FEW = 1024
"""Inputs times open conjunctions up to which each input is run, instead of being searched for."""
_PACKAGES = {"z3": ("z3-solver",), "bitwuzla": ("z3-solver", "bitwuzla"), "both": ("z3-solver", "bitwuzla")}
"""What each solver's answer rests on: the questions are written with Z3's terms."""
STAGES = ("clean input", "interval", "linear", "one by one", "root", "attack", "search", "solver")


@dataclass(frozen=True, slots=True)
class Options:
    """How to go about a question; none of it can change a verdict, only whether there is one.

    ``timeout`` is in seconds for the whole question (None: no limit), ``memory_mb`` limits each solver's process. ``stages`` restricts
    the pipeline (None: all of them); ``engine`` "smt" sends the whole question to the solver alone, ``solver`` says to which; "ilp:..."
    to an ILP reading, whose answer can falsify (its input replays) and never verify. ``dump`` is a file that receives the solver's
    question as SMT-LIB 2. ``check`` False leaves the kernel and proofs out, which the result records;
    ``trust_solver`` takes a solver's word for a leaf without a proof, and so does ``engine`` "smt" where none can be made;
    ``most_nodes`` ends the search early, and with it the question; ``threads`` is for one search (batches have one each), ``jobs`` says
    how many processes take part in one that is hard, ``cluster`` names the scheduler of a Dask cluster whose workers do.
    """

    engine: Engine = "auto"
    solver: Solver = "z3"
    timeout: float | None = None
    memory_mb: int = 4096
    seed: int = 0
    stages: frozenset[str] | None = None
    dump: Path | None = None
    runtimes: bool = True
    check: bool = True
    trust_solver: bool = False
    most_nodes: int | None = None
    threads: int = 1
    jobs: int = 1
    cluster: str | None = None


@dataclass(slots=True)
class State:
    """What is known of a question so far."""

    query: Query
    options: Options
    progress: Progress
    deadline: float | None
    open: list[int]
    memory: Memory
    bounds: Bounds | None = None
    tightenings: list[Tightening] = field(default_factory=list)
    trees: dict[int, Forest] = field(default_factory=dict)
    searching: Search | None = None
    reports: list[StageReport] = field(default_factory=list)
    reason: str = ""
    detail: str = ""
    ran_out: str = "stages"
    left: SearchOutcome | None = None
    """What the search has not closed."""
    stage: str = "none"
    """The stage at work."""

    def close_by_interval(self, bounds: Bounds) -> None:
        """Take what intervals exclude off the list of what is open."""
        left = exclude.by_interval(self.query, bounds, self.open)
        self.trees |= {i: proof.interval_leaf() for i in self.open if i not in left}
        self.open = left

    def remaining(self) -> float | None:
        """Seconds left, or None without a limit."""
        return None if self.deadline is None else self.deadline - time.monotonic()


Outcome = Witness | Literal["verified"] | None
"""What a stage comes to: a witness, a proof, or nothing."""
Stage = Callable[[State], Outcome]


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
    stages: dict[str, Stage] = {
        "clean input": _clean_input,
        "interval": _interval,
        "linear": _linear,
        "one by one": _one_by_one,
        "root": _root,
        "attack": _attack,
        "search": _search,
        "solver": _solver,
        "ilp": _ilp,
    }
    for name in names:
        left = state.remaining()
        if left is not None and left <= 0:
            state.reason = state.reason or f"the time limit of {options.timeout:g} s ran out before stage {name!r}"
            state.ran_out = "time"
            break
        if state.ran_out == "nodes":
            break  # a limit of nodes is there to end the question; a solver would know of no end
        if name == "one by one" and query.box.points(_FEW // max(len(state.open), 1)) is None:
            continue
        state.progress(name, f"{len(state.open)} of {len(query.property.violation)} violations open")
        begun, state.stage = time.monotonic(), name
        outcome = stages[name](state)
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
        _note(state, state.searching.so_far())
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


def _clean_input(state: State) -> Outcome:
    """The input that the box was built around, or its middle; and what is remembered."""
    query = state.query
    x = (query.nominal if query.nominal is not None else (query.box.lo + query.box.hi) >> 1)[None]
    if state.memory.points is not None:
        x = np.concatenate([x, state.memory.points])
    hits = np.flatnonzero(replay.violates(query, x))
    return replay.witness(query, x[hits[0]], runtimes=state.options.runtimes) if len(hits) else None


def _interval(state: State) -> Outcome:
    state.bounds = interval.propagate(state.query.network, state.query.box)
    if state.options.engine == "smt":
        return None  # the widths only; deciding is the solver's
    state.close_by_interval(state.bounds)
    return None if state.open else "verified"


def _linear(state: State) -> Outcome:
    query = state.query
    known = state.bounds or interval.propagate(query.network, query.box)
    state.bounds, state.tightenings = linear.tighten(query.network, query.box, known)
    state.close_by_interval(state.bounds)
    excluded = exclude.by_linear(query, state.bounds, state.open)
    for i, why in excluded.items():
        weight = np.zeros(len(query.property.violation[i]), np.int64)
        weight[why.row] = 1
        state.trees[i] = proof.bound_leaf(weight, why.multipliers)
    state.open = [i for i in state.open if i not in excluded]
    return None if state.open else "verified"


def _one_by_one(state: State) -> Outcome:
    """Every input of a small box: a witness among them, or a tree that splits the box into them."""
    query = state.query
    every = query.box.points(_FEW)
    assert every is not None
    hits = np.flatnonzero(replay.violates(query, every))
    if len(hits):
        return replay.witness(query, every[hits[0]], runtimes=state.options.runtimes)
    tree = proof.one_by_one(query.box)
    state.trees |= dict.fromkeys(state.open, tree)
    state.open = []
    return "verified"


def _root(state: State) -> Outcome:
    """The bounds of all layers and of the violations, on the whole box, by Lagrangian ascent."""
    # Imported here and below: torch takes longer to import than most properties take to decide.
    import torch

    from bvverify.attack.nodes import NodeAttack
    from bvverify.search.root import Root, tighten
    from bvverify.search.search import Search

    torch.set_num_threads(state.options.threads)
    query = state.query
    kept = state.memory.search(query.box)
    if kept is not None:
        root = kept.root
    else:
        root = Root.of(query, state.tightenings)
        tighten(root, state.deadline)
    state.tightenings, state.bounds = root.tightenings, root.bounds()
    state.close_by_interval(state.bounds)
    if not state.open:
        return "verified"
    attack = NodeAttack(query, state.deadline)
    state.searching = kept or Search(root, state.open, attack, _leaf_solver(state), lambda line: state.progress("search", line))
    state.memory.keep(state.searching)
    outcome = _after_search(state, state.searching.run(state.deadline, 0))
    if outcome is None and kept is None and state.memory.points is not None:
        state.searching.suggest(np.clip(state.memory.points, query.box.lo, query.box.hi))
    return outcome


def _search(state: State) -> Outcome:
    """Branch and bound from the root, until everything is closed or something runs out."""
    if state.searching is None:
        outcome = _root(state)
        if outcome is not None or state.searching is None:
            return outcome
    most = state.options.most_nodes
    reserve = None
    if state.deadline is not None and state.options.check:
        from bvverify.search.reserve import Reserve

        reserve = Reserve(state.query, state.tightenings, state.deadline)
    outcome = _after_search(state, _searched(state, state.searching, most, reserve))
    if outcome is None:
        state.ran_out = "nodes" if most is not None and state.searching.nodes >= most else "time"
        state.reason = f"the {'limit of nodes' if state.ran_out == 'nodes' else 'time limit'} ran out in the search: {state.detail}"
    return outcome


def _searched(state: State, search: Search, most: int | None, reserve: Reserve | None) -> SearchOutcome:
    """The search run here alone, or with others."""
    options = state.options
    if options.jobs == 1 and options.cluster is None:
        return search.run(state.deadline, most, reserve)
    from bvverify.search.spread import Spread
    from bvverify.search.workers import workers

    with workers(options.jobs, options.cluster) as others:
        return Spread(search, others, _leaf_solver(state)).run(state.deadline, most, reserve)


def _leaf_solver(state: State) -> LeafSolver:
    from bvverify.search.leaf import LeafSolver

    options = state.options
    return LeafSolver(state.query, options.solver, options.memory_mb, options.seed, state.deadline)


def _after_search(state: State, outcome: SearchOutcome) -> Outcome:
    if outcome.witness is not None:
        return replay.witness(state.query, outcome.witness, runtimes=state.options.runtimes)
    if outcome.trees is not None:
        state.trees |= outcome.trees
        state.detail = f"{outcome.nodes} nodes"
        state.open = []
        return "verified"
    _note(state, outcome)
    return None


def _note(state: State, outcome: SearchOutcome) -> None:
    """Keep what a search leaves open, and say it."""
    state.left = outcome
    state.detail = (
        f"{outcome.nodes} nodes, {outcome.open} open in {len(outcome.conjunctions)} of {len(state.query.property.violation)} violations, "
        f"worst bound {outcome.bound:.3g} (above 0 is closed)"
    )


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


def _attack(state: State) -> Outcome:
    from bvverify.attack import gradient, local

    query, options = state.query, state.options
    half = state.remaining()
    # At most half of what is left: the solver may still prove what the attack cannot refute.
    deadline = None if half is None else time.monotonic() + half / 2
    found = gradient.search(query, state.open, seed=options.seed, deadline=deadline)
    x = found.x
    for start in found.best[:4]:
        if x is not None or (deadline is not None and time.monotonic() > deadline):
            break
        state.progress("attack", "integer local search from the nearest inputs")
        x = local.polish(query, state.open, start, deadline=deadline)
    if x is not None:
        return replay.witness(query, x, runtimes=options.runtimes)
    if state.searching is not None:
        state.searching.suggest(found.best)
    state.reason = "no counterexample was found, which proves nothing"
    return None


def _solver(state: State) -> Outcome:
    from bvverify.solve import solve

    query, options = state.query, state.options
    known = state.bounds or interval.propagate(query.network, query.box)
    narrowed = Query(query.network, query.box, query.property.only(state.open), query.nominal)
    left = state.remaining()
    state.progress("solver", "one bit-vector query")
    answer = solve(narrowed, known, solver=options.solver, timeout=left, memory_mb=options.memory_mb, seed=options.seed, dump=options.dump)
    state.detail = answer.solver
    match answer.status:
        case "unsat":
            state.trees |= {i: proof.solver_leaf() for i in state.open}
            return "verified"
        case "sat":
            if answer.x is None:
                raise InternalError("the solver answers sat and gives no input")
            return replay.witness(query, answer.x, runtimes=options.runtimes)
        case _:
            state.reason = f"the bit-vector solver stopped: {answer.reason}"
            state.ran_out = "solver"
            return None


def _ilp(state: State) -> Outcome:
    """An ILP reading alone: a counterexample that replays, or a claim that becomes the reason of *unknown*."""
    from bvverify.ilp import claim
    from bvverify.ilp.reading import Reading

    query, options = state.query, state.options
    _, name, *as_written = options.engine.split(":")
    reading, left = Reading(name), state.remaining()
    state.progress("ilp", f"the {reading} reading")
    limits: dict[str, Any] = {"timeout": left, "memory_mb": options.memory_mb, "seed": options.seed, "threads": options.threads}
    answer = claim.ask(query, reading, presolve=not as_written, **limits)
    state.reason = answer.text
    return None if answer.x is None else replay.witness(query, answer.x, runtimes=options.runtimes)


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
