"""Property files: every integer point is judged as the file's formula judges its reals."""

import gzip
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bvverify.errors import BvverifyError, InputError, UnsupportedError
from bvverify.load import property_file
from bvverify.model import box as boxes
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Clamp
from bvverify.model.types import QType, Quantisation, Tensor

SMALL = QType(4, True)


def _network(quantiser=None, dequantiser=None, qtype=SMALL):
    tensors = (Tensor("x", (2,), qtype), Tensor("y", (2,), qtype))
    made = Provenance("p", "onnx", "onnxruntime", "0" * 64)
    return Network(
        Input(tensors[0], (1, 2), quantiser), (Clamp("c", 0, qtype.lo, qtype.hi),), tensors, Output(1, (1, 2), dequantiser), made
    )


HEADER = "".join(f"(declare-const {v}_{i} Real)\n" for v in "XY" for i in (0, 1))
BOX = "(assert (>= X_0 -8))(assert (<= X_0 7))(assert (>= X_1 -8))(assert (<= X_1 7))\n"


def _read(tmp_path, text, network=None):
    path = tmp_path / "p.vnnlib"
    path.write_text(text)
    return property_file.read(path, network or _network())


def _violated(cases, x, y):
    return any(b.contains(np.array(x)) and p.violated(np.array([x]), np.array([y]))[0] for b, p in cases)


EVERY = [(a, b) for a in range(-8, 8, 3) for b in range(-8, 8)]
number = st.fractions(-6, 6, max_denominator=4)
relation = st.sampled_from(["<=", ">=", "<", ">"])


def _shown(v):
    return f"(/ {v.numerator} {v.denominator})" if v.denominator != 1 else str(v.numerator)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(relation, number, number, number), min_size=1, max_size=3), st.booleans(), st.booleans())
def test_formulas_over_integer_outputs(tmp_path_factory, rows, disjunction, negate):
    parts = [f"({r} (+ (* {_shown(a)} Y_0) (* {_shown(b)} Y_1)) {_shown(c)})" for r, a, b, c in rows]
    formula = f"({'or' if disjunction else 'and'} {' '.join(parts)})"
    formula = f"(not {formula})" if negate else formula
    cases = _read(tmp_path_factory.mktemp("p"), f"{HEADER}{BOX}(assert {formula})")
    compare = {"<=": lambda v, c: v <= c, ">=": lambda v, c: v >= c, "<": lambda v, c: v < c, ">": lambda v, c: v > c}
    for y in EVERY:
        met = [compare[r](a * y[0] + b * y[1], c) for r, a, b, c in rows]
        expected = (any(met) if disjunction else all(met)) != negate
        assert _violated(cases, (0, 0), y) == expected


@settings(max_examples=60, deadline=None, derandomize=True)
@given(relation, st.decimals(-3, 3, places=3), st.sampled_from([0.1, 0.25, 0.3333333432674408]), st.integers(-3, 3))
def test_one_dequantised_output_against_a_constant(tmp_path_factory, r, c, scale, zero):
    network = _network(dequantiser=Quantisation(float(np.float32(scale)), zero))
    cases = _read(tmp_path_factory.mktemp("p"), f"{HEADER}{BOX}(assert ({r} Y_1 {c}))", network)
    compare = {"<=": lambda v: v <= 0, ">=": lambda v: v >= 0, "<": lambda v: v < 0, ">": lambda v: v > 0}[r]
    for q in range(-8, 8):
        real = Fraction(float(boxes.dequantise(np.array(q), network.output.dequantiser)))
        assert _violated(cases, (0, 0), (0, q)) == compare(real - Fraction(str(c)))


def test_differences_of_rounded_outputs_compare_their_integers(tmp_path):
    network = _network(dequantiser=Quantisation(float(np.float32(0.1)), 2))
    cases = _read(tmp_path, f"{HEADER}{BOX}(assert (or (>= Y_1 Y_0) (< Y_0 Y_1)))", network)
    assert all(_violated(cases, (0, 0), y) == (y[1] >= y[0]) for y in EVERY)


def test_a_rounded_sum_is_refused_with_its_line(tmp_path):
    network = _network(dequantiser=Quantisation(float(np.float32(0.1)), 2))
    with pytest.raises(UnsupportedError, match="line 6"):
        _read(tmp_path, f"{HEADER}{BOX}(assert (<= (+ Y_0 Y_1) 1))", network)


def test_real_boxes_map_through_the_quantiser(tmp_path):
    network = _network(quantiser=Quantisation(0.25, 1))
    text = HEADER + "(assert (>= X_0 0.125))(assert (<= X_0 0.376))(assert (>= X_1 -100))(assert (<= X_1 100))(assert (<= Y_0 Y_1))"
    ((where, _),) = _read(tmp_path, text, network)
    assert where.lo.tolist() == [1, -8]  # 0.125 / 0.25 is a tie, to the even 0, plus 1
    assert where.hi.tolist() == [3, 7]


def test_boxes_of_a_disjunction_are_cases_and_empty_ones_fall_away(tmp_path):
    text = (
        HEADER
        + """(assert (or
    (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1) (<= Y_0 0))
    (and (>= X_0 3) (<= X_0 4) (>= X_1 0) (<= X_1 1) (<= Y_0 0))
    (and (>= X_0 4) (<= X_0 3) (>= X_1 0) (<= X_1 1) (<= Y_0 0))))"""
    )
    assert [b.lo.tolist() for b, _ in _read(tmp_path, text)] == [[0, 0], [3, 0]]


def test_a_packed_file(tmp_path):
    path = tmp_path / "p.vnnlib.gz"
    path.write_bytes(gzip.compress(f"{HEADER}{BOX}(assert (<= Y_0 Y_1))".encode()))
    assert len(property_file.read(path, _network())) == 1


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        ")",
        HEADER + "(assert " + "(not " * 500 + "(<= Y_0 Y_1)" + ")" * 501,
        HEADER + BOX + "(assert (<= (* Y_0 Y_1) 1))",
        HEADER + BOX + "(assert (<= Y_0 nan))",
        HEADER + BOX + "(assert (<= Y_0 Z))",
        HEADER + BOX + "(frobnicate)",
        HEADER + HEADER,
        HEADER + "(assert (<= X_0 1))(assert (<= Y_0 1))",
        HEADER + BOX + "(assert (and " + "(or (<= Y_0 1) (<= Y_1 1))" * 40 + "))",
        "(declare-const X_0 Int)",
        "(declare-const Q Real)",
        "(vnnlib-version <2.0>)(declare-network f (declare-input X Frob [2]) (declare-output Y Real [2]))(assert (<= X[0] 1.0))",
        "(vnnlib-version <2.0>) rubbish",
    ],
)
def test_what_is_no_property_is_refused(tmp_path, text):
    with pytest.raises(InputError) as caught:
        _read(tmp_path, text)
    assert "p.vnnlib" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, BvverifyError)


TWO = """(vnnlib-version <2.0>)
(declare-network f
  (declare-input X Real [1,2])
  (declare-output Y Real [1,2]))
(assert (and (>= X[0,0] -8.0) (<= X[0,0] 7.0) (>= X[0,1] -8.0) (<= X[0,1] 7.0)))
(assert (or (<= Y[0,0] Y[0,1]) (>= Y[0,0] 3.0)))
"""


def test_spaces_in_brackets_change_nothing(tmp_path):
    spaced = TWO.replace("[1,2]", "[ 1, 2 ]").replace("[0,1]", "[0, 1]")
    assert [str(c) for c in _read(tmp_path, spaced)[0][1].violation] == [str(c) for c in _read(tmp_path, TWO)[0][1].violation]


def test_version_two(tmp_path):
    cases = _read(tmp_path, TWO)
    assert all(_violated(cases, (0, 0), y) == (y[0] <= y[1] or y[0] >= 3) for y in EVERY)


def test_version_two_checks_indices(tmp_path):
    with pytest.raises(InputError, match="X"):
        _read(tmp_path, TWO.replace("X[0,1]", "X[0,2]"))
