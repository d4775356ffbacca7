"""The bit-vector formula of a spiking question has the models that enumeration finds."""

import numpy as np
import pytest
import tiny_spikes as tiny
import z3

from bvverify.spikes.ask import replays
from bvverify.spikes.encode import smt2


@pytest.mark.parametrize(("total", "each"), [(0, None), (1, None), (3, None), (None, 1), (3, 1), (60, None)])
def test_models_are_violations(total, each):
    rng, seen = np.random.default_rng([total or 9, each or 9]), set()
    for number in range(16):
        asked = tiny.question(rng, hidden=1 + number % 2, total=total, each=each)
        solver = z3.Solver()
        solver.from_string(smt2(asked))
        answer = solver.check()
        seen.add(str(answer))
        assert answer == (z3.unsat if next(tiny.violations(asked), None) is None else z3.sat), number
        if answer == z3.sat:
            model = {d.name(): model_value.as_long() for d in solver.model() if (model_value := solver.model()[d]) is not None}
            assert replays(asked, np.array([model.get(f"s_0_{i}", 0) for i in range(len(asked.times))]))
    assert len(seen) == 2 or total == 0
