"""A conjunction of several rows, of which one carries the bound: the search closes it as it closes that row alone."""

import numpy as np

from bvverify import examples, pipeline
from bvverify.load.load import load
from bvverify.model.result import Verdict
from bvverify.radii import Around
from bvverify.run import interpreter


def test_a_class_that_cannot_be_reached_on_the_bundled_network():
    net = load(examples.path("digits_mlp_qop.onnx"))
    x = interpreter.quantise_input(net, np.load(examples.path(examples.IMAGES))["images"][5:6])[0]
    query = Around.of(net, x, None, 3).query(4)
    assert len(query.property.violation[0]) == 9
    options = pipeline.Options(stages=frozenset({"interval", "root", "search"}), most_nodes=1000, runtimes=False)
    result = pipeline.decide(query, options)
    assert result.verdict is Verdict.VERIFIED
    assert result.checked.complete
