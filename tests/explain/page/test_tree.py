"""The bounds that the page shows at the nodes of a certificate hold for every input that is in them."""

import numpy as np
import pytest
from units import accumulators

from bvverify import examples, pipeline
from bvverify.explain.page import tree
from bvverify.load.load import load
from bvverify.model.certificate import INPUT
from bvverify.run import interpreter


@pytest.fixture(scope="module")
def proved():
    """A question that takes a search, its certificate, and points of its box, half of them at corners."""
    network = load(examples.path("digits_mlp_qop.onnx"))
    with np.load(examples.path(examples.IMAGES)) as images:
        x = interpreter.quantise_input(network, images[images.files[0]][13:14])[0]
    query = pipeline.robustness_query(network, x, 3)
    result = pipeline.decide(query, pipeline.Options(threads=1))
    assert result.checked is not None
    assert result.checked.splits > 1
    rng = np.random.default_rng(0)
    inside = rng.integers(query.box.lo, query.box.hi + 1, (400, *x.shape))
    corners = np.where(rng.integers(0, 2, inside.shape), query.box.lo, query.box.hi)
    return query, result.certificates[0], np.concatenate([inside, corners])


def members(query, data, points):
    """By node: which points it holds, and the violation's excess at every point."""
    tensors = interpreter.trace(query.network, points)
    acc = accumulators(query.network, tensors)
    assert INPUT in acc
    inside = []
    for k, node in enumerate(data["nodes"]):
        if node["parent"] < 0:
            inside.append(np.ones(len(points), bool))
            continue
        parent = data["nodes"][node["parent"]]
        second = any(other["parent"] == node["parent"] for other in data["nodes"][:k])
        value = acc[parent["op"]][:, parent["unit"]]
        inside.append(inside[node["parent"]] & (value > parent["value"] if second else value <= parent["value"]))
    return inside, acc, tensors[query.network.output.tensor].reshape(len(points), -1)


def test_bounds_hold(proved):
    query, certificate, points = proved
    data = tree.tree_data(query, certificate)
    inside, acc, y = members(query, data, points)
    kinds = [node["kind"] for node in data["nodes"]]
    assert kinds == [["split", "interval", "bound", "solver"][k] for k in certificate.forest.kind]
    checked = 0
    for node, here in zip(data["nodes"], inside, strict=True):
        if not here.any():
            continue
        (row,) = query.property.violation[node["conjunction"]]
        excess = int((y[here] @ row.outputs - row.bound).min())
        assert node["interval"] <= excess
        if "bound" in node:
            assert float(node["bound"]) <= excess
            checked += 1
        if node["kind"] == "split":
            values = acc[node["op"]][here, node["unit"]]
            assert node["lo"] <= values.min() <= values.max() <= node["hi"]
        if node["kind"] == "bound":
            assert node["closes"]
        if node["kind"] == "interval":
            assert node["interval"] > 0
    assert checked > len(query.property.violation)


def test_bounds_improve_downwards_somewhere(proved):
    query, certificate, _ = proved
    data = tree.tree_data(query, certificate)
    roots = [n for n in data["nodes"] if n["kind"] == "split"]
    assert roots
    assert any(not n["closes"] for n in roots)


def test_deep_nodes_are_counted(proved, monkeypatch):
    query, certificate, _ = proved
    whole = tree.tree_data(query, certificate)
    monkeypatch.setattr(tree, "MOST_NODES", 12)
    cut = tree.tree_data(query, certificate)
    assert len(cut["nodes"]) <= 12 < len(whole["nodes"]) == cut["total"]
    parents = {n["parent"] for n in cut["nodes"]}
    hidden = sum(n["descendants"] for k, n in enumerate(cut["nodes"]) if k not in parents)
    assert len(cut["nodes"]) + hidden == cut["total"]


def test_text():
    from bvverify.model.query import Linear, Property

    (first, *_) = Property.robustness(2, 4).violation
    assert tree._conjunction_text(first, 2) == "class 0 wins: y2 − y0 ≤ 0"
    row = Linear(np.array([0, -3, 1]), -7, np.array([2, 0]))
    assert tree._conjunction_text((row,), None) == "y2 + 2·x0 − 3·y1 ≤ −7"
    assert (tree._rounded_down(-1, 3), tree._rounded_down(1, 3), tree._rounded_down(-6, 2)) == ("-0.334", "0.333", "-3.000")
