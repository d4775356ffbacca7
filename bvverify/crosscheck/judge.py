"""The judgement on a claim: a pure function of what is claimed, what is decided here, and what the claimed witness does."""

from __future__ import annotations

from enum import StrEnum

from bvverify.crosscheck.witness import Check
from bvverify.load.claims import Claimed


class Status(StrEnum):
    """What becomes of a claim.

    REFUTED is about the verdict that was claimed; NOT_REPLAYED is a claim of *falsified* whose witness is none, and that nothing here
    refutes: another input violates the property, or it was not decided. DECIDED: nothing was claimed, or a tool gave up.
    MISCLASSIFIED: nothing was claimed, and the clean input already has another class.
    """

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    NOT_REPLAYED = "witness does not replay"
    UNDECIDED = "undecided"
    DECIDED = "decided here only"
    MISCLASSIFIED = "misclassified"
    ERROR = "error"


def judge(claimed: Claimed, verdict: str, witness: Check | None) -> Status:
    """``verdict`` is the answer of a batch's row: verified, falsified, unknown, misclassified (the clean input violates) or error."""
    if verdict == "error":
        return Status.ERROR
    fails = claimed is Claimed.FALSIFIED and witness is not None and not witness.replays
    if verdict == "unknown":
        return Status.NOT_REPLAYED if fails else Status.UNDECIDED
    if claimed is Claimed.NOTHING:
        return Status.MISCLASSIFIED if verdict == "misclassified" else Status.DECIDED
    if (claimed is Claimed.VERIFIED) != (verdict == "verified"):
        return Status.REFUTED
    return Status.NOT_REPLAYED if fails else Status.CONFIRMED
