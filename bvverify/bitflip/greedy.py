"""Looks for flips that change the class: the one that leaves the least lead, then another on top of it, from the best few at each step.

Rakin et al., "Bit-Flip Attack: Crushing Neural Network with Progressive Bit Search" (2019), rank flips by gradients and then measure
the best; here all of them are measured, exactly (``single.leads``). For a box the inputs move as well: networks with the best flips go
to the attacks of the pipeline.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bvverify import pipeline
from bvverify.bitflip import single
from bvverify.bitflip.ask import Flip, Question, applied, now
from bvverify.bitflip.stored import Stored, masks
from bvverify.model.network import Network
from bvverify.model.types import Int64Array

_KEPT = 6
"""Sets of flips that are gone on with."""
_PARAMETERS = 3
"""Of these, in the parameters of one kind and operation."""
_SECONDS = 2.0
"""For the inputs of one network with flips in it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    network: Network
    flips: tuple[Flip, ...]


def greedy(
    question: Question, parts: Sequence[Stored], x: Int64Array, deadline: float | None, report: Callable[[str], None]
) -> tuple[Int64Array, tuple[Flip, ...]] | None:
    """An input and flips that change its class, or None. For one parameter, none at ``x`` means that there is none at ``x``."""
    kept = [_Made(question.network, ())]
    for _ in range(question.parameters):
        ranked: list[tuple[int, int, Flip]] = []
        for number, made in enumerate(kept):
            for lead, flip in _best(question, parts, made, x, report):
                ranked.append((lead, number, flip))
                if lead < 0:
                    return x, (*made.flips, flip)
            if _over(deadline):
                return None
        ranked.sort(key=lambda entry: entry[:2])
        grown: list[_Made] = []
        seen: set[frozenset[Flip]] = set()
        for _, number, flip in ranked:
            flips = (*kept[number].flips, flip)
            if len(grown) < _KEPT and frozenset(flips) not in seen:
                seen.add(frozenset(flips))
                grown.append(_Made(applied(kept[number].network, parts, flip), flips))
        kept = grown
    if not question.box.varying:
        return None
    for made in kept:
        if _over(deadline):
            return None
        report(f"inputs for the flips that leave the least lead, {len(kept)} sets of them")
        left = _SECONDS if deadline is None else max(min(_SECONDS, deadline - time.monotonic()), 1e-3)
        result = pipeline.attack_only(question.query(made.network), pipeline.Options(timeout=left, runtimes=False))
        if result.witness is not None:
            return result.witness.input, made.flips
    return None


def _best(question: Question, parts: Sequence[Stored], made: _Made, x: Int64Array, report: Callable[[str], None]) -> list[tuple[int, Flip]]:
    """Of each kind and operation the flips that leave the least lead, in parameters that are not hit yet."""
    found = []
    for number, part in enumerate(parts):
        leads = single.leads(made.network, x, now(made.network, part), question.bits, question.label, report)
        for flip in made.flips:
            if flip.part == number:
                leads.reshape(len(leads), -1)[:, np.ravel_multi_index(flip.place, part.values.shape)] = single.NO_LEAD
        least, chosen = leads.min(axis=0), masks(part.bits, question.bits)
        for flat in np.argsort(least, axis=None, kind="stable")[:_PARAMETERS].tolist():
            place = tuple(int(i) for i in np.unravel_index(flat, least.shape))
            if least[place] < single.NO_LEAD:
                k = int(leads.reshape(len(leads), -1)[:, flat].argmin())
                found.append((int(least[place]), Flip(number, place, int(chosen[k]))))
    return found


def _over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
