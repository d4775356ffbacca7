"""Every flip against the network built anew with it, on networks of every operation."""

from itertools import combinations

import numpy as np
import pytest
import random_networks

from bvverify import examples
from bvverify.bitflip import single
from bvverify.bitflip.stored import Stored, masks, stored, with_flip
from bvverify.cli.question import read_input
from bvverify.errors import UnsupportedError
from bvverify.load.load import load
from bvverify.load.profile import with_accumulator
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Conv2d, Dense
from bvverify.model.requant import Qnnpack, reach
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, Tensor
from bvverify.run import interpreter


def test_masks_are_every_choice():
    assert masks(3, 1).tolist() == [1, 2, 4]
    assert masks(3, 2).tolist() == [1, 2, 4, 3, 5, 6]
    assert len(set(masks(8, 2).tolist())) == len(masks(8, 2)) == 8 + 28


@pytest.mark.parametrize(("bits", "signed"), [(8, True), (8, False), (4, True), (32, True)])
def test_a_flipped_integer_is_that_of_its_bits(bits, signed):
    lo, hi = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    values = np.unique(np.linspace(lo, hi, 40).astype(np.int64))
    part = Stored(0, "weight", values, bits, signed)
    for mask in masks(bits, 2).tolist():
        found = part.flipped(mask)
        assert ((found >= lo) & (found <= hi)).all()
        for before, after in zip(values.tolist(), found.tolist(), strict=True):
            text, other = (format(v & ((1 << bits) - 1), f"0{bits}b") for v in (before, after))
            assert {bits - 1 - i for i in range(bits) if text[i] != other[i]} == {b for b in range(bits) if mask >> b & 1}


def brute(network, x, part, flips):
    """Each flipped network built and run whole."""
    label, out = single.predicted(network, x), {}
    for n in range(1, flips + 1):
        for chosen in combinations(range(part.bits), n):
            mask = sum(1 << b for b in chosen)
            for place in np.ndindex(*part.values.shape):
                y = interpreter.run(with_flip(network, part, place, mask), x[None]).reshape(-1)
                found = int(y.argmax())
                out[mask, place] = single.SAME if found == label else found
    return out


@pytest.mark.parametrize("kinds", [("dense",), ("conv",), ("conv", "max"), ("add", "conv"), ("concat", "dense"), ("mean", "table"), None])
@pytest.mark.parametrize("seed", range(3))
def test_it_equals_brute_force(kinds, seed):
    rng = np.random.default_rng(seed)
    network = random_networks.network(rng, kinds)
    x = rng.integers(network.input.tensor.qtype.lo, network.input.tensor.qtype.hi + 1, network.input.tensor.shape)
    for part in stored(network):
        if part.kind == "bias":
            part = Stored(part.op, "bias", part.values, 12, True)  # of 32 bits the lowest twelve, so that it ends
        flips = 2 if part.values.size * part.bits < 200 else 1
        found = single.find(network, x, part, flips)
        expected = brute(network, x, part, flips)
        assert found.outcome.shape == (len(masks(part.bits, flips)), *part.values.shape)
        got = {
            (int(mask), place): int(found.outcome[k][place])
            for k, mask in enumerate(found.masks)
            for place in np.ndindex(*part.values.shape)
        }
        assert got == expected
        assert found.count == sum(v >= 0 for v in expected.values())


def test_flips_change_classes():
    """The bundled networks have vulnerable bits, mostly high ones; each of a sample is confirmed by the flipped network."""
    for name in ("digits_mlp_qop.onnx", "digits_cnn_qop.onnx"):
        network = load(examples.path(name))
        x = read_input(network, f"{examples.path(examples.IMAGES)}::7").x
        label, rng, total = single.predicted(network, x), np.random.default_rng(0), 0
        for part in stored(network):
            found = single.find(network, x, part, 1)
            total += found.count
            hits = np.argwhere(found.outcome != single.SAME)
            for row in rng.permutation(len(hits))[:20]:
                k, *place = hits[row].tolist()
                flipped = with_flip(network, part, tuple(place), int(found.masks[k]))
                assert single.predicted(flipped, x) == found.outcome[tuple(hits[row])] != label
            if part.kind == "weight" and found.count:
                by_bit = (found.outcome >= 0).reshape(8, -1).sum(axis=1)
                assert by_bit[7] >= by_bit[0]
        assert total > 10


def test_accumulators_that_no_runtime_is_modelled_for_are_named():
    """High bits of a bias move the accumulator beyond the reach of a float32 product that is converted to int32."""
    staircase = Staircase(Qnnpack(np.array([2.0, 0.01], np.float32), 0), -128, 127)
    op = Dense.of("layer", 0, np.array([[1, 2], [-3, 4]]), np.array([5, -6]), staircase)
    tensors = Tensor("x", (2,), INT8), Tensor("y", (2,), INT8)
    made = Provenance("made", "made", "made", "0" * 64)
    network = Network(Input(tensors[0], (1, 2)), (op,), tensors, Output(1, (1, 2)), made)
    x = np.array([7, -9])
    (part,) = stored(network, ["bias"])
    found, acc, ends = single.find(network, x, part, 1), interpreter.accumulate(op, x[None])[0], reach(staircase.requant)
    for k, mask in enumerate(found.masks.tolist()):
        moved = interpreter.wrap(acc + part.flipped(mask) - part.values, 32)
        assert ((found.outcome[k] == single.BEYOND) == (np.abs(moved) > ends)).all()
    assert (found.outcome == single.BEYOND).any()


class TestWhatIsStored:
    def test_weights_and_biases_of_the_layers_asked_for(self):
        network = load(examples.path("digits_cnn_qop.onnx"))
        layers = [op.name for op in network.ops if isinstance(op, Dense | Conv2d)]
        assert [network.ops[p.op].name for p in stored(network, ["weight"])] == layers
        assert {p.kind for p in stored(network, layers=layers[:1])} == {"weight", "bias"}
        assert {p.op for p in stored(network, layers=layers[:1])} == {stored(network)[0].op}
        assert all((p.bits, p.signed) == ((8, True) if p.kind == "weight" else (32, True)) for p in stored(network))

    def test_saturating_pairs_are_refused(self):
        network = load(examples.path(examples.BRIGHT), with_accumulator(None, "saturating-pairs"))
        with pytest.raises(UnsupportedError, match="saturating pairs"):
            stored(network)
