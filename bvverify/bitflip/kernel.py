"""Checks a proof that no choice of flips changes the class: that its trees leave no choice out, and each leaf's certificate.

A choice hits up to M parameters, in up to M units. For each multiset of M units, in the order of ``combinations_with_replacement``, a proof
has one tree in preorder over M **slots**, each of which holds all flips of its unit, and none (``node.slots_of``). A node's ``steps`` are

* ``["leaf", k]``: certificate k proves the query of these slots (``node.query_of``);
* ``["split", s, i]``: slot s holds its first i flips, then the others;
* ``["apply", s]``: slot s holds one flip, which is made in the network; a slot less is left, and no other slot may hit that parameter;
* ``["none"]``: a slot holds nothing (more), so that there is no choice.

What is trusted: this module, ``node``, ``flips``, ``disturbed``, ``ask``, ``stored``; and what ``certify`` trusts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

from bvverify.bitflip.ask import Question, applied
from bvverify.bitflip.flips import Flips, units
from bvverify.bitflip.node import Unclear, query_of, ranges_of, slots_of
from bvverify.certify import kernel
from bvverify.model.certificate import Certificate
from bvverify.model.network import Network
from bvverify.model.query import Query
from bvverify.model.result import CheckReport


class Rejected(Exception):
    """The proof does not hold; the message names the place."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked: the choices of units, the leaves, and what the kernel says of all their certificates together."""

    choices: int
    leaves: int
    certificates: CheckReport


def check(
    question: Question,
    steps: Sequence[Any],
    certificates: Sequence[Certificate],
    check_leaf: Callable[[Certificate, Query], CheckReport] = kernel.check,
) -> Report:
    """What was checked; ``Rejected`` where the steps and certificates prove nothing. ``check_leaf`` checks one certificate."""
    parts = question.parts()
    known = ranges_of(question.network, question.box)
    flips = dict(zip(units(parts), slots_of(question, parts, units(parts), known), strict=True))
    choices = list(combinations_with_replacement(units(parts), question.parameters))
    todo: list[tuple[Network, list[Flips]]] = [(question.network, [flips[unit] for unit in choice]) for choice in reversed(choices)]
    reports: list[CheckReport] = []
    for number, step in enumerate(steps):
        if not todo:
            raise Rejected(f"step {number}: nothing is left to show")
        network, slots = todo.pop()
        try:
            match step:
                case ["leaf", int(k)] if 0 <= k < len(certificates):
                    reports.append(check_leaf(certificates[k], query_of(question, network, parts, slots)))
                case ["split", int(s), int(i)] if 0 <= s < len(slots) and 0 < i < len(slots[s]):
                    first, second = (_with(slots, s, slots[s].at(rows)) for rows in (slice(i), slice(i, None)))
                    todo += [(network, second), (network, first)]
                case ["apply", int(s)] if 0 <= s < len(slots) and len(slots[s]) == 1:
                    todo.append(applying(network, slots, s, parts))
                case ["none"] if any(len(slot) == 0 for slot in slots):
                    pass
                case _:
                    raise Rejected(f"step {number}: {str(step)[:60]} is no step here")
        except (kernel.Rejected, Unclear, ValueError) as why:
            raise Rejected(f"step {number}: {why}") from None
    if todo:
        raise Rejected(f"{len(todo)} parts of the proof are missing")
    return Report(len(choices), len(reports), CheckReport.total(reports))


def applying(network: Network, slots: Sequence[Flips], s: int, parts: Sequence[Any]) -> tuple[Network, list[Flips]]:
    """The network with the one flip of slot ``s``, and the slots that are left; ``ValueError`` where a requantisation overflows."""
    flip, left = slots[s].flip(0, parts), [slot for n, slot in enumerate(slots) if n != s]
    if flip is None:
        return network, left
    return applied(network, parts, flip), [slot.without(flip, parts) for slot in left]


def _with(slots: Sequence[Flips], s: int, slot: Flips) -> list[Flips]:
    return [slot if n == s else other for n, other in enumerate(slots)]
