"""Every gate is its truth table: for constants, literals, negations, and arguments that are the same."""

import itertools

import pytest
from pysat.solvers import Solver

from bvverify.proofs import gates as g
from bvverify.proofs.gates import FALSE, TRUE, Gates

GATES = {
    "both": (2, lambda a, b: a and b),
    "either": (2, lambda a, b: a or b),
    "differ": (2, lambda a, b: a != b),
    "choose": (3, lambda c, a, b: a if c else b),
    "add": (3, lambda a, b, c: ((a + b + c) % 2 == 1, a + b + c > 1)),
}


def forced(gates, solver, inputs, out):
    """The value of a literal, which the inputs must leave no choice of."""
    possible = [value for value in (True, False) if solver.solve(assumptions=[*inputs, out if value else -out])]
    assert len(possible) == 1
    return possible[0]


@pytest.mark.parametrize("name", GATES)
def test_a_gate_is_its_truth_table(name):
    count, meaning = GATES[name]
    for arguments in itertools.product((TRUE, FALSE, 2, -2, 3, -3, 4), repeat=count):
        made = Gates()
        for _ in range(3):
            made.variable()
        out = getattr(made, name)(*arguments)
        again = getattr(made, name)(*arguments)
        with Solver("g4", bootstrap_with=made.lists()) as solver:
            for values in itertools.product((True, False), repeat=3):
                inputs = [v if value else -v for v, value in zip((2, 3, 4), values, strict=True)]
                given = [(abs(a) == 1 or inputs[abs(a) - 2] > 0) == (a > 0) for a in arguments]
                for outs in (out, again):
                    outs = outs if isinstance(outs, tuple) else (outs,)
                    got = tuple(forced(made, solver, inputs, o) for o in outs)
                    expected = meaning(*given)
                    assert got == (expected if isinstance(expected, tuple) else (expected,)), arguments


def test_the_same_calls_make_the_same_clauses():
    def make(swapped):
        made = Gates()
        a, b = made.variable(), made.variable()
        made.require(made.both(a, -b) if swapped else made.both(-a, b))
        return made

    assert make(True).sha256() == make(True).sha256() != make(False).sha256()
    assert make(True).dimacs().startswith(f"p cnf {make(True).variables} {make(True).count}\n1 0\n")


def test_too_many_clauses_are_refused(monkeypatch):
    monkeypatch.setattr(g, "MOST_CLAUSES", 5)
    made = Gates()
    made.both(made.variable(), made.variable())
    with pytest.raises(g.TooLarge):
        made.both(made.variable(), made.variable())
