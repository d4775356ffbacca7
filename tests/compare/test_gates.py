"""The gates of an operation are met by exactly the inputs on which it parts, and the pipeline decides whether there are any."""

import numpy as np
import random_networks
from compare.test_against_enumeration import other_reading

from bvverify import pipeline
from bvverify.compare import gates
from bvverify.compare.joint import join
from bvverify.model.ops import inputs
from bvverify.model.result import Verdict
from bvverify.run import interpreter


def test_gates_open_where_the_operation_parts():
    met = missed = decided = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        a = random_networks.network(rng)
        box = random_networks.box(rng, a, 1 << 8)
        b = other_reading(rng, a)
        x = random_networks.points(box)
        joint = join(a, b, box)
        before = interpreter.trace(a, x)
        for start in joint.starts:
            query = gates.question(a, b, start, box, joint.bounds, None)
            if query is None:
                continue
            reads = [before[t] for t in inputs(a.ops[start.op])]
            ours, theirs = (interpreter.evaluate(n.ops[start.op], reads).reshape(len(x), -1) for n in (a, b))
            parts = (ours != theirs).any(axis=1)
            opened = pipeline.replay.violates(query, x)
            assert np.array_equal(opened, parts), seed
            met, missed = met + bool(parts.any()), missed + (not parts.any())
            if decided < 12:
                decided += 1
                result = pipeline.decide(query, pipeline.Options(timeout=60, runtimes=False))
                assert result.verdict is (Verdict.FALSIFIED if parts.any() else Verdict.VERIFIED), seed
    assert min(met, missed) > 2, (met, missed)
