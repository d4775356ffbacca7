"""The kernel for flipped bits: proofs that hold, and proofs that were tampered with."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from tiny_flips import decided, holds, question

from bvverify.bitflip import kernel, proof_file
from bvverify.bitflip.ask import Question
from bvverify.errors import InputError
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Dense
from bvverify.model.query import Box
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import QType, Tensor


def drawn(seed, kinds):
    """A question of this seed whose answer is yes, with a proof of more than leaves."""
    asked, x = question(np.random.default_rng(seed), kinds, most=1_500, moving=2)
    assert holds(asked)
    return asked, decided(asked, x, True)


@pytest.fixture(scope="module", params=[(59, ("dense",)), (126, ("conv",))], ids=str)
def proved(request):
    asked, found = drawn(*request.param)
    return asked, None, found


def test_proofs_go_down_to_single_flips_where_they_must(proved):
    _, _, found = proved
    assert {step[0] for step in found.steps} >= {"leaf", "split", "apply"}


def pair(margin):
    """Two outputs of two inputs, of which the second is 0: the label is ahead by ``margin``.

    One flip takes 128 from it or gives the rival 64; two flips in one parameter, which nobody may make, would take 256.
    """
    op = Dense.of("layer", 0, np.array([[0, 5], [0, 3]]), np.array([margin, 0]), Staircase(ShiftHalfUp(0), -1024, 1023))
    tensors = Tensor("x", (2,), QType(2, signed=False)), Tensor("y", (2,), QType(11, signed=True))
    made = Provenance("made", "made", "made", "0" * 64)
    network = Network(Input(tensors[0], (1, 2)), (op,), tensors, Output(1, (1, 2)), made)
    return Question(network, Box.of(np.array([0, 0]), np.array([1, 0])), 0, ("weight",), None, 1, 2), np.array([1, 0])


@pytest.mark.parametrize("margin", [191, 224, 256])
def test_no_parameter_is_hit_twice(margin):
    asked, x = pair(margin)
    found = decided(asked, x, holds(asked))
    assert (found.verdict == "verified") == (margin >= 192)
    if 192 <= margin < 256:
        assert {step[0] for step in found.steps} >= {"leaf", "split", "apply"}
        for k, step in enumerate(found.steps):
            if step[0] == "apply":
                rejected(asked, (*found.steps[:k], ["leaf", 0], *found.steps[k + 1 :]), found.certificates)
        # Without the rule the proof would not do: its certificates are about other things.
        rejected(replace(asked, parameters=1), found.steps, found.certificates)


def test_an_accumulator_that_wraps_is_followed():
    """What is added is not bounded together where it wraps: those flips are made one by one, and change the class."""
    op = Dense.of("layer", 0, np.array([[1], [1]]), np.array([40, 0]), Staircase(ShiftHalfUp(0), -128, 127), accumulator_bits=8)
    tensors = Tensor("x", (1,), QType(4, signed=False)), Tensor("y", (2,), QType(8, signed=True))
    network = Network(Input(tensors[0], (1, 1)), (op,), tensors, Output(1, (1, 2)), Provenance("made", "made", "made", "0" * 64))
    for x, reach in product(range(0, 14, 3), range(3)):
        asked = Question(network, Box.of(np.array([x]), np.array([x + reach])), 0, ("weight",), None)
        decided(asked, np.array([x]), holds(asked))


def rejected(asked, steps, certificates, words="."):
    with pytest.raises(kernel.Rejected, match=words):
        kernel.check(asked, steps, certificates)


class TestTampering:
    def test_a_step_is_missing(self, proved):
        asked, _, found = proved
        for k in {0, 1, len(found.steps) // 2, len(found.steps) - 1}:
            rejected(asked, found.steps[:k] + found.steps[k + 1 :], found.certificates)

    def test_a_step_too_many(self, proved):
        asked, _, found = proved
        rejected(asked, (*found.steps, ["leaf", 0]), found.certificates, "nothing is left")

    def test_a_leaf_with_another_s_certificate(self, proved):
        asked, _, found = proved
        leaves = [k for k, step in enumerate(found.steps) if step[0] == "leaf"]
        known = {c.statement.lo.tobytes() + c.statement.hi.tobytes() for c in found.certificates}
        assert len(known) > 1
        for a in leaves[:3]:
            mine = found.certificates[found.steps[a][1]].statement
            for b, other in enumerate(found.certificates[:12]):
                if mine.differs(other.statement):
                    rejected(asked, (*found.steps[:a], ["leaf", b], *found.steps[a + 1 :]), found.certificates, f"step {a}: ")

    def test_a_split_at_another_place(self, proved):
        asked, _, found = proved
        k = next(k for k, step in enumerate(found.steps) if step[0] == "split")
        moved = [["split", 0, found.steps[k][2] + by] for by in (-1, 1)] + [
            ["split", 0, 0],
            ["split", 0, 10**6],
            ["split", 1, 1],
            ["split", -1, 1],
        ]
        for step in moved:
            rejected(asked, (*found.steps[:k], step, *found.steps[k + 1 :]), found.certificates)

    def test_a_flip_made_before_one_is_left(self, proved):
        asked, _, found = proved
        k = next(k for k, step in enumerate(found.steps) if step[0] == "split")
        rejected(asked, (*found.steps[:k], ["apply", 0], *found.steps[k + 1 :]), found.certificates, f"step {k}: .* is no step here")

    @pytest.mark.parametrize(
        "step", [["leaf", 10**6], ["leaf", -1], ["leaf"], [], "leaf", ["none"], ["apply", 7], ["apply", -1], None, ["leaf", "0"], 3]
    )
    def test_what_is_no_step(self, proved, step):
        asked, _, found = proved
        rejected(asked, (step, *found.steps[1:]), found.certificates, "step 0: .* is no step here")

    def test_another_question(self, proved):
        asked, _, found = proved
        for other in (
            replace(asked, bits=2),
            replace(asked, parameters=2),
            replace(asked, label=(asked.label + 1) % 3),
            replace(asked, box=Box.of(asked.box.lo, np.minimum(asked.box.hi + 1, asked.network.input.tensor.qtype.hi))),
        ):
            rejected(other, found.steps, found.certificates)

    def test_a_solver_s_word_is_not_enough(self, proved, monkeypatch):
        asked, _, found = proved
        monkeypatch.setattr(proof_file.kernel, "check", lambda *_: replace(kernel.CheckReport(), solver_leaves=1))
        monkeypatch.setattr(proof_file.leaves, "check", lambda *_: proof_file.leaves.LeafReport(0, ((0, 0, "none"),), ""))
        with pytest.raises(kernel.Rejected, match="no proof"):
            proof_file.checked(asked, found.steps, found.certificates)


class TestFile:
    def test_there_and_back(self, proved, tmp_path):
        asked, _, found = proved
        file = tmp_path / "p.bvflips"
        file.write_bytes(proof_file.to_bytes(asked, found.steps, found.certificates))
        steps, certificates = proof_file.read(file, asked)
        assert steps == [list(step) for step in found.steps]
        assert kernel.check(asked, steps, certificates).leaves == len(found.certificates)

    def test_a_damaged_file_is_one_line(self, proved, tmp_path):
        asked, _, found = proved
        file, content = tmp_path / "p.bvflips", proof_file.to_bytes(asked, found.steps, found.certificates)
        rng = np.random.default_rng(0)
        for _ in range(60):
            damaged = bytearray(content)
            for at in rng.integers(0, len(damaged), rng.integers(1, 4)).tolist():
                damaged[at] ^= int(rng.integers(1, 256))
            file.write_bytes(bytes(damaged[: int(rng.integers(0, len(damaged)))] if rng.random() < 0.3 else damaged))
            complaint = None
            try:
                steps, certificates = proof_file.read(file, asked)
                kernel.check(asked, steps, certificates)
            except InputError as error:
                complaint = str(error)
            except kernel.Rejected:
                pass
            if complaint is not None:
                assert complaint.startswith(str(file))
                assert "\n" not in complaint

    @pytest.mark.parametrize("change", ["bits", "parameters", "label", "layers", "box"])
    def test_about_another_question(self, proved, tmp_path, change):
        asked, _, found = proved
        file = tmp_path / "p.bvflips"
        file.write_bytes(proof_file.to_bytes(asked, found.steps, found.certificates))
        other = {"bits": 2, "parameters": 2, "label": asked.label + 1, "layers": None, "box": Box.of(asked.box.lo, asked.box.lo)}[change]
        with pytest.raises(InputError, match="another network, input or question"):
            proof_file.read(file, replace(asked, **{change: other}))


def test_what_violates_a_question():
    """No more parameters, no more bits, no input outside the box, no parameter twice."""
    rng = np.random.default_rng(8)
    while True:
        asked, x = question(rng, ("dense",), parameters=1)
        found = decided(asked, x)
        if found.verdict == "falsified" and len(found.flips) == 1:
            break
    (flip,) = found.flips
    assert asked.violated(found.x, [flip]) is not None
    assert asked.violated(found.x, [flip, flip]) is None
    assert replace(asked, parameters=2).violated(found.x, [flip, flip]) is None
    assert asked.violated(found.x, [replace(flip, mask=flip.mask | (1 if flip.mask != 1 else 2))]) is None
    outside = found.x.copy()
    outside.flat[0] += 9
    assert asked.violated(outside, [flip]) is None
    assert replace(asked, label=asked.violated(found.x, [flip])).violated(found.x, [flip]) is None
