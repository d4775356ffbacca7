"""The question as bit-vectors, in SMT-LIB 2: satisfiable where an allowed input violates the property.

A third reading, beside run and bounds. ``s_l_i`` is the spike time of neuron i of layer l (0: the inputs), ``v_l_i_t`` its potential at
step t, in two's complement and units of the grid. Weights of inputs that cannot move are summed beforehand; all else is as the definition
says it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bvverify.spikes.ask import Question


def smt2(question: Question) -> str:
    """The whole file, ``check-sat`` included."""
    return "\n".join([*_lines(question), "(check-sat)", "(get-model)", ""])


def _lines(question: Question) -> Iterator[str]:
    network = question.network
    time = (network.steps - 1).bit_length() or 1
    yield f"; {network.reading}; class {question.label} has to stay; total {question.total}, each {question.each}, ties {question.ties}"
    yield "(set-logic QF_BV)"
    lo, hi = question.lo.tolist(), question.hi.tolist()
    for i, (first, last) in enumerate(zip(lo, hi, strict=True)):
        yield f"(declare-const s_0_{i} (_ BitVec {time}))"
        yield f"(assert (bvule {_bv(first, time)} s_0_{i}))"
        yield f"(assert (bvule s_0_{i} {_bv(last, time)}))"
    if question.total is not None:
        yield from _budget(question, time)
    for number, weight in enumerate(network.weights, 1):
        bits = max(int(np.abs(weight).sum(axis=1).max()), network.passes).bit_length() + 1
        for j, row in enumerate(weight.tolist()):
            name = f"v_{number}_{j}"
            for t in range(1, network.steps - 1):
                yield f"(define-fun {name}_{t} () (_ BitVec {bits}) {_potential(row, number - 1, t, time, bits, lo, hi)})"
            chosen = _bv(network.steps - 1, time)
            for t in range(network.steps - 2, 0, -1):
                chosen = f"(ite (bvsge {name}_{t} {_bv(network.passes, bits)}) {_bv(t, time)} {chosen})"
            yield f"(define-fun s_{number}_{j} () (_ BitVec {time}) {chosen})"
        # Behind the inputs every time is possible.
        lo, hi = [0] * len(weight), [network.steps - 1] * len(weight)
    last = len(network.weights)
    own = f"s_{last}_{question.label}"
    ahead = [
        f"({'bvule' if question.ties or k < question.label else 'bvult'} s_{last}_{k} {own})" for k in range(len(lo)) if k != question.label
    ]
    yield f"(assert (or false {' '.join(ahead)}))"


def _budget(question: Question, time: int) -> Iterator[str]:
    """All moves together cost no more than the total."""
    total = question.total or 0
    bits = max(len(question.times) * (question.network.steps - 1), total).bit_length() + 1
    costs = []
    for i, clean in enumerate(question.times.tolist()):
        here = _bv(clean, time)
        cost = f"(ite (bvuge s_0_{i} {here}) (bvsub s_0_{i} {here}) (bvsub {here} s_0_{i}))"
        costs.append(f"((_ zero_extend {bits - time}) {cost})")
    yield f"(assert (bvule {_sum(costs, bits)} {_bv(total, bits)}))"


def _potential(row: list[int], layer: int, t: int, time: int, bits: int, lo: list[int], hi: list[int]) -> str:
    """The weights of what spikes before t."""
    sure, terms = 0, []
    for i, w in enumerate(row):
        if hi[i] < t:
            sure += w
        elif lo[i] < t and w:
            terms.append(f"(ite (bvult s_{layer}_{i} {_bv(t, time)}) {_bv(w, bits)} {_bv(0, bits)})")
    return _sum([_bv(sure, bits), *terms], bits)


def _sum(terms: list[str], bits: int) -> str:
    """Terms added up in pairs, so that parsers need not nest as deep as a sum is long."""
    while len(terms) > 1:
        terms = [f"(bvadd {' '.join(terms[i : i + 2])})" if i + 1 < len(terms) else terms[i] for i in range(0, len(terms), 2)]
    return terms[0] if terms else _bv(0, bits)


def _bv(value: int, bits: int) -> str:
    return f"(_ bv{value % (1 << bits)} {bits})"
