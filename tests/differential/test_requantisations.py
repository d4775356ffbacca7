"""Requantisations at their steps against the runtimes and formulas; the long version is scripts/bench fidelity and fidelity_torch."""

import pytest
from benchmarks._requantisations import DRAWS, Draw, count


@pytest.mark.parametrize("name", DRAWS)
def test_apply_and_thresholds_at_their_steps(name):
    wrong, outputs = count(DRAWS[name], 40_000)
    assert outputs >= 40_000
    assert wrong == 0


def test_a_mismatch_on_either_side_counts():
    def wrong(rng):
        made = DRAWS["shift-half-up"](rng)
        applied, stepped = made.applied.copy(), made.stepped.copy()
        applied[0], stepped[1] = applied[0] + 1, stepped[1] - 1
        return Draw(applied, stepped, made.expected)

    assert count(wrong, 1)[0] == 2
