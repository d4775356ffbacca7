"""Pin the inputs of the encoding to a point, simplify, and get the interpreter's numbers at every tensor."""

import numpy as np
import pytest
import random_networks
import smt_solvers
import z3

from bvverify.bounds import interval
from bvverify.encode.network import encode
from bvverify.encode.smt2 import script
from bvverify.encode.staircase import requantise
from bvverify.encode.values import Value
from bvverify.model.query import Property, Query
from bvverify.model.requant import Float32HalfEven, ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.run import interpreter


def _number(value, pins):
    if value.constant:
        return value.lo
    return z3.simplify(z3.substitute(value.term, *pins)).as_signed_long()


@pytest.mark.parametrize("kind", [*random_networks.KINDS, None])
def test_every_tensor_of_a_pinned_input(kind):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        net = random_networks.network(rng, None if kind is None else [kind, kind])
        where = random_networks.box(rng, net, 1 << 12)
        query = Query(net, where, Property.robustness(0, net.output_tensor.size))
        encoding = encode(query, interval.propagate(net, where))
        x = rng.integers(where.lo, where.hi + 1)
        pins = [(v.term, z3.BitVecVal(int(x.flat[i]), v.term.size())) for i, v in enumerate(encoding.tensors[0].flat) if not v.constant]
        for tensor, expected in zip(encoding.tensors, interpreter.trace(net, x[None]), strict=True):
            assert [_number(v, pins) for v in tensor.flat] == expected[0].ravel().tolist(), (kind, seed)
            assert all(v.lo <= e <= v.hi for v, e in zip(tensor.flat, expected[0].flat, strict=True))


@pytest.mark.parametrize(
    "requant",
    [ShiftHalfUp(0), ShiftHalfUp(2), Float32HalfEven(np.array([0.5], np.float32), 1), Float32HalfEven(np.array([0.3], np.float32), -2)],
)
def test_the_comparator_tree_is_the_staircase(requant):
    staircase = Staircase(requant, -4, 5)
    acc = z3.BitVec("acc", 7)
    tree = requantise(staircase, 0, Value(acc, -64, 63))
    for a in range(-64, 64):
        expected = int(staircase.apply(np.array([[a]]))[0, 0])
        assert z3.simplify(z3.substitute(tree.term, (acc, z3.BitVecVal(a, 7)))).as_signed_long() == expected


def test_a_script_reads_back_and_says_the_same():
    for seed in range(8):
        query, violated = random_networks.question(seed, ["dense", "max"])
        text = script(query, encode(query, interval.propagate(query.network, query.box)))
        assert "(check-sat)" in text
        solver = z3.Solver()
        solver.from_string(text)
        assert solver.check() == (z3.sat if violated else z3.unsat)


def test_a_violation_of_one_row_is_written_as_every_reader_takes_it():
    """SMT-LIB has no conjunction of one part."""
    query, violated = random_networks.question(0, ["dense"])
    assert all(len(conjunction) == 1 for conjunction in query.property.violation)
    text = script(query, encode(query, interval.propagate(query.network, query.box)))
    assert {ask(text) for ask in smt_solvers.ALL.values()} == {"sat" if violated else "unsat"}
