"""The ILP readings against enumeration, and their text against HiGHS's own readers."""

import highspy
import numpy as np
import pytest
import random_networks

from bvverify.bounds import interval
from bvverify.errors import UnsupportedError
from bvverify.ilp import differ, exact, highs, program, text
from bvverify.ilp.model import Neuron, Value
from bvverify.ilp.reading import Reading
from bvverify.model import requant as rq
from bvverify.model.box import around
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Dense
from bvverify.model.query import Box, Linear, Property, Query
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, UINT8, QType, Tensor
from bvverify.run import replay

SHAPES = (["dense"], ["conv"], ["max"], ["clamp"], ["table"], ["mean"], ["concat"], ["transpose"], ["shift add"], ["dense", "dense"])


def _built(query, reading):
    try:
        return program.build(query, reading)
    except UnsupportedError:
        return None


def _first(kinds, reading):
    """The first random question of these operations whose accumulators do not wrap."""
    built = ((q, _built(q, reading)) for q, _ in (random_networks.question(seed, kinds) for seed in range(100)))
    return next((q, made) for q, made in built if made is not None)


def _input(made, values):
    return np.array([round(values[v.column]) for v in made.tensors[0].ravel()]).reshape(made.query.box.lo.shape)


@pytest.mark.parametrize("kinds", SHAPES, ids="-".join)
def test_exact_agrees_with_enumeration(kinds):
    """Feasible exactly when an input of the box violates the property, and what HiGHS finds replays."""
    asked = 0
    for seed in range(12):
        query, violated = random_networks.question(seed, kinds)
        made = _built(query, Reading.EXACT)
        if made is None:
            continue
        solution = highs.solve_here(made.model)
        assert solution.status == ("feasible" if violated else "infeasible"), seed
        if violated:
            assert replay.violates(query, _input(made, solution.values)[None])[0], seed
        asked += 1
    assert asked >= 2


@pytest.mark.parametrize("reading", [Reading.AAAI24, Reading.QVIP])
def test_a_wrong_answer_of_a_reading_over_the_reals_is_explained(reading):
    """Whatever it answers: right, or a witness that its own rows exclude, or a solution that is none; both with a reason."""
    wrong, seen = 0, set()
    for seed in range(120):
        query, violated = random_networks.question(seed)
        made = _built(query, reading)
        if made is None:
            continue
        solution = highs.solve_here(made.model)
        x = random_networks.points(query.box)
        witnesses = x[replay.violates(query, x)]
        if solution.status == "infeasible" and violated:
            difference = differ.excluded(made, witnesses[0])
        elif solution.status == "feasible" and not replay.violates(query, _input(made, solution.values)[None])[0]:
            difference = differ.invented(made, solution.values)
        else:
            continue
        wrong += 1
        seen.add(difference.blame)
        assert difference.blame is not differ.Blame.SOLVER, seed
    assert wrong >= 2
    assert differ.Blame.TIE in seen


def test_every_input_meets_every_row_of_the_exact_reading():
    """In exact rationals, for every input of the box: all rows but the violation's, and that one where it violates the property."""
    asked = 0
    for seed in range(60):
        query, _ = random_networks.question(seed, most=40)
        made = _built(query, Reading.EXACT)
        if made is None:
            continue
        asked += 1
        for x in random_networks.points(query.box):
            broken = {v.row for v in differ._violations(made, differ._filled(made, x))}
            assert broken == (set() if replay.violates(query, x[None])[0] else {"violated"}), seed
    assert asked >= 20


@pytest.mark.parametrize("reading", Reading)
@pytest.mark.parametrize("writer", [text.to_lp, text.to_mps])
def test_text_reads_back_in_highs(tmp_path, reading, writer):
    """The file holds the same program: columns, bounds, integers, every coefficient to the last bit."""
    query, made = _first(["dense", "max", "clamp", "table"], reading)
    file = tmp_path / f"question.{'lp' if writer is text.to_lp else 'mps'}"
    file.write_text(writer(made.model, text.about(query, reading)))
    solver = highspy.Highs.__mro__[1]()
    solver.setOptionValue("output_flag", False)
    assert solver.readModel(str(file)) == highspy.HighsStatus.kOk
    lp = solver.getLp()
    names = list(lp.col_names_)
    assert sorted(names) == sorted(c.name for c in made.model.columns)
    for column in made.model.columns:
        k = names.index(column.name)
        assert (lp.col_lower_[k], lp.col_upper_[k]) == (column.lo, column.hi)
        assert (lp.integrality_[k] == highspy.HighsVarType.kInteger) == column.integer
    assert _entries(solver, names) == {(row.name, made.model.columns[k].name): float(c) for row in made.model.rows for k, c in row.terms}
    solver.run()
    assert str(solver.getModelStatus()) == ("HighsModelStatus.kOptimal" if _feasible(made) else "HighsModelStatus.kInfeasible")


def _feasible(made):
    return highs.solve_here(made.model).status == "feasible"


def _entries(solver, names):
    lp = solver.getLp()
    out = {}
    for row, name in enumerate(lp.row_names_):
        _, index, value = solver.getRowEntries(row)
        out |= {(name, names[k]): v for k, v in zip(index, value, strict=True)}
    return out


REQUANTS = {
    "shift": rq.ShiftHalfUp(4),
    "half even": rq.Float32HalfEven(np.array([0.125], np.float32), 3),
    "float32": rq.Float32HalfEven(np.array([0.0371], np.float32), -7),
    "double": rq.Q31Double(np.array([1288490189]), np.array([-4]), 5),
    "half up": rq.Q31HalfUp(np.array([1288490189]), np.array([-4]), 5),
    "single": rq.Q31Single(np.array([1288490189]), np.array([-4]), 5),
    "away": rq.Float64Away(np.array([0.0625]), 0),
    "fbgemm": rq.Fbgemm(
        np.array([0.031], np.float32), np.array([0.77], np.float32), np.array([0.02], np.float32), per_channel=True, zero_point=2
    ),
}


def _one_neuron(requant, lo, hi, reach, violation):
    tensors = (Tensor("x", (1,), QType(16, signed=True)), Tensor("y", (1,), QType(9, signed=True)))
    layer = Dense.of("layer", 0, np.array([[1]]), np.array([0]), Staircase(requant, lo, hi))
    made = Network(Input(tensors[0], (1, 1)), (layer,), tensors, Output(1, (1, 1)), Provenance("one", "made", "made", "0" * 64))
    return Query(made, Box.of(np.array([-reach]), np.array([reach])), Property(violation, "one"))


def _is(out, acc):
    """The accumulator is ``acc``, and the output is at most or at least (the sign of) ``out``."""
    sign, bound = out
    rows = ((0, 1, acc), (0, -1, -acc), (sign, 0, bound))
    return tuple(Linear(np.array([y]), bound, np.array([x])) for y, x, bound in rows)


@pytest.mark.parametrize("requant", REQUANTS.values(), ids=REQUANTS.keys())
@pytest.mark.parametrize(("lo", "hi"), [(-128, 127), (0, 6)])
def test_one_neuron_is_the_staircase(requant, lo, hi):
    """All requantisations: at both sides of thresholds the exact reading allows the device's output, and no other."""
    reach = 200
    (row,) = Staircase(requant, lo, hi).thresholds
    inside = row[(row > -reach) & (row <= reach)]
    for acc in sorted({-reach, reach, *inside[:: max(1, len(inside) // 4)], *(inside[:: max(1, len(inside) // 4)] - 1)}):
        out = int(rq.apply(requant, np.array([[acc]]), lo, hi)[0, 0])
        same = (*_is((1, out), acc), *_is((-1, -out), acc))
        others = (_is((1, out - 1), acc), _is((-1, -out - 1), acc))
        for violation, expected in (((same,), "feasible"), (others, "infeasible")):
            made = program.build(_one_neuron(requant, lo, hi, reach, violation), Reading.EXACT)
            assert highs.solve_here(made.model).status == expected, acc


def test_most_multipliers_have_a_quotient_and_half_even_on_powers_of_two_has_none():
    acc = Value(0, -3000, 3000)
    found = {}
    for name, requant in REQUANTS.items():
        steps = Staircase(requant, -128, 127)
        (row,) = steps.thresholds
        inside = (acc.lo < row) & (row <= acc.hi)
        first = -127 + int(inside.argmax())
        found[name] = exact.quotient(row[inside], first, rq.real_multiplier(requant)[0], acc)
    assert found["shift"] == (1, 8, 16)
    assert found["half even"] is None
    assert found["float32"] is not None


def test_a_wrap_and_a_doubly_rounded_addition_are_refused_by_name():
    layer = Dense.of("narrow", 0, np.array([[100]]), np.array([0]), Staircase(rq.ShiftHalfUp(2), -128, 127), accumulator_bits=8)
    tensors = (Tensor("x", (1,), UINT8), Tensor("y", (1,), INT8))
    made = Network(Input(tensors[0], (1, 1)), (layer,), tensors, Output(1, (1, 1)), Provenance("file.onnx", "made", "made", "0" * 64))
    for reading in Reading:
        with pytest.raises(UnsupportedError, match=r"file\.onnx: node narrow: an accumulator could wrap"):
            program.build(Query(made, around(np.array([9]), 3, UINT8), Property.robustness(0, 1)), reading)
    query = next(q for q, _ in (random_networks.question(seed, ["q31 add"]) for seed in range(50)) if not _wraps(q))
    with pytest.raises(UnsupportedError, match="no exact ILP reading"):
        program.build(query, Reading.EXACT)
    program.build(query, Reading.AAAI24)


def _wraps(query):
    bounds = interval.propagate(query.network, query.box)
    pairs = zip(query.network.ops, bounds.acc_lo, bounds.acc_hi, strict=True)
    return any(lo is not None and interval.wraps(op, interval.Range(lo, hi)) for op, lo, hi in pairs)


def test_names():
    assert Neuron(0, 3, "input").label == "0_3"
    query, made = _first(["dense"], Reading.QVIP)
    assert [c.name for c in made.model.columns[: query.box.lo.size]] == [f"x_{i}" for i in range(query.box.lo.size)]
    layer = len(made.tensors) - 1
    assert {f"y_{layer}_{i}" for i in range(query.network.output_tensor.size)} <= {c.name for c in made.model.columns}
