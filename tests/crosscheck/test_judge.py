"""The judgement as a table: every claim against every verdict, with and without a witness."""

import itertools

import pytest

from bvverify.crosscheck.judge import Status, judge
from bvverify.crosscheck.summary import Summary, exit_code
from bvverify.crosscheck.witness import Check
from bvverify.load.claims import Claimed

GOOD, BAD = Check(""), Check("outside the box")
V, F, N = Claimed.VERIFIED, Claimed.FALSIFIED, Claimed.NOTHING


@pytest.mark.parametrize(
    ("claimed", "verdict", "status"),
    [
        (V, "verified", Status.CONFIRMED),
        (V, "falsified", Status.REFUTED),
        (V, "misclassified", Status.REFUTED),
        (V, "unknown", Status.UNDECIDED),
        (F, "verified", Status.REFUTED),
        (F, "falsified", Status.CONFIRMED),
        (F, "misclassified", Status.CONFIRMED),
        (F, "unknown", Status.UNDECIDED),
        (N, "verified", Status.DECIDED),
        (N, "falsified", Status.DECIDED),
        (N, "misclassified", Status.MISCLASSIFIED),
        (N, "unknown", Status.UNDECIDED),
        (V, "error", Status.ERROR),
    ],
)
def test_without_a_witness(claimed, verdict, status):
    assert judge(claimed, verdict, None) is status


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        ("falsified", Status.NOT_REPLAYED),
        ("misclassified", Status.NOT_REPLAYED),
        ("unknown", Status.NOT_REPLAYED),
        ("verified", Status.REFUTED),
    ],
)
def test_a_bad_witness_is_never_a_confirmation(verdict, status):
    assert judge(F, verdict, BAD) is status


def test_a_good_witness_changes_nothing_that_the_verdict_says():
    for claimed, verdict in itertools.product(Claimed, ("falsified", "misclassified", "error")):
        assert judge(claimed, verdict, GOOD) is judge(claimed, verdict, None)


def _row(radius, status, **others):
    row = {"model": "a/m.onnx", "radius": radius, "input": "x", "claimed": "verified", "verdict": "falsified", "seconds": 2.0}
    return row | {"status": str(status)} | others


def test_groups_are_per_model_radius_and_source_and_count_a_questions_seconds_once():
    rows = [_row("10", Status.REFUTED), _row("10", Status.REFUTED), _row("2", Status.CONFIRMED), _row("2", Status.CONFIRMED, source="b")]
    groups = Summary(rows).groups()
    assert [(g.model, g.radius, g.source, g.claims) for g in groups] == [
        ("m.onnx", "2", "", 1), ("m.onnx", "2", "b", 1), ("m.onnx", "10", "", 2)
    ]  # fmt: skip
    assert groups[2].seconds == 2.0
    assert groups[2].as_object()["statuses"] == {"refuted": 2}


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ((Status.CONFIRMED, Status.DECIDED, Status.MISCLASSIFIED), 0),
        ((Status.CONFIRMED, Status.UNDECIDED), 5),
        ((Status.NOT_REPLAYED,), 5),
        ((Status.ERROR,), 5),
        ((Status.UNDECIDED, Status.REFUTED), 10),
        ((), 0),
    ],
)
def test_exit_codes(statuses, code):
    assert exit_code(Summary(_row("1", s) for s in statuses).total()) == code
