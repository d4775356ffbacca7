"""Small questions about flipped bits, and their answer by trying every flip at every input."""

from itertools import combinations, product

import numpy as np
import random_networks

from bvverify.bitflip import proof_file, search
from bvverify.bitflip.ask import Flip, Question, applied
from bvverify.bitflip.flips import units
from bvverify.bitflip.stored import masks
from bvverify.model.query import Box
from bvverify.run import interpreter

KINDS = [("dense",), ("conv",), ("add", "conv"), ("concat", "dense"), ("mean", "table"), ("dense", "dense"), None]


def inputs_of(box):
    """Every input of a box, (batch, *shape)."""
    axes = [np.arange(a, b + 1) for a, b in zip(box.lo.ravel(), box.hi.ravel(), strict=True)]
    return np.array(list(product(*axes)), np.int64).reshape(-1, *box.lo.shape)


def flips_of(question):
    """Every flip of one parameter."""
    return [
        Flip(number, place, int(mask))
        for number, part in enumerate(question.parts())
        for place in np.ndindex(*part.values.shape)
        for mask in masks(part.bits, question.bits)
    ]


def choices(question):
    """Every choice of flips in different parameters, none included."""
    single = flips_of(question)
    for count in range(question.parameters + 1):
        for chosen in combinations(single, count):
            if len({(f.part, f.place) for f in chosen}) == count:
                yield chosen


def with_all(question, flips):
    network = question.network
    for flip in flips:
        network = applied(network, question.parts(), flip)
    return network


def holds(question):
    """Whether no choice changes the class at any input."""
    xs = inputs_of(question.box)
    classes = (interpreter.run(with_all(question, chosen), xs).reshape(len(xs), -1).argmax(axis=1) for chosen in choices(question))
    return all((found == question.label).all() for found in classes)


def question(rng, kinds, *, bits=1, parameters=1, most=60_000, moving=3, layers=None):
    """A question about some layers of a random network whose choices times inputs are at most so many; ``x`` with it."""
    while True:
        network = random_networks.network(rng, kinds)
        tensor = network.input.tensor
        x = rng.integers(tensor.qtype.lo, tensor.qtype.hi + 1, tensor.shape)
        lo, hi = x.ravel().copy(), x.ravel().copy()
        free = rng.permutation(tensor.size)[:moving]
        hi[free] = np.minimum(hi[free] + 1, tensor.qtype.hi)
        box = Box.of(lo.reshape(tensor.shape), hi.reshape(tensor.shape))
        label = int(interpreter.run(network, x[None]).ravel().argmax())
        every = Question(network, box, label, ("weight",), None, bits, parameters)
        names = [network.ops[part.op].name for part in every.parts()]
        some = tuple(rng.permutation(names)[: layers or int(rng.integers(1, len(names) + 1))].tolist())
        made = Question(network, box, label, ("weight",), some, bits, parameters)
        if len(flips_of(made)) ** parameters * 2**moving <= most:
            return made, x


def decided(asked, x, expected=None):
    """What the search finds, its proof or its flips checked, and the verdict against ``expected`` (whether it holds)."""
    found = search.search(asked, x, 120)
    if found.verdict == "verified":
        report = proof_file.checked(asked, found.steps, found.certificates)
        assert report.leaves == len(found.certificates) == sum(step[0] == "leaf" for step in found.steps)
        assert report.choices == len(units(asked.parts())) ** asked.parameters if asked.parameters == 1 else report.choices > 0
    elif found.verdict == "falsified":
        assert asked.box.contains(found.x)
        assert len(found.flips) <= asked.parameters
        y = interpreter.run(with_all(asked, found.flips), found.x[None]).ravel()
        assert y.argmax() == asked.violated(found.x, found.flips) != asked.label
    if expected is not None:
        assert found.verdict == ("verified" if expected else "falsified")
    return found
