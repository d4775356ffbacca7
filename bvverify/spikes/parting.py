"""Where the two readings of the threshold part on one input: the first neuron whose potential is the threshold itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bvverify.model.types import Int64Array
from bvverify.spikes.network import Spiking, run


@dataclass(frozen=True)
class Parting:
    """Neuron ``neuron`` of layer ``layer`` (from 1) spikes at ``loose`` where ``>=`` is enough and at ``strict`` where ``>`` is needed.

    At step ``loose`` its potential is the threshold: the sum of ``terms``, pairs of an input of that layer and its weight (grid units).
    """

    layer: int
    neuron: int
    loose: int
    strict: int
    terms: tuple[tuple[int, int], ...]


def parting(network: Spiking, times: Int64Array) -> Parting | None:
    """The first neuron of the first layer in which the readings differ; None where every spike is the same."""
    strict = run(replace(network, strict=True), times[None])
    loose = run(replace(network, strict=False), times[None])
    for number, weight in enumerate(network.weights, 1):
        different = np.flatnonzero(strict[number][0] != loose[number][0])
        if not len(different):
            continue
        # The layers before agree, so that one potential has two readings: it is the threshold.
        neuron = int(different[np.argmin(loose[number][0][different])])
        at = int(loose[number][0][neuron])
        inputs = np.flatnonzero(loose[number - 1][0] < at)
        terms = tuple((int(i), int(weight[neuron, i])) for i in inputs if weight[neuron, i])
        return Parting(number, neuron, at, int(strict[number][0][neuron]), terms)
    return None
