"""Two model files: the input that their quantisers have in common, outputs of two scales, and every answer against enumeration."""

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import random_networks
from test_against_enumeration import other_reading

from bvverify import pipeline
from bvverify.compare import asked
from bvverify.compare.align import align, starts
from bvverify.compare.answer import Answer
from bvverify.compare.compare import compare
from bvverify.errors import UnsupportedError
from bvverify.model.box import dequantise, quantise
from bvverify.model.network import Input, Output
from bvverify.model.query import Box
from bvverify.model.types import Cells, QType, Quantisation, Tensor
from bvverify.run import interpreter


@pytest.mark.parametrize("qtype", [QType(8, False), QType(8, True), QType(3, True)])
@pytest.mark.parametrize("scale", [1 / 255, 0.5, 3.7e-5, 12.25])
def test_a_quantisers_steps_are_where_it_steps(scale, qtype):
    for zero in (qtype.lo, (qtype.lo + qtype.hi) // 2, qtype.hi):
        quantiser = Quantisation(float(np.float32(scale)), zero)
        found = starts(quantiser, qtype)
        levels = np.arange(qtype.lo + 1, qtype.hi + 1)
        assert (np.diff(found) > 0).all()
        assert np.array_equal(quantise(found, quantiser, qtype), levels)
        assert np.array_equal(quantise(np.nextafter(found, np.float32(-np.inf)), quantiser, qtype), levels - 1)


@pytest.mark.parametrize("seed", range(40))
def test_a_half_plane_holds_the_pairs_that_differ(seed):
    """All pairs of two small types, for scales of any ratio and reach."""
    rng = np.random.default_rng(seed)
    one, other = (Quantisation(float(np.float32(np.exp(rng.normal()))), int(rng.integers(-5, 6))) for _ in range(2))
    if seed % 4 == 0:
        other = replace(other, scale=one.scale)
    ys, zs = ((int(lo), int(lo + rng.integers(1, 40))) for lo in rng.integers(-20, 5, 2))
    delta = Fraction(int(rng.integers(0, 60)), 8) if seed % 3 else Fraction(0)
    y, z = np.meshgrid(np.arange(ys[0], ys[1] + 1), np.arange(zs[0], zs[1] + 1))
    reals = [[Fraction(m.scale) * (int(v) - m.zero_point) for v in w.ravel()] for m, w in ((one, y), (other, z))]
    expected = [p > q + delta for p, q in zip(*reals, strict=True)]
    found = asked.half_plane(one, ys, other, zs, delta)
    if found is None:
        assert not any(expected)
        return
    p, q, bound = found
    assert (p > 0, q > 0) == (True, True)
    assert (p * y - q * z >= bound).ravel().tolist() == expected


def two(seed, *, same_scale=False):
    """A random network of few inputs between float ends, and another version of it behind another quantiser."""
    rng = np.random.default_rng(seed)
    while True:
        a = random_networks.network(rng)
        if a.input.tensor.size <= 2 and a.input.tensor.qtype.bits <= 3:
            break
    b = other_reading(rng, a, sums=True)
    ends = []
    for network, digest in ((a, "a"), (b, "b")):
        tensor = network.input.tensor
        scale = np.float32(0.25 if same_scale else rng.choice([0.25, 0.3, 0.5, 0.2]))
        zero = int(rng.integers(tensor.qtype.lo, tensor.qtype.hi + 1))
        out = Quantisation(float(np.float32(rng.choice([0.1, 0.125]))), int(rng.integers(-3, 4)))
        quantiser = Quantisation(float(scale), 0 if same_scale else zero)
        made = replace(
            network,
            input=Input(tensor, network.input.file_shape, quantiser),
            output=Output(network.output.tensor, network.output.file_shape, out),
            provenance=replace(network.provenance, sha256=digest * 64, path=f"{digest}.onnx"),
        )
        ends.append(made)
    return ends


def _reals(a, b):
    """For every step of either quantiser the first number behind it and the last one before: every pair of integers that occurs."""
    every = np.union1d(*(starts(n.input.quantiser, n.input.tensor.qtype) for n in (a, b)))
    return np.unique(np.concatenate([every, np.nextafter(every, np.float32(-np.inf))]))


def _outputs(network, reals):
    integers = interpreter.quantise_input(network, reals)
    return interpreter.run(network, integers).reshape(len(reals), -1)


@pytest.mark.parametrize("question", ["outputs", "delta", "class"])
def test_the_answer_is_that_of_enumeration_over_real_inputs(question):
    seen = {Answer.EQUAL: 0, Answer.DIFFERS: 0}
    for seed in range(400):
        if min(seen.values()) >= 3:
            break
        a, b = two(seed)
        reals = np.array(list(product(_reals(a, b), repeat=a.input.tensor.size)), np.float32).reshape(-1, *a.input.file_shape[1:])
        ours, theirs = _outputs(a, reals), _outputs(b, reals)
        delta = Fraction(1, 2) if question == "delta" else Fraction(0)
        if question == "class":
            parts = bool((ours.argmax(1) != theirs.argmax(1)).any())
        else:
            scales = [Fraction(n.output.dequantiser.scale) for n in (a, b)]
            zeros = [n.output.dequantiser.zero_point for n in (a, b)]
            parts = any(
                abs(scales[0] * (int(y) - zeros[0]) - scales[1] * (int(z) - zeros[1])) > delta
                for y, z in {*zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True)}
            )
        expected = Answer.DIFFERS if parts else Answer.EQUAL
        if seen[expected] >= 3:
            continue
        common = align(a, b)[0].input.tensor
        box = Box.of(np.full(common.shape, common.qtype.lo), np.full(common.shape, common.qtype.hi))
        made = compare(a, b, box, by_class=question == "class", delta=delta, options=pipeline.Options(timeout=60, runtimes=False))
        assert made.answer is expected, seed
        if made.answer is Answer.DIFFERS:
            # The witness is a real input, which each file quantises for itself.
            x = made.witnesses[0].file_input
            found = [_outputs(n, x)[0] for n in (a, b)]
            assert all(np.array_equal(y, w.output.ravel()) for y, w in zip(found, made.witnesses, strict=True))
            if question == "class":
                assert found[0].argmax() != found[1].argmax()
        seen[expected] += 1
    assert min(seen.values()) >= 3, seen


@pytest.mark.parametrize("seed", range(30))
def test_aligned_networks_compute_what_their_files_do(seed):
    a, b = two(seed, same_scale=seed % 3 == 0)
    ours, theirs = align(a, b)
    assert ours.input.tensor == theirs.input.tensor
    steps = _reals(a, b)
    rng = np.random.default_rng(seed)
    reals = rng.choice(steps, (50, *a.input.file_shape[1:])).astype(np.float32)
    common = quantise(reals, ours.input.quantiser, ours.input.tensor.qtype).reshape(-1, *ours.input.tensor.shape)
    # A table may have to move A's or B's output to its own integers again, never to others.
    assert np.array_equal(interpreter.run(ours, common).reshape(50, -1), _outputs(a, reals))
    assert np.array_equal(interpreter.run(theirs, common).reshape(50, -1), _outputs(b, reals))
    # What stands for a common integer is one of its reals.
    qtype = ours.input.tensor.qtype
    every = np.arange(qtype.lo, qtype.hi + 1)
    if isinstance(ours.input.quantiser, Cells):
        every = np.arange(len(ours.input.quantiser.starts) + 1)
    assert np.array_equal(quantise(dequantise(every, ours.input.quantiser), ours.input.quantiser, qtype), every)


def test_equal_integers_of_two_scales_are_not_equal_outputs():
    """The same network twice, its output on another scale: the class is the same by agreement, the outputs are not."""
    a, _ = two(0)
    other = replace(a.output, dequantiser=replace(a.output.dequantiser, scale=2 * a.output.dequantiser.scale))
    b = replace(a, output=other, provenance=replace(a.provenance, sha256="b" * 64, path="b.onnx"))
    shape, qtype = a.input.tensor.shape, a.input.tensor.qtype
    box = Box.of(np.full(shape, qtype.lo), np.full(shape, qtype.hi))
    options = pipeline.Options(timeout=60, runtimes=False)
    by_class, outputs = (compare(a, b, box, by_class=c, options=options) for c in (True, False))
    assert (by_class.answer, by_class.stage) == (Answer.EQUAL, "agreement")
    assert outputs.answer is Answer.DIFFERS
    far = compare(a, b, box, delta=Fraction(1000), options=options)
    assert far.answer is Answer.EQUAL
    assert far.certificates


def test_files_that_do_not_read_the_same_are_refused():
    a, b = two(0)
    wide = replace(b, input=replace(b.input, file_shape=(1, 7)))
    with pytest.raises(UnsupportedError, match="their inputs have the shapes"):
        align(a, wide)
    with pytest.raises(UnsupportedError, match="one takes real numbers, the other integers"):
        align(a, replace(b, input=replace(b.input, quantiser=None)))
    integers = [replace(n, input=replace(n.input, quantiser=None)) for n in (a, b)]
    other = integers[1].input.tensor
    kind = QType(other.qtype.bits + 1, other.qtype.signed)
    integers[1] = replace(integers[1], input=replace(integers[1].input, tensor=Tensor(other.name, other.shape, kind)))
    with pytest.raises(UnsupportedError, match="they take integers of the types"):
        align(*integers)
