"""Exported questions: every tensor is what ``run`` computes, and all solvers give the answer that enumeration gives."""

from fractions import Fraction

import numpy as np
import pytest
import random_networks
import smt_solvers
import z3

from bvverify.bounds import interval
from bvverify.encode.dimacs import to_dimacs
from bvverify.encode.normative import to_smt2
from bvverify.errors import UnsupportedError
from bvverify.model import requant as rq
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Dense
from bvverify.model.query import Box, Linear, Property, Query
from bvverify.model.staircase import Staircase
from bvverify.model.types import QType, Tensor, frozen_array
from bvverify.run import interpreter

F32 = np.float32
REQUANTISATIONS = {
    "shift-half-up": rq.ShiftHalfUp(2),
    "q31-double": rq.Q31Double(*np.array([rq.q31(0.25), rq.q31(0.3)]).T, 1),
    "q31-half-up": rq.Q31HalfUp(*np.array([rq.q31(0.25), rq.q31(1.5)]).T, -1),
    "q31-single": rq.Q31Single(*np.array([rq.q31(0.125)]).T, 2),
    "float32-half-even": rq.Float32HalfEven(np.array([0.25, 0.3], F32), 1),
    "fbgemm": rq.Fbgemm(np.array([0.25], F32), np.array([0.3], F32), np.array([0.5], F32), False, 1),
    "fbgemm per channel": rq.Fbgemm(np.array([0.25, 0.5], F32), np.array([0.3, 1], F32), np.array([0.5, 0.25], F32), True, 1),
    "fbgemm without a bias": rq.Fbgemm(np.array([0.25], F32), None, np.array([0.5], F32), False, 1),
    "qnnpack": rq.Qnnpack(np.array([0.25], F32), 1),
    "float64-away": rq.Float64Away(np.array([0.25, 0.3]), -2),
    "rational-half-up": rq.RationalHalfUp((Fraction(1, 4), Fraction(1, 2)), 1),
    "by channel": rq.ByChannel((rq.Q31HalfUp(*np.array([rq.q31(0.25)]).T, 1), rq.Q31Double(*np.array([rq.q31(0.25)]).T, 1))),
}


def layer(requant, *, accumulator_bits=32, weight=((2, -1), (1, 3))):
    """Two inputs of two bits, one dense layer of two neurons."""
    staircase = Staircase(requant, -8, 7)
    op = Dense.of("only", 0, np.array(weight), np.array([-1, 2]), staircase, input_zero_point=-2, accumulator_bits=accumulator_bits)
    tensors = (Tensor("in", (2,), QType(2, True)), Tensor("out", (2,), QType(8, True)))
    made = Provenance("one.layer", "test", "test", "0" * 64)
    return Network(Input(tensors[0], (1, 2)), (op,), tensors, Output(1, (1, 2)), made)


def whole_box(network):
    shape = network.input.tensor.shape
    return Box.of(np.full(shape, network.input.tensor.qtype.lo), np.full(shape, network.input.tensor.qtype.hi))


def reaches(network, level):
    """Whether the first output reaches a level: a question whose answer flips at the largest one that occurs."""
    row = Linear(frozen_array(np.array([-1, 0]), np.int64), -level)
    return Query(network, whole_box(network), Property(((row,),), f"output 0 stays below {level}"))


@pytest.mark.parametrize("name", REQUANTISATIONS)
def test_three_solvers_agree_on_the_largest_output(name):
    network = layer(REQUANTISATIONS[name])
    every = np.stack(np.meshgrid(*[np.arange(-2, 2)] * 2), axis=-1).reshape(-1, 2)
    largest = int(interpreter.trace(network, every)[-1][:, 0].max())
    for level, expected in ((largest, "sat"), (largest + 1, "unsat")):
        query = reaches(network, level)
        script = to_smt2(query, interval.propagate(network, query.box))
        assert {s: ask(script) for s, ask in smt_solvers.ALL.items()} == dict.fromkeys(smt_solvers.ALL, expected)


@pytest.mark.parametrize("kind", [*random_networks.KINDS, None])
def test_every_named_element_is_what_run_computes(kind):
    for seed in range(2):
        rng = np.random.default_rng(seed)
        net = random_networks.network(rng, None if kind is None else [kind, kind])
        where = random_networks.box(rng, net, 1 << 12)
        query = Query(net, where, Property.robustness(0, net.output_tensor.size))
        script = to_smt2(query, interval.propagate(net, where))
        x = rng.integers(where.lo, where.hi + 1)
        values = {}
        for tensor, array in enumerate(interpreter.trace(net, x[None])):
            for index in np.ndindex(array.shape[1:]):
                name = ".".join([f"t{tensor}", *map(str, index)])
                if f"(define-fun {name} ()" in script:
                    values[name] = int(array[0][index])
        assert len(values) > x.size
        asked = "".join(f"(declare-const value.{n} Acc)(assert (= value.{n} {n}))\n" for n in values)
        terms = {str(a.arg(0)): a.arg(1) for a in z3.parse_smt2_string(script.replace("(check-sat)", asked))[-len(values) :]}
        bits, flat = net.input.tensor.qtype.bits, x.ravel().tolist()
        pins = [(z3.BitVec(f"in{i}", bits), z3.BitVecVal(v, bits)) for i, v in enumerate(flat)]
        found = {n: z3.simplify(z3.substitute(terms[f"value.{n}"], *pins)).as_signed_long() for n in values}
        assert found == values, (kind, seed)


@pytest.mark.parametrize("kind", random_networks.KINDS)
def test_random_questions_are_answered_as_enumeration_answers_them(kind):
    for seed in range(2):
        query, violated = random_networks.question(seed, [kind])
        script = to_smt2(query, interval.propagate(query.network, query.box))
        assert smt_solvers.ask_bitwuzla(script) == ("sat" if violated else "unsat"), seed


@pytest.mark.parametrize(("seed", "kind"), [(0, "mean"), (0, "concat")])
def test_three_solvers_agree_on_random_questions(seed, kind):
    query, violated = random_networks.question(seed, [kind])
    script = to_smt2(query, interval.propagate(query.network, query.box))
    assert {s: ask(script) for s, ask in smt_solvers.ALL.items()} == dict.fromkeys(smt_solvers.ALL, "sat" if violated else "unsat")


def test_a_script_needs_nothing_but_itself():
    network = layer(rq.ShiftHalfUp(2))
    script = to_smt2(reaches(network, 0), interval.propagate(network, whole_box(network)))
    assert "(set-logic QF_BV)" in script
    assert "; ---- encodings/requantisations/shift-half-up/definition.smt2" in script
    assert "(define-fun requantise-shift-half-up " in script
    assert "(define-fun a1.1 () Acc " in script
    assert "(define-fun t1.1 () Acc (q1.0 a1.1))" in script
    assert "Float" not in script


def test_an_exact_accumulator_beyond_32_bits_gets_64():
    network = layer(rq.ShiftHalfUp(28), accumulator_bits=None, weight=((1 << 31, 5), (7, 1)))
    largest = int(interpreter.trace(network, np.array([[1, 1]]))[-1][0, 0])
    assert largest > 0
    for level, expected in ((largest, "sat"), (largest + 1, "unsat")):
        query = reaches(network, level)
        script = to_smt2(query, interval.propagate(network, query.box))
        assert "(define-sort Acc () (_ BitVec 64))" in script
        assert smt_solvers.ask_bitwuzla(script) == expected


def test_a_fraction_that_does_not_fit_is_refused():
    network = layer(rq.RationalHalfUp((Fraction(1, 3**90),), 0))
    with pytest.raises(UnsupportedError, match="does not fit"):
        to_smt2(reaches(network, 0), interval.propagate(network, whole_box(network)))


@pytest.mark.parametrize("kind", ["dense", "conv", "add", "float mean", "table"])
def test_clauses_are_satisfiable_when_the_property_is_violated(kind, tmp_path):
    answers = set()
    for seed in range(5):
        query, violated = random_networks.question(seed, [kind, "max"])
        file = tmp_path / f"{seed}.cnf"
        file.write_text(to_dimacs(query, interval.propagate(query.network, query.box)))
        solver = z3.Solver()
        solver.from_file(str(file))
        assert solver.check() == (z3.sat if violated else z3.unsat), seed
        answers.add(violated)
        if violated:
            x = _input(query, file.read_text(), solver.model())[None]
            y = interpreter.trace(query.network, x)[query.network.output.tensor]
            assert query.box.contains(x[0])
            assert query.property.violated(x.reshape(1, -1), y.reshape(1, -1)).all()
    assert answers == {True, False}


def _input(query, clauses, model):
    """The input that the comments of a DIMACS file read off a satisfying assignment."""
    truth = {int(str(d).removeprefix("k!")): z3.is_true(model[d]) for d in model.decls()}
    x = query.box.lo.ravel().copy()
    bits = {}
    for words in (line.split() for line in clauses.splitlines()):
        if len(words) == 3 and words[0] == "c" and words[1].startswith("in"):
            bits[int(words[1][2:-1])] = [0] * int(words[2])
        elif len(words) == 3 and words[0] == "c" and words[2].startswith("in"):
            index, bit = map(int, words[2][2:].split("."))
            bits[index][bit] = int(truth.get(int(words[1]), False))
    for index, values in bits.items():
        number = sum(v << b for b, v in enumerate(values))
        x[index] = number - ((1 << len(values)) if values[-1] else 0)
    return x.reshape(query.box.lo.shape)
