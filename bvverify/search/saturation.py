"""Where two outputs may tie in saturation: how a row over outputs is cut before anything else is split.

The search bounds a row on the outputs' accumulators. That loses at the *far* end of an output's range: the upper one of an output that
the row pulls down, the lower one of one that it pulls up. Where the row itself rules the far ends out, as a strict inequality does, they
are cut off and closed at once. Where it does not, outputs may tie in saturation (two classes at 127 are a tie, whatever their
accumulators were): then the
*near* ends are cut off first, to be refuted on their own, and with them gone the row rules out the far ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bvverify.model.query import Linear
from bvverify.model.types import Int64Array


@dataclass(frozen=True, slots=True)
class Cut:
    """Put aside the part in which ``output`` is at its lower (or upper) saturation; the rest is cut further.

    ``met`` says that the row holds everywhere in that part, so that it asks the same of the network whatever the row is.
    """

    output: int
    lower: bool
    met: bool


def cuts(row: Linear, lo: Int64Array, hi: Int64Array, bottom: int, top: int) -> list[Cut]:
    """The cuts for one row, in order; outputs range over ``lo .. hi`` (flat) and saturate at ``bottom`` and ``top``."""
    c, lo, hi = row.outputs, lo.copy(), hi.copy()
    out: list[Cut] = []

    def extreme(output: int, value: int, *, least: bool) -> int:
        """The least or the largest of the row with one output at a value."""
        ends = np.minimum(c * lo, c * hi) if least else np.maximum(c * lo, c * hi)
        return int(ends.sum() - ends[output] + c[output] * value)

    def rules_out_far_ends() -> bool:
        moving = np.flatnonzero((c != 0) & (lo < hi)).tolist()
        return all(extreme(j, int(hi[j] if c[j] > 0 else lo[j]), least=True) > row.bound for j in moving)

    def cut(*, near: bool) -> None:
        # Outputs pulled down first: for robustness that is the label, and its part is the same for every rival.
        for j in sorted(np.flatnonzero(c).tolist(), key=lambda j: -int(c[j])):
            lower = bool(c[j] > 0) is near
            side, end = (lo, bottom) if lower else (hi, top)
            if lo[j] < hi[j] and side[j] == end:
                out.append(Cut(j, lower, near and extreme(j, end, least=False) <= row.bound))
                side[j] += 1 if lower else -1

    if not rules_out_far_ends():
        cut(near=True)
    if rules_out_far_ends():
        cut(near=False)
    return out
