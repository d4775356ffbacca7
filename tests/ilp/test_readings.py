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
from bvverify.model.query import Box, Property, Query
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, UINT8, QType, Tensor
from bvverify.run import interpreter, replay

SHAPES = (["dense"], ["conv"], ["max"], ["clamp"], ["table"], ["mean"], ["concat"], ["transpose"], ["shift add"], ["dense", "dense"])


def _built(query, reading):
    try:
        return program.build(query, reading)
    except UnsupportedError:
        return None


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


@pytest.mark.parametrize("seed", range(40))
def test_every_input_meets_every_row_of_the_exact_reading(seed):
    """In exact rationals, for every input of the box: all rows but those of the violation."""
    query, _ = random_networks.question(seed, most=40)
    made = _built(query, Reading.EXACT)
    if made is None:
        pytest.skip("an operation without an exact reading; the other seeds have none")
    for x in random_networks.points(query.box):
        values = differ._filled(made, x)
        broken = {v.row for v in differ._violations(made, values)}
        violated = replay.violates(query, x[None])[0]
        assert broken == (set() if violated else {"violated"})


@pytest.mark.parametrize("reading", Reading)
@pytest.mark.parametrize("writer", [text.to_lp, text.to_mps])
def test_text_reads_back_in_highs(tmp_path, reading, writer):
    """The file holds the same program: columns, bounds, integers, every coefficient to the last bit."""
    query, _ = random_networks.question(2, ["dense", "max", "clamp", "table"])
    made = program.build(query, reading)
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


def _one_neuron(requant, lo, hi, reach):
    tensors = (Tensor("x", (1,), QType(16, signed=True)), Tensor("y", (1,), QType(9, signed=True)))
    layer = Dense.of("layer", 0, np.array([[1]]), np.array([0]), Staircase(requant, lo, hi))
    made = Network(Input(tensors[0], (1, 1)), (layer,), tensors, Output(1, (1, 1)), Provenance("one", "made", "made", "0" * 64))
    return Query(made, Box.of(np.array([-reach]), np.array([reach])), Property.robustness(0, 1))


@pytest.mark.parametrize("requant", REQUANTS.values(), ids=REQUANTS.keys())
@pytest.mark.parametrize(("lo", "hi"), [(-128, 127), (0, 20)])
def test_one_neuron_is_the_staircase_on_every_accumulator(requant, lo, hi):
    """All requantisations: the rows of the exact reading hold for the output of the device, and for no other."""
    query = _one_neuron(requant, lo, hi, 300)
    made = program.build(query, Reading.EXACT)
    y = made.tensors[1].ravel()[0]
    for acc in range(-300, 301):
        out = int(interpreter.run(query.network, np.array([[acc]]))[0, 0])
        values = differ._filled(made, np.array([acc]))
        assert values[y.column] == out
        rows = [row for row in made.model.rows if row.neuron is not None]
        assert all(row.excess(values) <= 0 for row in rows)
        for other in (out - 1, out + 1):
            changed = list(values)
            changed[y.column] = other
            assert any(row.excess(changed) > 0 for row in rows)


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
    query, _ = random_networks.question(2, ["dense"])
    made = program.build(query, Reading.QVIP)
    assert [c.name for c in made.model.columns[: query.box.lo.size]] == [f"x_{i}" for i in range(query.box.lo.size)]
    layer = len(made.tensors) - 1
    assert {f"y_{layer}_{i}" for i in range(query.network.output_tensor.size)} <= {c.name for c in made.model.columns}
