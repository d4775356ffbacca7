"""The stages of the pipeline, in its order: each a function of the state that decides, narrows what is open, or passes.

None of them is believed: a witness goes through ``run.replay``, and the trees that a stage leaves go to the kernel (``pipeline``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bvverify.bounds import exclude, interval, linear
from bvverify.errors import InternalError
from bvverify.model.query import Query
from bvverify.model.result import Witness
from bvverify.run import replay
from bvverify.search import proof
from bvverify.state import State

if TYPE_CHECKING:
    from bvverify.search.leaf import LeafSolver
    from bvverify.search.reserve import Reserve
    from bvverify.search.search import Outcome as SearchOutcome
    from bvverify.search.search import Search

Outcome = Witness | Literal["verified"] | None
"""What a stage comes to: a witness, a proof, or nothing."""
FEW = 1024
"""Inputs times open conjunctions up to which each input is run, instead of being searched for."""


def clean_input(state: State) -> Outcome:
    """The input that the box was built around, or its middle; and what is remembered."""
    query = state.query
    x = (query.nominal if query.nominal is not None else (query.box.lo + query.box.hi) >> 1)[None]
    if state.memory.points is not None:
        x = np.concatenate([x, state.memory.points])
    hits = np.flatnonzero(replay.violates(query, x))
    return replay.witness(query, x[hits[0]], runtimes=state.options.runtimes) if len(hits) else None


def intervals(state: State) -> Outcome:
    """Ranges of all tensors, in exact integers."""
    state.bounds = interval.propagate(state.query.network, state.query.box)
    if state.options.engine == "smt":
        return None  # the widths only; deciding is the solver's
    state.close_by_interval(state.bounds)
    return None if state.open else "verified"


def linear_bounds(state: State) -> Outcome:
    """Linear bounds of all layers and of the violations, in exact integers."""
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


def one_by_one(state: State) -> Outcome:
    """Every input of a small box: a witness among them, or a tree that splits the box into them."""
    query = state.query
    every = query.box.points(FEW)
    assert every is not None
    hits = np.flatnonzero(replay.violates(query, every))
    if len(hits):
        return replay.witness(query, every[hits[0]], runtimes=state.options.runtimes)
    tree = proof.one_by_one(query.box)
    state.trees |= dict.fromkeys(state.open, tree)
    state.open = []
    return "verified"


def root_bounds(state: State) -> Outcome:
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


def branch_and_bound(state: State) -> Outcome:
    """Branch and bound from the root, until everything is closed or something runs out."""
    if state.searching is None:
        outcome = root_bounds(state)
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
    note(state, outcome)
    return None


def note(state: State, outcome: SearchOutcome) -> None:
    """Keep what a search leaves open, and say it."""
    state.left = outcome
    state.detail = (
        f"{outcome.nodes} nodes, {outcome.open} open in {len(outcome.conjunctions)} of {len(state.query.property.violation)} violations, "
        f"worst bound {outcome.bound:.3g} (above 0 is closed)"
    )


def attack(state: State) -> Outcome:
    """Projected gradients, and a local search in integers from where they end."""
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


def whole_question(state: State) -> Outcome:
    """What is left as one question to the bit-vector solver."""
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


def ilp_reading(state: State) -> Outcome:
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
