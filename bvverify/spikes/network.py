"""What a time-to-first-spike network is, and its exact run (Seong, Kim, Ko 2024; neurons as in Kheradpisheh and Masquelier's S4NN, 2020).

Time is 0 … steps - 1. A neuron's potential at step t is the sum of the weights of the inputs that spiked before t; it spikes at the first
step in 1 … steps - 2 at which its potential passes the threshold, and at steps - 1 if it never does. The class is the first index of
the earliest output spike. "Passes" has two readings in the authors' own code: ``strict`` is their NumPy's ``>``, and ``strict=False``
their Z3's ``>=``. The two are different functions; no verdict about one says anything about the other.

The files hold float64 weights. Here they are integers on a grid of ``2^-grid``, rounded half to even, and so is the threshold: all that is
said is about that network, and potentials are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bvverify.model.types import Int64Array

_EXACT = 2**53


@dataclass(frozen=True, eq=False)
class Spiking:
    """``weights[l]`` int64 (neurons, inputs) in units of ``2^-grid``, ``threshold`` in the same units."""

    name: str
    weights: tuple[Int64Array, ...]
    threshold: int
    steps: int
    grid: int
    strict: bool

    @property
    def inputs(self) -> int:
        """How many input spikes there are."""
        return int(self.weights[0].shape[1])

    @property
    def reading(self) -> str:
        """What a verdict has to name: the threshold's reading, the steps and the grid."""
        return f"time-to-first-spike:threshold={'>' if self.strict else '>='},steps={self.steps},grid=2^-{self.grid}"

    @cached_property
    def passes(self) -> int:
        """The least integer potential that makes a neuron spike."""
        return self.threshold + self.strict

    @cached_property
    def exact_floats(self) -> bool:
        """Whether every partial sum of weights is an integer that float64 holds exactly."""
        return all(int(np.abs(w).sum(axis=1, dtype=object).max(initial=0)) < _EXACT for w in self.weights)


def run(network: Spiking, times: Int64Array) -> list[Int64Array]:
    """The spike times of every layer for inputs' ``times`` (n, inputs): one array (n, neurons) a layer, the inputs' own first."""
    layers = [times]
    for weight in network.weights:
        layers.append(layer(network, layers[-1], weight))
    return layers


def layer(network: Spiking, times: Int64Array, weight: Int64Array) -> Int64Array:
    """The spike times (n, neurons) of a layer whose inputs spike at ``times`` (n, inputs)."""
    return first_passing(network, lambda t: product(network, times <= t - 1, weight), (len(times), len(weight)))


def first_passing(network: Spiking, potential: Callable[[int], Int64Array], shape: tuple[int, ...]) -> Int64Array:
    """The first step at which ``potential(t)`` of ``shape`` passes; the last step where none does."""
    found = np.full(shape, network.steps - 1, np.int64)
    for t in range(network.steps - 2, 0, -1):
        found[potential(t) >= network.passes] = t
    return found


def product(network: Spiking, spiked: np.ndarray, weight: Int64Array) -> Int64Array:
    """Sums of weights (…, neurons) over the inputs that have spiked (…, inputs), exactly."""
    if network.exact_floats:
        return (spiked.astype(np.float64) @ weight.T.astype(np.float64)).astype(np.int64)
    return spiked.astype(np.int64) @ weight.T


def predicted(outputs: Int64Array) -> Int64Array:
    """The classes (n,) for output spike times (n, classes): the first index of the earliest."""
    return outputs.argmin(axis=1)


def spike_times(values: Int64Array, steps: int) -> Int64Array:
    """When the inputs of values 0 … 255 spike: bright ones first."""
    return (255 - values) * (steps - 1) // 255


def values_of(times: Int64Array, steps: int) -> Int64Array:
    """The largest value of 0 … 255 that spikes at each time; every time has one where ``steps`` is at most 256."""
    return 255 - -(-times * 255 // (steps - 1))
