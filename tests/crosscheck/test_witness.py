"""What a claimed witness does: held against the box, the type, the property and the outputs that its file claims."""

import json

import numpy as np
import pytest

from bvverify import examples, pipeline
from bvverify.crosscheck.witness import check
from bvverify.errors import InternalError
from bvverify.load import property_file
from bvverify.load.arrays import read_input
from bvverify.load.load import load
from bvverify.model.query import Query
from bvverify.run import interpreter, replay

SAMPLE, RADIUS = 7, 3


@pytest.fixture(scope="module")
def query():
    network = load(examples.path("digits_mlp_qop.onnx"))
    x = read_input(f"{examples.path(examples.IMAGES)}::{SAMPLE}", network).x
    return pipeline.robustness_query(network, x, RADIUS, 3)


@pytest.fixture(scope="module")
def violating(query):
    return pipeline.attack_only(query, pipeline.Options(runtimes=False)).witness.input


def _spec(x):
    return json.dumps(np.asarray(x).ravel().tolist())


def test_a_witness_replays(query, violating):
    found = check(_spec(violating), [query])
    assert (found.replays, found.outside, found.violates) == (True, 0, True)
    assert found.input == tuple(violating.ravel().tolist())
    assert found.outputs == tuple(interpreter.run(query.network, violating[None]).ravel().tolist())
    assert found.predicted == int(np.argmax(found.outputs)) != 3


def test_only_a_witness_makes_falsified(query, violating):
    made = pipeline.suggested(query, violating)
    assert (str(made.verdict), made.stage) == ("falsified", "claimed witness")
    assert made.witness.input.tolist() == violating.tolist()
    with pytest.raises(InternalError, match="does not replay"):
        pipeline.suggested(query, query.nominal)


def test_the_clean_input_is_none_and_its_margin_is_said(query):
    found = check(_spec(query.nominal), [query])
    assert not found.replays
    assert not found.violates
    outputs = interpreter.run(query.network, query.nominal[None]).ravel()
    best = max(int(v) for i, v in enumerate(outputs) if i != 3)
    assert found.problem == f"inside the box, but it is class 3: its output is {outputs[3]}, the next largest {best} (class 9)"


def test_outside_the_box_by_how_much_and_what_it_is_there(query, violating):
    x = violating.copy()
    x[0, 4, 3], x[0, 0, 0] = query.box.hi[0, 4, 3] + 5, query.box.hi[0, 0, 0] + 2
    found = check(_spec(x), [query])
    assert (found.replays, found.outside, found.furthest, found.element) == (False, 2, 5, 8 * 4 + 3)
    assert found.problem.startswith("outside the box: 2 of 64 values, by up to 5 steps (value 35 is ")
    assert f"there it is class {found.predicted}" in found.problem


def test_outside_the_type_nothing_is_computed(query):
    x = query.nominal.copy()
    x[0, 0, 1] = 256
    found = check(_spec(x), [query])
    assert (found.problem, found.outputs, found.element) == ("value 1 is 256, and the input is uint8", None, 1)


def test_a_file_that_cannot_be_read_is_the_problem(query):
    assert "cannot be read" in check("nowhere.json", [query]).problem


def test_outputs_that_the_file_claims_are_held_against_the_devices(query, violating, tmp_path):
    y = interpreter.declared_output(query.network, interpreter.run(query.network, violating[None])).ravel()
    inputs = "".join(f"(X_{i} {v / 16})" for i, v in enumerate(violating.ravel().tolist()))
    file = tmp_path / "w.counterexample"
    for value, note in ((float(y[2]), ""), (float(y[2]) + 1, f"the file says Y_2 is {float(y[2]) + 1:g}; it is {float(y[2]):g}")):
        file.write_text(f"sat\n({inputs}(Y_2 {value}))")
        found = check(str(file), [query])
        assert found.replays
        assert found.note.removeprefix("through the model's quantiser").removeprefix("; ") == note


def test_every_input_of_the_type_is_judged_as_replay_judges_it(query):
    rng = np.random.default_rng(0)
    for _ in range(200):
        x = np.clip(query.nominal + rng.integers(-4, 5, query.nominal.shape), 0, 255)
        found = check(_spec(x), [query])
        assert found.replays == bool(replay.violates(query, x[None])[0])
        assert (found.outside == 0) == query.box.contains(x)


def test_of_several_boxes_the_nearest_counts(query, violating):
    network = query.network
    cases = property_file.read(examples.path(examples.PROPERTY), network)
    far = [Query(network, box, prop) for box, prop in cases]
    assert check(_spec(violating), [*far, query]).replays
    alone = check(_spec(violating), far)
    assert not alone.replays
    assert alone.problem.startswith("outside the box")
    assert "the property" in alone.problem
