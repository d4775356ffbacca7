"""Tiny spiking networks whose questions can be enumerated."""

from itertools import pairwise, product

import numpy as np

from bvverify.spikes.ask import Question
from bvverify.spikes.network import Spiking


def network(rng, shape, steps, *, strict=True):
    """Random weights that make most neurons spike somewhere in the middle; small ones, so that potentials hit the threshold."""
    weights = tuple(rng.integers(-3, 7, (b, a)) for a, b in pairwise(shape))
    return Spiking("tiny", weights, 4, steps, 0, strict)


def question(rng, *, hidden=1, total=2, each=None):
    """A random question, both thresholds and both readings of ties."""
    steps = int(rng.integers(4, 8))
    shape = (int(rng.integers(2, 6)), *rng.integers(2, 5, hidden).tolist(), 3)
    net = network(rng, shape, steps, strict=bool(rng.integers(2)))
    times = rng.integers(0, steps, shape[0])
    ties = bool(rng.integers(2))
    return Question(net, times, int(scalar(net, times.tolist())[1]), total, each, ties)


def scalar(net, times):
    """Output times and class from the definition, in Python's integers, neuron by neuron."""
    layer = list(times)
    for weight in net.weights:
        now = []
        for row in weight.tolist():
            spike = net.steps - 1
            for t in range(1, net.steps - 1):
                potential = sum(w for w, s in zip(row, layer, strict=True) if s <= t - 1)
                if potential > net.threshold or (not net.strict and potential == net.threshold):
                    spike = t
                    break
            now.append(spike)
        layer = now
    return layer, layer.index(min(layer))


def violations(asked):
    """Every allowed input that violates the question, by enumeration."""
    spans = [range(asked.network.steps)] * len(asked.times)
    for moved in product(*spans):
        shifts = [abs(a - b) for a, b in zip(moved, asked.times.tolist(), strict=True)]
        if (asked.total is not None and sum(shifts) > asked.total) or (asked.each is not None and max(shifts) > asked.each):
            continue
        if violates(asked, *scalar(asked.network, moved)):
            yield np.array(moved)


def violates(asked, outputs, chosen):
    """Whether output times and a class violate the question, from its words."""
    return chosen != asked.label or (asked.ties and any(t <= outputs[asked.label] for k, t in enumerate(outputs) if k != asked.label))
