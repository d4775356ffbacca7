"""Exact runs of many inputs close to one: only the steps and spikes at which they differ are summed again."""

from __future__ import annotations

import numpy as np

from bvverify.model.types import Int64Array
from bvverify.spikes.network import Spiking, first_passing, layer, product

_ROWS = 1024


class Near:
    """Runs around the inputs ``times`` (inputs,)."""

    def __init__(self, network: Spiking, times: Int64Array) -> None:
        self.network, self.times = network, times
        steps = np.arange(network.steps - 2)[:, None]
        self.potentials = product(network, times <= steps, network.weights[0])  # (steps - 2, neurons), at 1 … steps - 2

    def outputs(self, inputs: Int64Array) -> Int64Array:
        """The spike times (n, classes) of the last layer for inputs (n, inputs)."""
        return self.layers(inputs)[-1]

    def layers(self, inputs: Int64Array) -> list[Int64Array]:
        """The spike times of every layer for inputs (n, inputs), which come first."""
        parts = [self._layers(inputs[i : i + _ROWS]) for i in range(0, len(inputs), _ROWS)]
        return [np.concatenate(layer) for layer in zip(*parts, strict=True)]

    def margins(self, before: Int64Array, label: int) -> Int64Array:
        """How far (n,) the best other class is from spiking while the label has not, in potential; heuristic, for the attack.

        ``before`` (n, neurons) are the spike times of the last layer's inputs.
        """
        network = self.network
        best, silent = np.full(len(before), -(2**62)), np.full(len(before), 2**62)
        for t in range(1, network.steps - 1):
            potentials = product(network, before < t, network.weights[-1])
            others = np.delete(potentials, label, axis=1).max(axis=1)
            best = np.maximum(best, np.minimum(others - network.passes, silent))
            silent = np.minimum(silent, network.passes - 1 - potentials[:, label])
        return best

    def _layers(self, inputs: Int64Array) -> list[Int64Array]:
        network = self.network
        moved = np.flatnonzero((inputs != self.times).any(axis=0))
        some, base, weight = inputs[:, moved], self.times[moved], network.weights[0][:, moved]
        earliest, latest = np.minimum(some.min(axis=0, initial=network.steps), base), np.maximum(some.max(axis=0, initial=0), base)

        def first(t: int) -> Int64Array:
            columns = np.flatnonzero((earliest < t) & (latest >= t))
            if not len(columns):
                return np.broadcast_to(self.potentials[t - 1], (len(inputs), len(weight)))
            change = (some[:, columns] < t).astype(np.int8) - (base[columns] < t)
            return self.potentials[t - 1] + product(network, change, weight[:, columns])

        found = [inputs, first_passing(network, first, (len(inputs), len(weight)))]
        for later in network.weights[1:]:
            found.append(layer(network, found[-1], later))
        return found
