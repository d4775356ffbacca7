"""Verdicts about spiking networks equal enumeration; proofs hold, and damaged ones do not."""

import json
import random
import time
from dataclasses import replace

import numpy as np
import pytest
import tiny_spikes as tiny

from bvverify.spikes import bounds, kernel, search
from bvverify.spikes.ask import replays
from bvverify.spikes.attack import attack
from bvverify.spikes.near import Near
from bvverify.spikes.network import predicted, run, spike_times, values_of
from bvverify.spikes.node import root
from bvverify.spikes.points import count, points

NEVER = 1e9


def test_the_run_is_the_definition():
    rng = np.random.default_rng(0)
    at_threshold = 0
    for _ in range(60):
        net = tiny.network(rng, (4, 3, 3), 6, strict=bool(rng.integers(2)))
        inputs = rng.integers(0, 6, (20, 4))
        outputs = run(net, inputs)[-1]
        for x, out, chosen in zip(inputs, outputs, predicted(outputs), strict=True):
            assert (out.tolist(), chosen) == tiny.scalar(net, x.tolist())
        at_threshold += (outputs != run(replace(net, strict=not net.strict), inputs)[-1]).any()
    assert at_threshold > 30  # the two readings are different functions


@pytest.mark.parametrize("steps", [5, 20, 256])
def test_every_time_has_a_value(steps):
    assert spike_times(values_of(np.arange(steps), steps), steps).tolist() == list(range(steps))
    assert spike_times(np.array([255, 0]), steps).tolist() == [0, steps - 1]


@pytest.mark.parametrize(("total", "each"), [(0, None), (1, None), (2, None), (3, None), (4, None), (None, 1), (3, 1), (None, 2)])
@pytest.mark.parametrize("runs", [0, 8])
def test_verdicts_equal_enumeration(total, each, runs, monkeypatch):
    """With parts run one by one forced small, so that bounds and splits have to do the work."""
    monkeypatch.setattr(search, "RUN", 6 * runs)
    monkeypatch.setattr(search, "attack", lambda *_: None)
    rng = np.random.default_rng([total or 9, each or 9, runs])
    seen = {"verified": 0, "falsified": 0}
    for number in range(24):
        asked = tiny.question(rng, hidden=1 + number % 2, total=total, each=each)
        expected = next(tiny.violations(asked), None)
        found = search.search(asked, NEVER)
        assert found.verdict == ("verified" if expected is None else "falsified"), number
        seen[found.verdict] += 1
        if found.witness is not None:
            assert replays(asked, found.witness)
        else:
            closed = kernel.check(asked, [step.listed() for step in found.tree])
            assert sum(closed.values()) == sum(step.kind in closed for step in found.tree)
    assert min(seen.values()) > 0 or total == 0


def test_first_layer_bounds_are_attained():
    rng = np.random.default_rng(1)
    for _ in range(60):
        asked = tiny.question(rng, total=int(rng.integers(1, 5)))
        inputs = points(asked, root(asked))
        assert len(inputs) == count(asked, root(asked), 10**6)
        assert all(asked.allows(x) for x in inputs)
        before = np.arange(asked.network.steps - 2)[:, None]
        potentials = (inputs[:, None] <= before).astype(np.int64) @ asked.network.weights[0].T
        least, most = bounds.first_layer(asked, root(asked))
        assert (least == potentials.min(axis=0)).all()
        assert (most == potentials.max(axis=0)).all()


def test_runs_near_an_input_are_runs():
    rng = np.random.default_rng(2)
    for _ in range(20):
        asked = tiny.question(rng, hidden=2, total=3)
        inputs = points(asked, root(asked))
        assert (Near(asked.network, asked.times).outputs(inputs) == run(asked.network, inputs)[-1]).all()


def test_the_attack_finds_what_replays():
    rng, found = np.random.default_rng(3), 0
    for _ in range(60):
        asked = tiny.question(rng, total=3)
        near, layers = Near(asked.network, asked.times), bounds.layers(asked, root(asked))
        witness = attack(asked, near, layers[1], time.monotonic() + 60)
        if witness is not None:
            assert replays(asked, witness)
            found += 1
    assert found > 10


def _proof(monkeypatch):
    """A verified question whose proof has bounds, runs and splits of every kind."""
    monkeypatch.setattr(search, "RUN", 4 * 6)
    rng = np.random.default_rng(4)
    while True:
        asked = tiny.question(rng, total=4)
        found = search.search(asked, NEVER)
        steps = [step.listed() for step in found.tree]
        if found.verdict == "verified" and {"bound", "run", "group", "input"} <= {step[0] for step in steps}:
            return asked, steps


def test_proofs_are_about_what_they_say(monkeypatch):
    asked, steps = _proof(monkeypatch)
    kernel.check(asked, steps)
    for other in (
        replace(asked, total=40),
        replace(asked, label=(asked.label + 1) % 3),
        replace(asked, network=replace(asked.network, threshold=-9)),
        replace(asked, network=replace(asked.network, weights=(-asked.network.weights[0], asked.network.weights[1]))),
    ):
        if next(tiny.violations(other), None) is not None:
            with pytest.raises(kernel.Rejected):
                kernel.check(other, steps)


def test_tampered_proofs_are_rejected_with_the_place(monkeypatch):
    asked, steps = _proof(monkeypatch)
    split = next(i for i, step in enumerate(steps) if step[0] == "group")
    single = next(i for i, step in enumerate(steps) if step[0] == "input")
    outside = [i for i in range(len(asked.times)) if i not in steps[split][2]]
    for place, step, why in (
        (len(steps) - 1, None, "left open"),
        (0, ["bound"], "may spike"),
        (split, ["group", 7, steps[split][2]], "no group 7"),
        (split, ["group", 0, [*steps[split][2], 99]], "none of the group"),
        (split, ["group", 0, "x"], "no step"),
        (split, ["group", 0, [{}]], "no step"),
        (split, ["input", outside[0], 1], "outside the groups"),
        (single, ["input", steps[single][1], 99], "both sides"),
        (single, ["input", -1, 1], "outside the groups"),
        (single, ["solver"], "no step"),
        (single, {"bound": 1}, "no step"),
    ):
        damaged = list(steps)
        damaged[place : place + 1] = [] if step is None else [step]
        with pytest.raises(kernel.Rejected, match=why):
            kernel.check(asked, damaged)
    with pytest.raises(kernel.Rejected, match="nothing is left"):
        kernel.check(asked, [*steps, ["bound"]])


def test_no_damage_proves_what_is_false(monkeypatch):
    """Proofs of true questions, damaged at random and offered for false ones."""
    asked, steps = _proof(monkeypatch)
    rng, chance = np.random.default_rng(5), random.Random(6)
    rejected = 0
    for _ in range(400):
        other = replace(asked, times=rng.integers(0, asked.network.steps, len(asked.times)), label=int(rng.integers(3)))
        if next(tiny.violations(other), None) is None:
            continue
        damaged = json.loads(json.dumps(steps))
        for _ in range(chance.randint(0, 6)):
            place = chance.randrange(len(damaged))
            damaged[place : place + 1] = [chance.choice([["bound"], ["run"], chance.choice(steps)])] * chance.randint(0, 2)
        with pytest.raises(kernel.Rejected):
            kernel.check(other, damaged)
        rejected += 1
    assert rejected > 100
    with pytest.raises(kernel.Rejected, match="violates the question"):
        kernel.check(next(q for q in _false(asked)), [["run"]])


def _false(asked):
    """Questions of one input that are false."""
    for label in range(3):
        other = replace(asked, label=label, total=0)
        if next(tiny.violations(other), None) is not None:
            yield other


def test_time_that_runs_out_says_what_is_open():
    asked = tiny.question(np.random.default_rng(7))
    found = search.search(asked, -1.0)
    assert (found.verdict, found.open_parts) == ("unknown", 1)
