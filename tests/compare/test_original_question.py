"""What is asked of a network and the integers that stand for its float original, over all outputs; and what is made of the answers."""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from test_original import pair

from bvverify import pipeline
from bvverify.compare import original as module
from bvverify.compare.answer import Answer
from bvverify.compare.approximate import Approximation, approximate
from bvverify.compare.original import compare, differ, meaning_of_output, question
from bvverify.errors import InternalError, UnsupportedError
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Dense
from bvverify.model.real import Affine, RealNetwork
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.result import Result, StageReport, Verdict, Witness
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, QType, Quantisation, Tensor


def network(meaning, *, outputs=2, qtype=INT8, dequantiser=None):
    op = Dense.of("last", 0, np.eye(outputs, dtype=int), np.zeros(outputs, int), Staircase(ShiftHalfUp(0), qtype.lo, qtype.hi))
    tensors = Tensor("x", (outputs,), qtype, Quantisation(1.0, 0)), Tensor("y", (outputs,), qtype, meaning)
    made = Provenance("a.onnx", "onnx", "one", "1" * 64)
    return Network(Input(tensors[0], (1, outputs)), (op,), tensors, Output(1, (1, outputs), dequantiser), made)


def near(a, unit, *error):
    """Integers times ``unit`` that are within ``error`` of the original."""
    return Approximation(replace(a, provenance=replace(a.provenance, path="real.onnx")), Fraction(unit), tuple(map(Fraction, error)))


class TestOutputs:
    meaning = Quantisation(0.75, 1)

    @pytest.mark.parametrize("error", [(0, 0), (Fraction(1, 3), Fraction(5, 8)), (Fraction(1, 4), Fraction(3, 2))])
    @pytest.mark.parametrize("delta", [0, Fraction(1, 8), Fraction(3, 8), Fraction(2, 3), 2])
    def test_exactly_where_the_grain_divides(self, delta, error):
        """Violated where a number within the error is further away than delta; for sure, where all of them are."""
        a, unit = network(self.meaning, qtype=QType(3, signed=True)), Fraction(1, 8)
        close = near(a, unit, *error)
        y = np.array(list(product((-4, -1, 0, 3), (-4, 3), range(-40, 41, 5), (-3, 0, 2, 20))))
        far = [[abs(Fraction(3, 4) * (int(row[i]) - 1) - unit * int(row[2 + i])) for i in (0, 1)] for row in y]
        for sure, sign in ((False, 1), (True, -1)):
            expected = [any(f + sign * e > delta for f, e in zip(row, error, strict=True)) for row in far]
            asked = question(a, close, Fraction(delta), sure=sure)
            assert asked.violated(np.zeros((len(y), 2), int), y).tolist() == expected
            assert asked.text == f"no output is more than {delta} from that of real.onnx over the reals"

    @pytest.mark.parametrize("qtype", [QType(2, signed=True), QType(3, signed=False)])
    @pytest.mark.parametrize("seed", range(12))
    def test_on_the_sound_side_where_it_does_not(self, qtype, seed):
        """A coarse grain: up to half a unit of coefficients is lost for each step of y; deltas at and around what outputs differ by."""
        rng = np.random.default_rng(seed)
        coefficient = int(rng.integers(1, 4)) + Fraction(int(rng.integers(-49, 50)), 100)
        unit = Fraction(3, 4) * 256 / coefficient
        meaning = Quantisation(0.75, int(rng.integers(qtype.lo, qtype.hi + 1)))
        a = network(meaning, outputs=1, qtype=qtype)
        close = near(a, unit, Fraction(int(rng.integers(0, 3)), 7))
        y = np.array(list(product(range(qtype.lo, qtype.hi + 1), range(-3, 4))))
        far = [abs(Fraction(meaning.scale) * (int(p) - meaning.zero_point) - unit * int(q)) for p, q in y]
        error = close.error[0]
        for value in {*far}:
            for delta in (value, value + error, value - error, value + error * Fraction(99, 100)):
                if delta < 0:
                    continue
                possible, sure = (question(a, close, delta, sure=s).violated(np.zeros((len(y), 1), int), y) for s in (False, True))
                assert all(hit or f + error <= delta for hit, f in zip(possible, far, strict=True))
                assert all(f - error > delta or not hit for hit, f in zip(sure, far, strict=True))

    @pytest.mark.parametrize("qtype", [QType(4, signed=True), QType(4, signed=False)])
    def test_what_rounding_the_coefficient_costs_is_allowed_for(self, qtype):
        """p = round(scale * 256 / unit) is up to a half off; the farthest y decides."""
        for k in range(1, 60):
            unit = Fraction(256 * 100, 100 * k + 49)
            a = network(Quantisation(1.0, 0), outputs=1, qtype=qtype)
            for end in (qtype.lo, qtype.hi):
                far, y = Fraction(abs(end)), np.array([[end, 0]])
                for delta in (far, far - Fraction(1, 10**6)):
                    if delta < 0:
                        continue
                    hits = [bool(question(a, near(a, unit, 0), delta, sure=s).violated(np.zeros((1, 1), int), y)[0]) for s in (False, True)]
                    assert hits[0] or far <= delta
                    assert far > delta or not hits[1]

    def test_coefficients_and_bounds_stay_below_2_31(self):
        """p is 256 * scale / unit; the bound is floor(256 * delta / unit) + 1."""
        a = network(Quantisation(1.0, 0), outputs=1, qtype=QType(2, signed=True))

        def asked(p, delta):
            return question(a, near(a, Fraction(256, p), 0), delta, sure=True)

        most = (1 << 31) - 1
        assert int(asked(most, Fraction(0)).violation[0][0].outputs[0]) == -most
        with pytest.raises(UnsupportedError, match=r"^a.onnx: outputs of the scale 1 against steps of 1.19209e-07$"):
            asked(1 << 31, Fraction(0))
        assert asked(256, Fraction(most - 1, 256)).violation[0][0].bound == -most
        with pytest.raises(UnsupportedError, match=r"outputs of the scale 1 against steps of 1$"):
            asked(256, Fraction(most, 256))

    def test_what_outputs_mean(self):
        one, other = Quantisation(0.5, 3), Quantisation(0.25, 1)
        assert meaning_of_output(network(one)) == one
        assert meaning_of_output(network(one, dequantiser=other)) == other
        with pytest.raises(UnsupportedError, match=r"^a.onnx: its outputs stand for no real numbers; ask about the class \(--class\)$"):
            meaning_of_output(network(None))


@pytest.mark.parametrize("error", [(0, 0, 0), (Fraction(1, 4), Fraction(1, 2), Fraction(9, 8)), (1, Fraction(1, 3), Fraction(1, 6))])
def test_classes(error):
    """The original's class may be j where no other output beats it beyond both errors; it is j for sure where it beats all beyond them."""
    a, unit = network(None, outputs=3), Fraction(1, 2)
    close = near(a, unit, *error)
    y = np.array([(*p, *q) for p in [(0, 0, 1), (1, 1, 0), (0, 0, 0)] for q in product(range(-4, 5), repeat=3)])

    def reach(j, k):
        return (close.error[j] + close.error[k]) / unit

    possible, sure = [], []
    for row in y.tolist():
        ours, z = max(range(3), key=lambda i: (row[i], -i)), row[3:]
        others = [j for j in range(3) if j != ours]
        possible.append(any(all(z[k] - z[j] <= reach(j, k) for k in range(3) if k != j) for j in others))
        sure.append(any(all(z[j] - z[k] > math.floor(reach(j, k)) for k in range(3) if k != j) for j in others))
    for asked, expected in ((question(a, close, None, sure=False), possible), (question(a, close, None, sure=True), sure)):
        assert asked.violated(np.zeros((len(y), 3), int), y).tolist() == expected
        assert asked.text == "the class is that of real.onnx over the reals"


def test_the_original_s_class_is_the_first_of_its_largest_outputs():
    a = network(Quantisation(1.0, 0), outputs=3)
    weight = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    original = RealNetwork("real.onnx", "2" * 64, (1, 3), (Affine("last", weight, np.zeros(3, np.float32)),), ((3,), (3,)))
    assert not differ(a, original, np.array([5, 4, 3]), None)
    assert differ(a, original, np.array([4, 5, 3]), None)
    assert not differ(a, original, np.array([3, 1, 7]), None)


class Decides:
    """Stands for the pipeline: answers from a list, and what it was asked."""

    def __init__(self, monkeypatch, *answers):
        self.answers, self.asked = list(answers), []
        monkeypatch.setattr(module.pipeline, "decide", self)

    def __call__(self, query, options, progress):
        self.asked.append((query, options))
        verdict, x = self.answers.pop(0)
        witness = None if x is None else Witness(x, np.zeros(1, int), x)
        number = len(self.asked)
        stages = (StageReport(f"stage {number}", 0.0),)
        return Result(verdict, f"stage {number}", f"reason {number}", "", 0.0, stages, 0, "", "", "", witness, nodes=40 + number)


UNKNOWN, VERIFIED, FALSIFIED = (Verdict.UNKNOWN, None), (Verdict.VERIFIED, None), Verdict.FALSIFIED


class TestAnswers:
    def setup_method(self):
        self.a, self.original, self.box = pair(4)
        self.error = max(approximate(self.a, self.original, self.box).error)

    def ask(self, delta=Fraction(1, 8), **options):
        return compare(self.a, self.original, self.box, delta=delta, options=pipeline.Options(**options))

    def test_the_largest_error_is_told(self):
        self.a, self.original, self.box = pair(4, ("dense",))
        errors = approximate(self.a, self.original, self.box).error
        assert min(errors) < max(errors)
        assert self.ask().error == max(errors)

    def test_time_is_shared_between_the_questions(self, monkeypatch):
        decides = Decides(monkeypatch, UNKNOWN, UNKNOWN)
        found = self.ask(timeout=100)
        first, second = (options for _, options in decides.asked)
        assert 55 < first.timeout <= 60
        assert 95 < second.timeout <= 100
        assert first.runtimes is second.runtimes is False
        assert (found.answer, found.reason, found.stage, found.nodes) == (Answer.UNKNOWN, "reason 2", "stage 2", 42)
        assert [s.stage for s in found.stages] == ["stage 1", "stage 2"]
        assert 0 <= found.seconds < 60
        decides.answers += [UNKNOWN, UNKNOWN]
        self.ask(timeout=0)
        assert [0 < options.timeout < 0.01 for _, options in decides.asked[2:]] == [True, True]
        decides.answers += [UNKNOWN, UNKNOWN]
        self.ask()
        assert [options.timeout for _, options in decides.asked[4:]] == [None, None]

    def test_equal(self, monkeypatch):
        decides = Decides(monkeypatch, VERIFIED)
        found = self.ask()
        assert (found.answer, found.reason, found.stage, found.nodes) == (Answer.EQUAL, "reason 1", "stage 1", 0)
        assert len(decides.asked) == 1
        assert 0 <= found.seconds < 60

    def test_open_within_the_error(self, monkeypatch):
        Decides(monkeypatch, UNKNOWN, VERIFIED)
        found = self.ask()
        near = f"come within the approximation's error, {float(2 * self.error):.3g}, of a difference; whether one makes it is open"
        assert (found.answer, found.stage) == (Answer.UNKNOWN, "stage 2")
        assert found.reason == f"inputs of the box {near}"

    @pytest.mark.parametrize("runtimes", [False, True])
    def test_an_input_that_parts_them(self, monkeypatch, runtimes):
        asked = []

        def reading(network, x, *, runtimes=True):
            asked.append(runtimes)
            return Witness(x, x, x)

        monkeypatch.setattr(module.replay, "reading", reading)
        x = self.box.lo
        Decides(monkeypatch, (FALSIFIED, x))
        found = self.ask(delta=Fraction(0), runtimes=runtimes)
        assert (found.answer, found.stage, asked) == (Answer.DIFFERS, "stage 1", [runtimes])
        assert 0 <= found.seconds < 60
        assert len(found.reals) == 3

    def test_an_input_that_only_the_error_lets_through(self, monkeypatch):
        decides = Decides(monkeypatch, (FALSIFIED, self.box.lo), UNKNOWN)
        assert self.ask(delta=Fraction(1000)).answer is Answer.UNKNOWN
        sure = [int(query.property.violation[0][0].bound) for query, _ in decides.asked]
        assert sure[1] < sure[0]

    def test_an_input_that_parts_them_for_sure_and_does_not(self, monkeypatch):
        Decides(monkeypatch, UNKNOWN, (FALSIFIED, self.box.lo))
        with pytest.raises(InternalError, match="an input that should part the network and its original does not"):
            self.ask(delta=Fraction(1000))
