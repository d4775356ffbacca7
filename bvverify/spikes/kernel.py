"""Checks a proof about a spiking network in exact integers; it shares the network, its run and the question with the search, no bound.

A proof is a tree in preorder. Its root is the whole question; a step closes the part that comes next or splits it:

* ``["bound"]``: in no input of the part another class can win, by intervals of spike times, which the kernel computes anew;
* ``["run"]``: every input of the part is run;
* ``["group", g, [i, …]]``: of the g-th group, the inputs i, … get a budget a of their own and the others b - a, for a = 0 … b;
* ``["input", i, t]``: input i spikes at t or before, or after t.

What is trusted: this module, ``network.run``, ``network.product`` and ``Question``. The knapsack is the textbook's, one price after
another: of the inputs of one price those of the largest gains go first. Everything is in Python's or NumPy's 64-bit integers, whose sums
the loader keeps below 2^62.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from bvverify.model.types import Int64Array
from bvverify.spikes.ask import Question
from bvverify.spikes.network import product, run

MOST_RUNS = 100_000
"""A closing run of more inputs than this is refused: a forged proof must not keep the kernel busy for ever."""

Part = tuple[list[int], list[int], list[tuple[list[int], int]]]
"""Earliest and latest times, and groups with their budgets; inputs of groups move within the budget and within their times."""


class Rejected(Exception):
    """The proof does not hold; the message names the place."""


def check(question: Question, steps: list[Any]) -> dict[str, int]:
    """How many parts were closed in which way; ``Rejected`` where the steps prove nothing."""
    clean = question.times.tolist()
    everything: Part = ([int(t) for t in question.lo], [int(t) for t in question.hi], [])
    if question.total is not None:
        everything = _grouped(everything, clean, list(range(len(clean))), question.total)
    stack, closed = [everything], {"bound": 0, "run": 0}
    for number, step in enumerate(steps):
        if not stack:
            raise Rejected(f"step {number}: nothing is left to close")
        part = stack.pop()
        try:
            parts = _apply(question, clean, part, step)
        except (TypeError, ValueError, IndexError, KeyError):
            raise Rejected(f"step {number}: {str(step)[:60]} is no step") from None
        except Rejected as why:
            raise Rejected(f"step {number}: {why}") from None
        if not parts:
            closed[step[0]] += 1
        stack.extend(reversed(parts))
    if stack:
        raise Rejected(f"{len(stack)} parts are left open")
    return closed


def _apply(question: Question, clean: list[int], part: Part, step: list[Any]) -> list[Part]:
    lo, hi, groups = part
    match step:
        case ["bound"]:
            _bound(question, clean, part)
            return []
        case ["run"]:
            _run(question, clean, part)
            return []
        case ["group", int(number), list(first)]:
            if not 0 <= number < len(groups):
                raise Rejected(f"there is no group {number}")
            members, budget = groups[number]
            if not set(first) <= set(members):
                raise Rejected("an input is none of the group's")
            rest = (lo, hi, groups[:number] + groups[number + 1 :])
            second = [i for i in members if i not in set(first)]
            return [_grouped(_grouped(rest, clean, sorted(set(first)), a), clean, second, budget - a) for a in range(budget + 1)]
        case ["input", int(index), int(at)]:
            if not 0 <= index < len(lo) or any(index in members for members, _ in groups):
                raise Rejected(f"{index} is no input outside the groups")
            if not lo[index] <= at < hi[index]:
                raise Rejected(f"input {index} has no times on both sides of {at}")
            return [(lo, [*hi[:index], at, *hi[index + 1 :]], groups), ([*lo[:index], at + 1, *lo[index + 1 :]], hi, groups)]
    raise Rejected(f"{str(step)[:60]} is no step")


def _grouped(part: Part, clean: list[int], members: list[int], budget: int) -> Part:
    """One more group; its inputs' times shrink to what the budget allows, those that cannot move leave it, and one alone needs none."""
    lo, hi, groups = list(part[0]), list(part[1]), part[2]
    for i in members:
        lo[i], hi[i] = max(lo[i], clean[i] - budget), min(hi[i], clean[i] + budget)
    free = [i for i in members if lo[i] < hi[i]]
    return (lo, hi, groups) if len(free) < 2 else (lo, hi, [*groups, (free, budget)])


def _bound(question: Question, clean: list[int], part: Part) -> None:
    """``Rejected`` unless intervals of spike times keep the label ahead."""
    network, (first, last, groups) = question.network, part
    lo, hi = np.array(first), np.array(last)
    for members, _ in groups:  # where they are when nothing moves; the budget comes on top
        lo[members] = hi[members] = np.array(clean)[members]
    before = np.arange(1, network.steps - 1)[:, None]  # potentials at these steps count what spikes earlier
    for number, weight in enumerate(network.weights):
        sure, maybe = hi < before, (lo < before) & (hi >= before)
        least = product(network, sure, weight) + product(network, maybe, np.minimum(weight, 0))
        most = product(network, sure, weight) + product(network, maybe, np.maximum(weight, 0))
        earliest = np.full(len(weight), network.steps - 1)
        latest = earliest.copy()
        for t in range(network.steps - 2, 0, -1):
            for members, budget in groups if number == 0 else []:
                most[t - 1] += _best(weight, clean, part, members, budget, t, 1)
                least[t - 1] -= _best(weight, clean, part, members, budget, t, -1)
            earliest[most[t - 1] >= network.passes] = t
            latest[least[t - 1] >= network.passes] = t
        lo, hi = earliest, latest
    for k in range(len(lo)):
        ahead = hi[question.label] < lo[k] or (hi[question.label] == lo[k] and not question.ties and question.label < k)
        if k != question.label and not ahead:
            raise Rejected(f"class {k} may spike at {lo[k]}, the label as late as {hi[question.label]}")


def _best(weight: Int64Array, clean: list[int], part: Part, members: list[int], budget: int, t: int, sign: int) -> Int64Array:
    """By how much a group's inputs can raise (sign 1) or lower (-1) the potentials before t, for each neuron: a knapsack."""
    lo, hi, now = (np.array(side)[members] for side in (part[0], part[1], clean))
    counts = now < t
    to = np.where(counts, t, t - 1)  # the nearest time on the other side
    cost, can = np.abs(to - now), (lo <= to) & (to <= hi)
    table = np.zeros((budget + 1, len(weight)), np.int64)
    for price in range(1, budget + 1):
        some = can & (cost == price)
        gains = sign * np.where(counts[some], -1, 1) * weight[:, np.array(members)[some]]
        largest = -np.sort(-gains, axis=1)[:, : budget // price]
        before = table.copy()
        for number, gain in enumerate(largest.cumsum(axis=1).T, 1):
            spent = number * price
            table[spent:] = np.maximum(table[spent:], before[: budget + 1 - spent] + gain)
    best: Int64Array = table[budget]
    return best


def _run(question: Question, clean: list[int], part: Part) -> None:
    """``Rejected`` unless no input of a part violates the question."""
    lo, hi, groups = part
    shared = {i for members, _ in groups for i in members}
    ways = [_moves(part, clean, members, budget) for members, budget in groups]
    free = [[{i: t} for t in range(lo[i], hi[i] + 1)] for i in range(len(lo)) if i not in shared and lo[i] < hi[i]]
    still = list(lo)  # where the inputs are when nothing moves
    for i in shared:
        still[i] = clean[i]
    rows = []
    for number, chosen in enumerate(itertools.product(*ways, *free)):
        if number == MOST_RUNS:
            raise Rejected(f"a run of more than {MOST_RUNS} inputs")
        times = list(still)
        for some in chosen:
            for i, t in some.items():
                times[i] = t
        rows.append(times)
    if question.violated(run(question.network, np.array(rows, np.int64))[-1]).any():
        raise Rejected("an input of the part violates the question")


def _moves(part: Part, clean: list[int], members: list[int], budget: int) -> Iterator[dict[int, int]]:
    """Every way to move a group's inputs: those that move, with their times; each is found by way of the first one that does."""
    lo, hi, _ = part
    yield {}
    for place, i in enumerate(members if budget else []):
        for t in range(max(lo[i], clean[i] - budget), min(hi[i], clean[i] + budget) + 1):
            if t != clean[i]:
                for rest in _moves(part, clean, members[place + 1 :], budget - abs(t - clean[i])):
                    yield {i: t, **rest}
