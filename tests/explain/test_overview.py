"""The overview of a run against the calculations of all its neurons, on random networks of every operation."""

from fractions import Fraction

import numpy as np
import random_networks

from bvverify.explain.neuron import Run, calculate
from bvverify.explain.overview import overview
from bvverify.run import interpreter

HALF = Fraction(1, 2)


def test_the_nearest_are_the_nearest():
    seen, wrapped = set(), False
    for seed in range(60):
        rng = np.random.default_rng(seed)
        network = random_networks.network(rng)
        x = rng.integers(network.input.tensor.qtype.lo, network.input.tensor.qtype.hi + 1, network.input.tensor.shape)
        run = Run(network, x, tuple(t[0] for t in interpreter.trace(network, x[None])))
        for layer in overview(run):
            made = {e: calculate(run, layer.layer, e) for e in np.ndindex(layer.shape)}
            assert (layer.least, layer.largest) == (min(c.output for c in made.values()), max(c.output for c in made.values()))
            looked_at = [c for c in made.values() if c.rounding is not None and c.rounding.rule != "float-mean"]
            if not looked_at:
                assert layer.nearest == ()
                continue
            real = {c.element: c.rounding.value + c.rounding.zero_point for c in looked_at}
            ends = looked_at[0].rounding.lo - HALF, looked_at[0].rounding.hi + HALF
            inside = {e: v for e, v in real.items() if ends[0] <= v <= ends[1]}
            assert layer.saturated_low + layer.saturated_high == len(real) - len(inside)
            for near in layer.nearest:
                seen.add((near.kind, layer.operation))
                match near.kind:
                    case "tie":
                        assert abs(near.distance) == min(abs(made[e].rounding.distance) for e in inside)
                        assert near.distance == made[near.element].rounding.distance
                    case "saturation":
                        assert near.distance == min(min(v - ends[0], ends[1] - v) for v in inside.values())
                    case "overflow":
                        assert near.distance == min(c.accumulator.headroom for c in made.values())
                        wrapped |= near.distance < 0
                assert near.value == real[near.element]
    assert seen >= {("tie", "Dense"), ("tie", "Conv2d"), ("tie", "Add"), ("tie", "AvgPool"), ("overflow", "Conv2d"), ("saturation", "Add")}
    assert wrapped  # narrow accumulators are among them
