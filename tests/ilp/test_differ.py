"""Where an ILP and the device part: each kind of blame on a network made for it, and the two bundled networks."""

import make_ilp_examples
import numpy as np
import pytest

from bvverify import examples, pipeline
from bvverify.errors import InternalError
from bvverify.ilp import claim, differ, highs, program
from bvverify.ilp.differ import Blame
from bvverify.ilp.reading import Reading
from bvverify.load.load import load
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Dense
from bvverify.model.query import Box, Property, Query
from bvverify.model.requant import Float32HalfEven, Q31Double, q31
from bvverify.model.result import Verdict
from bvverify.model.staircase import Staircase
from bvverify.model.types import UINT8, QType, Tensor

FILES = {examples.ILP_TIE: make_ilp_examples.TIE, examples.ILP_BIG_M: make_ilp_examples.BIG_M}
REAL = [Reading.AAAI24, Reading.QVIP]
WIDE = QType(16, signed=True)


def _bundled(name, x):
    network = load(examples.path(f"{name}.onnx"))
    return pipeline.robustness_query(network, np.array([x]), 1)


def _against_a_constant(requant, weight, bias, constant, lo, hi):
    """Two outputs of one input: the first always ``constant``, the second ``requant(weight * x + bias)``; the class is to stay 1."""
    tensors = (Tensor("x", (1,), WIDE), Tensor("y", (2,), WIDE))
    layer = Dense.of("layer", 0, np.array([[0], [weight]]), np.array([constant, bias]), Staircase(requant, -1000, 1000))
    made = Network(Input(tensors[0], (1, 1)), (layer,), tensors, Output(1, (1, 2)), Provenance("made", "made", "made", "0" * 64))
    return Query(made, Box.of(np.array([lo]), np.array([hi])), Property.robustness(1, 2))


def test_the_bundled_files_are_what_their_script_makes(tmp_path):
    for name, layers in FILES.items():
        made = tmp_path / name
        made.write_bytes(make_ilp_examples.onnx_file(layers, made.stem).SerializeToString(deterministic=True))
        assert made.read_bytes() == examples.path(name).read_bytes()


@pytest.mark.parametrize("reading", REAL)
def test_the_bundled_tie(reading):
    """ONNX Runtime rounds 2.5 to 2, the ILP to 3: it calls robust what is not, and the witness shows the row."""
    query = _bundled("ilp_tie", 6)
    result = pipeline.decide(query)
    assert result.verdict is Verdict.FALSIFIED
    assert result.witness.input.tolist() == [5]
    assert claim.ask(query, reading).robust
    difference = differ.excluded(program.build(query, reading), result.witness.input)
    assert (difference.blame, difference.op, difference.index) == (Blame.TIE, "output", 1)
    assert difference.excess > 0
    assert "2.5 exactly, a tie; the device (float32-half-even) makes 2 of it, half up 3" in difference.text


def test_the_exact_reading_decides_the_bundled_networks_as_the_device():
    assert claim.ask(_bundled("ilp_tie", 6), Reading.EXACT).x.tolist() == [5]
    assert claim.ask(_bundled("ilp_big_m", 3), Reading.EXACT).robust


def test_the_bundled_big_m():
    """The network is robust; as written, with M = 10^6, HiGHS finds a solution whose binary is some 3e-7, and the tool says so."""
    query = _bundled("ilp_big_m", 3)
    assert pipeline.decide(query).verdict is Verdict.VERIFIED
    answer = claim.ask(query, Reading.QVIP, presolve=False)
    assert answer.x is None
    assert answer.difference.blame is Blame.BIG_M
    assert "does not replay" in answer.text
    assert "times 1,000,000" in answer.text
    # A reading with the neuron's own range in M's place has no such solution.
    assert claim.ask(query, Reading.AAAI24, presolve=False).robust


def test_a_solution_with_a_leaking_binary_is_blamed_on_big_m_whatever_the_solver():
    """The solution written by hand: x = 2, the first neuron 1 instead of 0 by a binary of 4e-7."""
    made = program.build(_bundled("ilp_big_m", 3), Reading.QVIP)
    by_hand = {"x_0": 2, "h_1_0_0": 4e-7, "h_1_0_1": 1 - 4e-7, "y_1_0": 1, "h_1_1_2": 1, "y_1_1": 2, "y_2_0": 30, "y_2_1": 31, "v_0": 1}
    by_hand |= {"a_1_0": 20, "a_1_1": 220, "a_2_0": 300, "a_2_1": 310, f"h_2_1_{31}": 1}
    values = tuple(by_hand.get(c.name, 0.0) for c in made.model.columns)
    assert all(row.excess(values) <= highs.TOLERANCE for row in made.model.rows)
    difference = differ.invented(made, values)
    assert (difference.blame, difference.op, difference.index, difference.row) == (Blame.BIG_M, "hidden0", 0, "lower_1_0")
    assert float(difference.excess) == pytest.approx(0.3)


@pytest.mark.parametrize("reading", REAL)
def test_a_margin_that_swallows_an_input(reading):
    """``0.001 * 2500 - 1e-7`` or so: below the tie, so that the device and exact rounding say 2, but nearer than the margin."""
    multiplier = np.array([np.nextafter(np.float32(2.5 / 4099), np.float32(0))], np.float32)
    assert 0 < 2.5 - float(multiplier[0]) * 4099 < 1e-4
    query = _against_a_constant(Float32HalfEven(multiplier, 0), 1, 0, 3279, 4099, 4101)  # the constant rounds to 2
    assert claim.ask(query, reading).robust
    difference = differ.excluded(program.build(query, reading), np.array([4099]))
    assert difference.blame is Blame.TOLERANCE
    assert "nearer than the margin 0.0001; the device (float32-half-even) makes 2 of it" in difference.text


@pytest.mark.parametrize("reading", REAL)
def test_the_network_of_lesson_nine(reading):
    """Half a millionth below a tie: no margin that a solver can see leaves the input in."""
    network = load(examples.path(examples.NEAR_TIE))
    query = pipeline.robustness_query(network, np.array([-11, -60]), 2)
    assert claim.ask(query, reading).robust
    difference = differ.excluded(program.build(query, reading), np.array([-13, -58]))
    assert difference.blame is Blame.TOLERANCE
    assert "4.842877388e-07 below a tie" in difference.text


@pytest.mark.parametrize("reading", REAL)
def test_a_multiplication_that_the_device_does_in_two_roundings(reading):
    """q31-double rounds the doubled high product first: an accumulator whose exact product is below a tie goes up on the device."""
    mantissa, shift = q31(0.0371)
    requant = Q31Double(np.array([mantissa]), np.array([shift]), 0)
    staircase = Staircase(requant, -1000, 1000)
    exact = mantissa / 2 ** (31 - shift)
    row = staircase.thresholds[0]
    # Where the two parts company: a threshold one accumulator earlier than exact half up.
    early = [(int(t), k) for k, t in zip(range(-999, 1001), row, strict=True) if np.floor(int(t) * exact + 0.5) != k]
    assert early
    t, k = early[0]
    # The other class reaches k - 1 always; the device gives k at t, an exact rounding k - 1.
    tensors = (Tensor("x", (1,), WIDE), Tensor("y", (2,), WIDE))
    constant = int(row[k + 999 - 1])
    layer = Dense.of("layer", 0, np.array([[0], [1]]), np.array([constant, 0]), staircase)
    made = Network(Input(tensors[0], (1, 1)), (layer,), tensors, Output(1, (1, 2)), Provenance("made", "made", "made", "0" * 64))
    query = Query(made, Box.of(np.array([t - 1]), np.array([t])), Property.robustness(0, 2))
    assert claim.ask(query, reading).robust
    difference = differ.excluded(program.build(query, reading), np.array([t]))
    assert difference.blame is Blame.ARITHMETIC
    assert "(q31-double)" in difference.text


@pytest.mark.parametrize("reading", REAL)
def test_a_float32_multiplication_that_crosses_a_tie(reading):
    """4395673 / 2^29 * 19725 is 4.4e-6 below 161.5, and its float32 product 161.5 or more: the device makes 162 of it."""
    requant = Float32HalfEven(np.array([4395673 / 2**29], np.float32), 0)
    query = _against_a_constant(requant, 1, 0, 19725, 19720, 19724)  # the constant rounds to 162 on the device
    assert pipeline.decide(query, pipeline.Options(runtimes=False)).verdict is Verdict.FALSIFIED
    difference = differ.excluded(program.build(query, reading), np.array([19720]))
    assert (difference.blame, difference.index) == (Blame.ARITHMETIC, 0)
    assert "below a tie; the device (float32-half-even) makes 162 of it, exact rounding 161" in difference.text


def test_the_exact_reading_never_excludes_a_witness():
    query = _bundled("ilp_tie", 6)
    made = program.build(query, Reading.EXACT)
    assert differ.excluded(made, np.array([5])).blame is Blame.SOLVER
    with pytest.raises(InternalError, match="violates row violated"):
        differ.excluded(made, np.array([6]))


def test_m_has_to_be_large_enough():
    from bvverify.errors import UnsupportedError

    tensors = (Tensor("x", (1,), UINT8), Tensor("y", (1,), UINT8))
    layer = Dense.of("steep", 0, np.array([[10_000]]), np.array([0]), Staircase(Float32HalfEven(np.array([1], np.float32), 0), 0, 255))
    made = Network(Input(tensors[0], (1, 1)), (layer,), tensors, Output(1, (1, 1)), Provenance("made.onnx", "made", "made", "0" * 64))
    query = Query(made, Box.of(np.array([0]), np.array([255])), Property.robustness(0, 1))
    with pytest.raises(UnsupportedError, match=r"made\.onnx: node steep: neuron 0 could pass 1,000,000"):
        program.build(query, Reading.QVIP)
