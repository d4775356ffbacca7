"""How large the boxes of a question are and what was done to its input: as lines where that may surprise, as JSON data always."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from bvverify.cli.question import real_number
from bvverify.model.network import Network
from bvverify.model.query import Box
from bvverify.model.types import Quantisation

if TYPE_CHECKING:
    from bvverify.load.arrays import Batch

_SMALL = 1000
"""Denominators up to here are shown as a fraction."""


def lines(network: Network, boxes: Sequence[Box], given: dict[str, Any], batch: Batch | None) -> list[tuple[str, str]]:
    """Named lines: the size of the box where real numbers or a clip made it, or where it is a single input; notes on the input."""
    notes = [] if batch is None else [("input", note) for note in batch.notes(network)]
    epsilon, made = given.get("epsilon"), given.get("epsilon") is not None or given.get("clip") is not None
    if not boxes or not (made or (given.get("radius") is None and not any(box.varying for box in boxes))):
        return notes
    text = str(boxes[0]) if len(boxes) == 1 else f"in none of the {len(boxes)} boxes does a value vary"
    quantiser = network.input.quantiser
    step = Fraction(quantiser.scale) if isinstance(quantiser, Quantisation) else None
    if epsilon is not None and step is not None and real_number(epsilon) < step:
        shown = step if step.denominator <= _SMALL else f"{float(step):.6g}"
        text += f": epsilon is below one step of the input ({shown})"
    return [("box", text), *notes]


def as_object(network: Network, boxes: Sequence[Box], batch: Batch | None) -> dict[str, Any]:
    """``boxes``: of each, how many values there are, how many of them vary, and how many integers one takes at most; ``input``: notes."""
    sizes = [{"values": int(box.lo.size), "varying": box.varying, "most": box.most} for box in boxes]
    return {"boxes": sizes} | ({} if batch is None else {"input": batch.as_object(network)})
