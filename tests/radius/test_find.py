"""Both radii: equal to enumeration on tiny networks; adjacent, and each with a proof that holds, on the bundled network."""

import numpy as np
import pytest
import random_networks

from bvverify import examples, pipeline, radii
from bvverify.certify import kernel
from bvverify.errors import UsageError
from bvverify.load.load import load
from bvverify.model.query import Box
from bvverify.model.result import Verdict
from bvverify.run import interpreter, replay

QUIET = pipeline.Options(runtimes=False)


def _tiny(seed):
    """A network of at most 2^12 inputs, all of them, their classes, and one to start from."""
    rng = np.random.default_rng(seed)
    while True:
        net = random_networks.network(rng)
        qtype, shape = net.input.tensor.qtype, net.input.tensor.shape
        if qtype.bits * net.input.tensor.size <= 12:
            x = random_networks.points(Box.of(np.full(shape, qtype.lo), np.full(shape, qtype.hi)))
            classes = interpreter.run(net, x).reshape(len(x), -1).argmax(axis=1)
            return net, x, classes, int(rng.integers(len(x)))


def _check(around, ends):
    """Both sides: the kernel on the certificate, the interpreter on the witness."""
    assert ends.settled
    if ends.verified is not None:
        assert ends.holds.verdict is Verdict.VERIFIED
        kernel.check(ends.holds.certificates[0], around.query(ends.verified))
    if ends.falsified is not None:
        witness = ends.fails.witness.input
        assert replay.violates(around.query(ends.falsified), witness[None])[0]
        assert np.abs(witness - around.x).max() == ends.falsified


def _expected(x, centre, violates):
    """The Chebyshev distance of the nearest violation; None where there is none."""
    distance = np.abs(x - centre).reshape(len(x), -1).max(axis=1)
    return int(distance[violates].min()) if violates.any() else None


@pytest.mark.parametrize("block", range(4))
def test_enumeration_finds_the_same_radii(block):
    falsified = 0
    for seed in range(block * 4, block * 4 + 4):
        net, x, classes, at = _tiny(seed)
        own, target = int(classes[at]), seed % 3
        asked = [(radii.Around.of(net, x[at]), classes != own), (radii.Around.of(net, x[at], None, target), classes == target)]
        for around, violates in asked:
            ends = radii.find(around, None, QUIET)
            nearest = _expected(x, x[at], violates)
            assert ends.falsified == nearest, seed
            assert ends.verified == (around.farthest if nearest is None else nearest - 1 if nearest else None), seed
            _check(around, ends)
            falsified += bool(nearest)
    assert falsified > 0


def test_searches_that_are_left_and_taken_up_again_find_the_same(monkeypatch):
    """With budgets of a few nodes every radius is asked about many times; bounds and attacks alone decide none."""
    monkeypatch.setattr(radii, "_BUDGET", 1)
    monkeypatch.setattr(radii, "_GROWTH", 2)
    monkeypatch.setattr(radii, "_BOUNDS", frozenset())
    monkeypatch.setattr(radii, "_SEARCH", frozenset({"clean input", "root", "search"}))
    again = 0
    for seed in range(100, 108):
        net, x, classes, at = _tiny(seed)
        around = radii.Around.of(net, x[at])
        ends = radii.find(around, None, QUIET)
        assert ends.falsified == _expected(x, x[at], classes != classes[at]), seed
        _check(around, ends)
        searched = [q.radius for q in ends.asked if q.nodes]
        again += len(searched) - len(set(searched))
    assert again > 0


def _digits():
    """The network, twenty images, and ten of them moved by one pixel."""
    net = load(examples.path("digits_mlp_qop.onnx"))
    images = np.load(examples.path(examples.IMAGES))["images"].astype(np.float32)
    return net, interpreter.quantise_input(net, np.concatenate([images, np.roll(images[:10], 1, axis=-1)]))


def test_the_two_radii_of_thirty_digits_are_adjacent_and_proved():
    net, images = _digits()
    largest = set()
    for x in images:
        around = radii.Around.of(net, x)
        ends = radii.find(around, None, QUIET)
        _check(around, ends)
        assert ends.falsified == ends.verified + 1
        largest.add(ends.verified)
    assert len(largest) > 3


def test_a_maximum_ends_it():
    net, images = _digits()
    around = radii.Around.of(net, images[5])
    whole = radii.find(around, None, QUIET)
    for maximum in (0, whole.verified - 1, whole.verified, whole.falsified, whole.falsified + 1):
        ends = radii.find(around, maximum, QUIET)
        _check(around, ends)
        assert ends.verified == min(maximum, whole.verified)
        assert ends.falsified == (whole.falsified if maximum >= whole.falsified else None)
        assert not ends.everywhere


def test_what_is_known_when_the_time_runs_out_is_certain():
    net, images = _digits()
    for x in images[:4]:
        around = radii.Around.of(net, x)
        whole = radii.find(around, None, QUIET)
        for seconds in (1e-9, 0.05, 0.2):
            ends = radii.find(around, None, pipeline.Options(timeout=seconds, runtimes=False))
            assert ends.verified <= whole.verified
            kernel.check(ends.holds.certificates[0], around.query(ends.verified))
            assert ends.falsified is None or ends.falsified >= whole.falsified
            assert ends.settled or "ran out" in ends.reason


def test_no_time_at_all_leaves_radius_0():
    net, images = _digits()
    ends = radii.find(radii.Around.of(net, images[0]), None, pipeline.Options(timeout=1e-9))
    assert (ends.verified, ends.falsified, ends.settled) == (0, None, False)


def test_a_wrong_label_has_no_radius():
    net, images = _digits()
    around = radii.Around.of(net, images[5], 3)
    ends = radii.find(around, None, QUIET)
    _check(around, ends)
    assert (ends.verified, ends.falsified, ends.holds) == (None, 0, None)


def test_questions_that_make_no_sense():
    net, images = _digits()
    with pytest.raises(UsageError, match="two questions"):
        radii.Around.of(net, images[0], 1, 2)
    for label, target in ((10, None), (None, -1)):
        with pytest.raises(UsageError, match="no class"):
            radii.Around.of(net, images[0], label, target)
    with pytest.raises(UsageError, match="negative"):
        radii.find(radii.Around.of(net, images[0]), -1)
    with pytest.raises(UsageError, match="engine"):
        radii.find(radii.Around.of(net, images[0]), None, pipeline.Options(engine="smt"))
