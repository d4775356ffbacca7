"""Inputs on which two readings may differ: those that drive an accumulator into a gap between two thresholds.

Random inputs almost never hit a gap, which is one accumulator wide in thousands. Where an accumulator reads the input directly, bounded
subset sums hit it exactly (``reach.search``), from many starts, so that what follows in the network varies; deeper accumulators are driven
there by coordinate steps. These are suggestions: whoever takes one replays it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bvverify.compare.agreement import gaps, same_accumulator, staircase_of
from bvverify.compare.joint import Joint
from bvverify.compare.reach import Form, form, reads_input, search
from bvverify.model.ops import inputs
from bvverify.model.query import Query
from bvverify.model.types import Int64Array
from bvverify.run import interpreter
from bvverify.run.replay import violates

_STARTS = 48
_MOST_TARGETS, _MOST_CLIMBED = 400, 12
_CLIMBS, _NEIGHBOURS = 160, 128
_ROUNDS, _KEPT = 96, 256


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Drive the accumulator ``form`` of operation ``op`` into ``first .. last``."""

    op: int
    form: Form
    first: int
    last: int


def targets(joint: Joint, rng: np.random.Generator) -> list[Target]:
    """The gaps of all elements that can be the first to differ: the last operations first, in random order within one."""
    found = []
    for start in reversed(joint.starts):
        one, other = staircase_of(joint.a.ops[start.op]), staircase_of(joint.b.ops[start.op])
        if one is None or other is None or not same_accumulator(joint.a.ops[start.op], joint.b.ops[start.op]):
            continue
        first, last = gaps(one, other)
        units = rng.permutation(np.flatnonzero(start.elements))[:_MOST_TARGETS]
        for unit in units.tolist():
            of = form(joint.a, start.op, unit)
            channel = int(np.unravel_index(unit, start.elements.shape)[0])
            row = channel if len(first) > 1 else 0
            if of is not None:
                levels = np.flatnonzero(first[row] <= last[row])
                found += [Target(start.op, of, int(first[row, k]), int(last[row, k])) for k in rng.permutation(levels)[:8]]
    return found


def suggest(joint: Joint, query: Query, seed: int, deadline: float | None) -> tuple[Int64Array | None, int]:
    """An input that answers ``query``, which is about the joint network, or None; and the number of inputs that were tried.

    ``deadline`` is in ``time.monotonic()`` seconds.
    """
    rng = np.random.default_rng(seed)
    lo, hi = query.box.lo.ravel(), query.box.hi.ravel()
    centre = None if query.nominal is None else query.nominal.ravel()
    tried = 0

    def first_accepted(x: Int64Array) -> Int64Array | None:
        nonlocal tried
        tried += len(x)
        hit = violates(query, x) if len(x) else np.zeros(0, bool)
        return x[int(hit.argmax())] if hit.any() else None

    shape = query.box.lo.shape
    hit = first_accepted(rng.integers(query.box.lo, query.box.hi + 1, (256, *shape)))
    budget = _budget(query)
    every = targets(joint, rng)
    direct = [t for t in every if reads_input(joint.a, t.op)][:_MOST_TARGETS]
    aims = [*direct, *[t for t in every if not reads_input(joint.a, t.op)][:_MOST_CLIMBED]]
    for aim in aims:
        if hit is not None or tried > budget or (deadline is not None and time.monotonic() > deadline):
            break
        if reads_input(joint.a, aim.op):
            x = search(aim.form, lo, hi, aim.first, aim.last, rng, _STARTS, centre)
            hit = first_accepted(x.reshape(-1, *shape))
        else:
            hit = _climb(joint, aim, query, first_accepted, rng)
            tried += _CLIMBS * _NEIGHBOURS  # mostly not offered, but looked at
    return hit, tried


def _budget(query: Query) -> int:
    """How many inputs to try at most: no more than a few times as many as there are."""
    bits = float(np.log2((query.box.hi - query.box.lo + 1).astype(np.float64)).sum())
    return int(min(4 * 2 ** min(bits, 30.0), 1e6))


def wander(
    joint: Joint,
    op: int,
    x: Int64Array,
    query: Query,
    seed: int,
    deadline: float | None,
    *,
    by_class: bool,
) -> Int64Array | None:
    """From an input ``x`` on which operation ``op`` parts: change a few elements, many times, and keep what still parts there.

    With ``by_class``, half of those that are kept have their two largest outputs nearest to each other: there the class may change.
    """
    rng, lo, hi = np.random.default_rng(seed), query.box.lo, query.box.hi
    kept = x[None]
    for _ in range(min(_ROUNDS, 1 + _budget(query) // 256)):
        if deadline is not None and time.monotonic() > deadline:
            break
        batch = kept[rng.integers(0, len(kept), 256)]
        share = rng.choice([1.5 / lo.size, 0.1, 0.5, 0.9], (256, *([1] * lo.ndim)))
        batch = np.where(rng.random(batch.shape) < share, rng.integers(lo, hi + 1, batch.shape), batch)
        hit = violates(query, batch)
        if hit.any():
            return np.asarray(batch[int(hit.argmax())])
        ours, theirs = (interpreter.trace(n, batch)[op + 1].reshape(len(batch), -1) for n in (joint.a, joint.b))
        parting = batch[(ours != theirs).any(axis=1)]
        pool = np.concatenate([parting, kept])
        kept = pool[:_KEPT]
        if by_class:
            top = np.sort(interpreter.run(joint.a, pool).reshape(len(pool), -1), axis=1)[:, -2:]
            kept = np.concatenate([pool[np.argsort(top[:, -1] - top[:, 0], kind="stable")[: _KEPT // 2]], pool[: _KEPT // 2]])
    return None


def _climb(
    joint: Joint, aim: Target, query: Query, first_accepted: Callable[[Int64Array], Int64Array | None], rng: np.random.Generator
) -> Int64Array | None:
    """Steps of one or two elements that bring a deeper accumulator nearer to its gap; all that is tried on the way is offered."""
    lo, hi = query.box.lo, query.box.hi
    x = rng.integers(lo, hi + 1)
    moving = np.flatnonzero((lo < hi).ravel())
    if not len(moving):
        return None
    best = None
    for _ in range(_CLIMBS):
        near = np.repeat(x.reshape(1, -1), _NEIGHBOURS, axis=0)
        rows = np.arange(1, _NEIGHBOURS)
        for pick in range(2):
            at = moving[rng.integers(0, len(moving), len(rows))]
            far = rng.integers(lo.ravel()[at], hi.ravel()[at] + 1)
            step = np.clip(near[rows, at] + rng.choice([-1, 1], len(rows)), lo.ravel()[at], hi.ravel()[at])
            chosen = rng.random(len(rows)) < (1.0 if pick == 0 else 0.5)
            near[rows, at] = np.where(chosen, np.where(rng.random(len(rows)) < 0.5, far, step), near[rows, at])
        batch = near.reshape(-1, *lo.shape)
        before = interpreter.trace(joint.a, batch)[inputs(joint.a.ops[aim.op])[0]]
        value = aim.form.value(before.reshape(len(batch), -1))
        distance = np.maximum(np.maximum(aim.first - value, value - aim.last), 0)
        inside = batch[distance == 0]
        hit = first_accepted(inside) if len(inside) else None
        if hit is not None:
            return hit
        if len(inside):  # it parts here and the question does not see it: go on from one of these
            x = inside[int(rng.integers(len(inside)))]
            continue
        nearest = int(distance.argmin())
        if best is None or distance[nearest] <= best:
            best, x = int(distance[nearest]), batch[nearest]
    return None
