"""A row of a batch that asks for the largest radius."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bvverify import pipeline, radii
from bvverify.cli import radius_report
from bvverify.cli.report import certificate_fields, checked_object


def decide(around: radii.Around, maximum: int | None, options: pipeline.Options, certificate: Path | None) -> dict[str, Any]:
    """The fields of the answer; ``certificate`` is a file without its suffix that receives the one of the radius that verifies."""
    ends = radii.find(around, maximum, options)
    witness = None if ends.fails is None or ends.fails.witness is None else [int(v) for v in ends.fails.witness.input.ravel()]
    held = () if ends.holds is None else ends.holds.certificates
    return {
        "verdict": radius_report.verdict(ends),
        "reason": ends.reason or radius_report.summary(ends),
        "stage": "radius",
        "witness": witness,
        "semantics": around.network.semantics,
        "verified": ends.verified,
        "falsified": ends.falsified,
        "nodes": sum(q.nodes for q in ends.asked),
        "stages": {"radius": round(ends.seconds, 6)},
        "checked": None if ends.holds is None else checked_object(ends.holds),
        **certificate_fields(certificate, held),
    }
