"""The kernel for flipped bits: proofs that hold, and proofs that were tampered with."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from tiny_flips import decided, holds, question, with_all

from bvverify.bitflip import kernel, proof_file
from bvverify.bitflip.ask import Flip, Question, applied
from bvverify.bitflip.flips import NONE, units
from bvverify.bitflip.node import ranges_of, slots_of
from bvverify.errors import InputError
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Dense
from bvverify.model.query import Box
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.staircase import Staircase
from bvverify.model.types import QType, Tensor
from bvverify.run import interpreter


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


def wide(margin=150):
    """As ``pair``, where the label has a weight of which two bits count: bit 7 takes 128 from it, bit 6 takes 64."""
    asked, x = pair(margin)
    (op,) = asked.network.ops
    changed = Dense.of("layer", 0, np.array([[100, 0], [0, 0]]), np.array([margin - 100, 0]), op.staircase)
    return replace(asked, network=replace(asked.network, ops=(changed,))), x


class TestWhatViolates:
    def test_the_same_parameter_counts_once(self):
        asked, x = wide()
        first, second = Flip(0, (0, 0), 128), Flip(0, (0, 0), 64)
        assert interpreter.run(with_all(asked, [first, second]), x[None])[0].argmax() == 1
        assert asked.violated(x, [first, second]) is None
        assert replace(asked, bits=2).violated(x, [Flip(0, (0, 0), 192)]) == 1
        assert asked.violated(x, [Flip(0, (0, 0), 192)]) is None

    def test_no_more_parameters_than_allowed(self):
        asked, x = wide()
        both = [Flip(0, (0, 0), 128), Flip(0, (1, 0), 64)]
        assert asked.violated(x, both) == 1
        assert replace(asked, parameters=1).violated(x, both) is None

    def test_no_input_outside(self):
        asked, x = wide()
        both = [Flip(0, (0, 0), 128), Flip(0, (1, 0), 64)]
        assert asked.violated(x + np.array([2, 0]), both) is None
        assert replace(asked, box=Box.of(x, x + np.array([2, 0]))).violated(x + np.array([2, 0]), both) == 1

    def test_biases_are_their_own(self):
        asked, x = wide()
        asked = replace(asked, kinds=("bias",), parameters=1)
        assert asked.violated(x, [Flip(0, (0,), 1 << 30)]) is None
        assert asked.violated(x, [Flip(0, (1,), 1 << 9)]) == 1
        again = applied(applied(asked.network, asked.parts(), Flip(0, (1,), 1 << 9)), asked.parts(), Flip(0, (1,), 1 << 9))
        assert np.array_equal(again.ops[0].bias, asked.network.ops[0].bias)


def test_by_default_one_bit_of_one_parameter():
    asked, _ = wide()
    default = Question(asked.network, asked.box, 0, ("weight",), None)
    assert (default.bits, default.parameters) == (1, 1)


def test_the_digest_is_of_all_that_is_asked():
    asked, _ = wide()
    (op,) = asked.network.ops
    lo, hi = asked.box.lo, asked.box.hi
    others = [
        replace(asked, box=Box.of(lo + np.array([1, 0]), hi)),
        replace(asked, box=Box.of(lo, hi + np.array([0, 1]))),
        replace(asked, label=1),
        replace(asked, bits=2),
        replace(asked, parameters=1),
        replace(asked, kinds=("bias",)),
        replace(asked, layers=("layer",)),
        replace(asked, network=replace(asked.network, provenance=replace(asked.network.provenance, semantics="another"))),
        replace(asked, network=replace(asked.network, provenance=replace(asked.network.provenance, sha256="1" * 64))),
        replace(asked, network=replace(asked.network, ops=(replace(op, weight=op.weight + 1),))),
        replace(asked, network=replace(asked.network, ops=(replace(op, bias=op.bias + 1),))),
    ]
    digests = [asked.sha256, *(other.sha256 for other in others)]
    assert len(set(digests)) == len(digests)
    assert asked.sha256 == replace(asked).sha256


def test_a_flip_that_is_made_leaves_the_other_slots():
    asked, _ = wide()
    parts = asked.parts()
    both = slots_of(asked, parts, units(parts), ranges_of(asked.network, asked.box))
    single = both[0].at(slice(0, 1))
    network, left = kernel.applying(asked.network, [single, both[1], both[0]], 0, parts)
    flip = single.flip(0, parts)
    assert network.ops[0].weight[flip.place] == parts[0].flipped(flip.mask)[flip.place]
    assert [len(slot) for slot in left] == [len(both[1]), len(both[0]) - 8]
    assert {f.place for f in (left[1].flip(k, parts) for k in range(len(left[1]))) if f is not None} == {(0, 0), (0, 1)} - {flip.place}
    nothing = both[0].at(both[0].part == NONE)
    network, left = kernel.applying(asked.network, [both[1], nothing], 1, parts)
    assert network is asked.network
    assert [len(slot) for slot in left] == [len(both[1])]


def test_a_parameter_is_another_one_in_another_layer():
    """What is hit already is left out of slots of the same unit and kind, and of no other."""
    rng = np.random.default_rng(0)
    for kinds in (("dense", "dense"), ("conv", "dense")):
        asked, _ = question(rng, kinds, layers=9, most=10**9)
        asked = replace(asked, kinds=("weight", "bias"))
        parts = asked.parts()
        for slot in slots_of(asked, parts, units(parts), ranges_of(asked.network, asked.box)):
            mine = [slot.flip(k, parts) for k in range(len(slot))]
            for number, part in enumerate(parts):
                for place in list(np.ndindex(*part.values.shape))[:12]:
                    left = slot.without(Flip(number, place, 1), parts)
                    assert [left.flip(k, parts) for k in range(len(left))] == [
                        f for f in mine if f is None or (f.part, f.place) != (number, place)
                    ]


class TestSteps:
    """What is no step where it stands."""

    @pytest.mark.parametrize(
        "step", [["split", -1, 1], ["split", 1, 1], ["split", 0, 0], ["split", 0, -1], ["apply", 0], ["apply", 1], ["none"]]
    )
    def test_at_the_root(self, proved, step):
        asked, _, found = proved
        rejected(asked, (step, *found.steps[1:]), found.certificates, "^step 0: .* is no step here")

    def test_beyond_the_last(self, proved):
        asked, _, found = proved
        flips = slots_of(asked, asked.parts(), units(asked.parts())[:1], ranges_of(asked.network, asked.box))
        for step in (["split", 0, len(flips[0])], ["leaf", len(found.certificates)]):
            rejected(asked, (step, *found.steps[1:]), found.certificates, "^step 0: .* is no step here")
        k = next(k for k, step in enumerate(found.steps) if step[0] == "apply")
        for step in (["apply", -1], ["apply", 1], ["split", 0, 1]):
            rejected(asked, (*found.steps[:k], step, *found.steps[k + 1 :]), found.certificates, f"^step {k}: .* is no step here")
