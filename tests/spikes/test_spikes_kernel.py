"""The kernel for spikes accepts a single step exactly where enumeration says so."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import tiny_spikes as tiny

from bvverify.spikes import kernel
from bvverify.spikes.ask import Question
from bvverify.spikes.network import Spiking
from bvverify.spikes.node import root
from bvverify.spikes.points import points

LIMITS = [(0, None), (1, None), (2, None), (3, None), (None, 1), (2, 1)]


def accepted(asked, steps):
    """Whether the kernel takes a proof."""
    try:
        kernel.check(asked, steps)
    except kernel.Rejected:
        return False
    return True


@pytest.mark.parametrize(("total", "each"), LIMITS)
def test_a_run_holds_exactly_where_nothing_violates(total, each):
    rng, seen = np.random.default_rng([total or 9, each or 9]), set()
    for number in range(40):
        asked = tiny.question(rng, hidden=1 + number % 2, total=total, each=each)
        holds = next(tiny.violations(asked), None) is None
        assert accepted(asked, [["run"]]) == holds, number
        seen.add(holds)
    assert len(seen) == 2 or total == 0


@pytest.mark.parametrize(("total", "each"), LIMITS)
def test_a_bound_holds_exactly_where_intervals_of_times_do(total, each):
    """Those of the first layer are what its potentials attain; behind it every time within is taken for possible."""
    rng, seen = np.random.default_rng([total or 9, each or 9, 1]), set()
    for number in range(60):
        asked = tiny.question(rng, total=total, each=each)
        asked = replace(asked, label=asked.label if number % 3 else int(rng.integers(3)))
        hidden = _intervals(asked, 0, points(asked, root(asked)))
        inputs = np.array(list(product(*[range(lo, hi + 1) for lo, hi in hidden])))
        outputs = _intervals(asked, 1, inputs)
        own = outputs[asked.label][1]
        holds = all(own < lo or (own == lo and not asked.ties and asked.label < k) for k, (lo, _) in enumerate(outputs) if k != asked.label)
        assert accepted(asked, [["bound"]]) == holds, number
        seen.add(holds)
    assert seen == {True, False}


def _intervals(asked, number, inputs):
    """For each neuron of a layer: the first step at which some potential passes, and at which all do."""
    net = asked.network
    found = []
    for row in net.weights[number].tolist():
        potentials = [[sum(w for w, s in zip(row, x, strict=True) if s < t) for x in inputs.tolist()] for t in range(1, net.steps - 1)]
        passes = [[p > net.threshold or (p == net.threshold and not net.strict) for p in at] for at in potentials]
        first = [next((t for t, at in enumerate(passes, 1) if some(at)), net.steps - 1) for some in (any, all)]
        found.append(tuple(first))
    return found


@pytest.fixture
def asked():
    """Three inputs of which the second and third can never decide anything."""
    network = Spiking("three", (np.array([[9, 0, 0], [0, 0, 0]]), np.array([[9, 0], [0, 0]])), 4, 8, 0, True)
    return Question(network, np.array([0, 3, 7]), 0, 2, None, False)


def test_splits_at_their_edges(asked):
    kernel.check(asked, [["group", 0, [0, 1, 2]], *[["run"]] * 3])
    kernel.check(asked, [["group", 0, []], *[["run"]] * 3])
    for number in (-1, 1):
        assert not accepted(asked, [["group", number, [0]], *[["run"]] * 3])
    free = replace(asked, total=None, each=1)
    for index, at, fits in (
        (1, 1, False),
        (1, 2, True),
        (1, 3, True),
        (1, 4, False),
        (2, 6, True),
        (2, 7, False),
        (3, 3, False),
        (-2, 3, False),
    ):
        assert accepted(free, [["input", index, at], ["run"], ["run"]]) == fits, (index, at)
    assert kernel.check(free, [["input", 1, 2], ["run"], ["bound"]]) == {"bound": 1, "run": 1}


def test_both_parts_of_a_split_input_are_closed():
    """The one holds, the other does not, whichever it is."""
    net = Spiking("one", (np.array([[9, 0], [0, 9]]), np.array([[9, 0], [0, 9]])), 4, 8, 0, True)
    early, late = (Question(net, np.array([a, b]), 0, None, 1, True) for a, b in ((2, 4), (2, 3)))
    assert accepted(early, [["input", 1, 4], ["run"], ["run"]]) == (next(tiny.violations(early), None) is None)
    assert not accepted(late, [["input", 1, 2], ["run"], ["run"]])
    assert not accepted(late, [["input", 0, 2], ["run"], ["run"]])


def test_a_run_of_too_many_inputs_is_refused(asked, monkeypatch):
    size = len(points(asked, root(asked)))
    monkeypatch.setattr(kernel, "MOST_RUNS", size)
    kernel.check(asked, [["run"]])
    monkeypatch.setattr(kernel, "MOST_RUNS", size - 1)
    with pytest.raises(kernel.Rejected, match=f"step 0: a run of more than {size - 1} inputs"):
        kernel.check(asked, [["run"]])
