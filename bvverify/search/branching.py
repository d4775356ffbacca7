"""Where to split: the threshold whose two sides should gain most at the relaxation's minimiser.

For each unit the minimiser has an average accumulator a and result z that need not lie on the staircase: the gap is what the relaxation
gains by that. The two kinks are scored (where the staircase leaves its lower and reaches its upper saturation: a ReLU's phase, a clip) of
the units that have one left, those with the largest gaps; thresholds between kinks are split at only where no unit has one left, since
between its kinks a staircase is nearly a line. The score is the gain of the side that holds a, the lower hull of ``c * z`` at a after the
split minus before, plus half the distance that the other side is forced to move, in output steps.

Where no kink is left, both sides gain only next to the minimiser: the ends of levels that the hull touches lie on a line there, a is
between two of them, and split at the threshold between, each side moves it to one end. All splits of a node bounded by long ascents show
it (3x100, 1,100 thresholds): 0.004 to 0.007 on both sides there, and next to nothing on one side in the middle of the levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bvverify.bounds.ascent import Ascent
from bvverify.bounds.lagrange import Relaxation
from bvverify.bounds.linear_maps import Tensor
from bvverify.bounds.units import Unit, count

_CONSIDERED = 8
_DISTANCE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """For each row the best split: operation, unit (flat index), the value v of ``a <= v``; ``score`` below zero where there is none."""

    score: Tensor
    op: Tensor
    unit: Tensor
    value: Tensor


def choose(relaxation: Relaxation, ranges: dict[int, tuple[Tensor, Tensor]], best: Ascent) -> Choice | None:
    """The split of each row, None where there is nothing to split; ``ranges`` are accumulators by operation, int64 (rows, n)."""
    parts: list[Choice] = []
    for index, unit in relaxation.units.items():
        if index in best.c and len(unit.keep):
            l, u = ranges[index]
            a = (best.a[index].double() + unit.a0).clamp(min=l.double(), max=u.double())
            c, z = best.c[index].double(), best.z[index].double() + unit.z0
            of_unit = _table if unit.table is not None else _steps
            parts += [
                Choice(score, torch.full_like(value, index), torch.from_numpy(unit.keep)[where], value)
                for score, where, value in of_unit(unit, l, u, a, c, z)
            ]
    if not parts:
        return None
    score = torch.cat([p.score for p in parts], 1)
    which = score.argmax(1, keepdim=True)

    def at(values: list[Tensor]) -> Tensor:
        return torch.cat(values, 1).gather(1, which)[:, 0]

    return Choice(score.gather(1, which)[:, 0], at([p.op for p in parts]), at([p.unit for p in parts]), at([p.value for p in parts]))


def _steps(unit: Unit, l: Tensor, u: Tensor, a: Tensor, c: Tensor, z: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Candidates (score, place among the kept units, value) on step functions, each (rows, considered)."""
    if unit.early.shape[1] == 0:
        return []
    first, last = count(unit.late, l), count(unit.early, u)
    level = count(unit.late, a.floor().long())
    gap = (c * (level + unit.lo - z)).clamp(min=0) + 1e-6 * c.abs() + 1e-9
    steps = unit.early.shape[1]
    gap = torch.where(last > first, gap, -1.0)
    # How far a is from the nearer of the two ends that it lies between, in levels times ``|c|``: the gap, or what the gap lacks of ``|c|``.
    between = torch.where(last > first, torch.minimum(gap, c.abs() - gap).clamp(min=0) + 1e-9, -1.0)
    # Without a kink a unit is considered for one threshold alone, and only the first of them can be chosen.
    kinked = torch.where((first == 0) | (last == steps), gap, -1.0).topk(min(_CONSIDERED, l.shape[1]), 1)[1]
    where = torch.cat([kinked, between.argmax(1, keepdim=True)], 1)
    gap, between = gap.gather(1, where), between.gather(1, where)

    def at(values: Tensor) -> Tensor:
        return values.gather(1, where)

    l, u, a, c, first, last, level = (at(v) for v in (l, u, a, c, first, last, level))
    group = where // (len(unit.keep) // len(unit.early))
    if len(unit.early) == 1:
        group = torch.zeros_like(group)
    step = unit.step[where]

    def threshold(k: Tensor) -> Tensor:
        return unit.early[group, k.clamp(0, steps - 1)]

    base = _hull(threshold, l, u, first, last, a, c)
    # Where no kink is left, behind every kink: the hull touches the right ends of levels where c is positive, else the left ends.
    t = threshold(torch.where(c > 0, level - 1, level).clamp(min=first, max=torch.maximum(last - 1, first)))
    out = [(torch.where((gap >= 0) & (last > first) & (l < t) & (t <= u), 1e-9 * between + 1e-12, -1.0), where, t - 1)]
    for k in (torch.zeros_like(level), torch.full_like(level, steps - 1)):
        inside = (k >= first) & (k < last) & (gap >= 0)
        t = threshold(k)
        left = a <= t - 1
        side = _hull(
            threshold,
            torch.where(left, l, t),
            torch.where(left, t - 1, u),
            torch.where(left, first, k + 1),
            torch.where(left, k, last),
            torch.where(left, a, torch.maximum(a, t.double())),
            c,
        )
        distance = torch.where(left, t - a, a - t + 1).clamp(min=0)
        reach = torch.minimum((t - l).double(), (u - t).double())
        score = side - base + _DISTANCE * c.abs() * torch.minimum(distance, reach) / step + 1e-9
        # A split needs room on both sides.
        inside &= (t - 1 >= l) & (t <= u)
        out.append((torch.where(inside, score, -1.0), where, t - 1))
    return out


def _hull(threshold: object, l: Tensor, u: Tensor, first: Tensor, last: Tensor, a: Tensor, c: Tensor) -> Tensor:
    """The lower hull of ``c * z`` at a over the six corners of levels first .. last on ``[l, u]``, float64."""
    some = last > first
    t_first, t_last = threshold(first), threshold(last - 1)  # type: ignore[operator]
    xs = [l, torch.where(some, t_first - 1, l), torch.where(some, t_first, l)]
    xs += [torch.where(some, t_last - 1, u), torch.where(some, t_last, u), u]
    top = torch.maximum(last, first)
    zs = [first, first, torch.where(some, first + 1, first), torch.where(some, last - 1, top), top, top]
    x = [v.double() for v in xs]
    f = [c * v for v in zs]
    least = torch.full_like(a, torch.inf)
    for p in range(6):
        for q in range(p + 1, 6):
            width = x[q] - x[p]
            at_a = torch.where(width > 0, f[p] + (f[q] - f[p]) * ((a - x[p]) / width.clamp(min=1e-9)), torch.minimum(f[p], f[q]))
            least = torch.where((x[p] <= a) & (a <= x[q]), torch.minimum(least, at_a), least)
    return torch.where(torch.isinf(least), torch.minimum(f[0], f[5]), least)


def _table(unit: Unit, l: Tensor, u: Tensor, a: Tensor, c: Tensor, z: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Tables: at the minimiser, scored by the gap alone."""
    assert unit.table is not None
    value = torch.minimum(torch.maximum(a.floor().long(), l), u - 1)
    gap = (c * (unit.table[a.round().long() - unit.table_lo] - z)).clamp(min=0) + 1e-6 * c.abs() + 1e-9
    gap, where = torch.where(u > l, gap, -1.0).topk(min(_CONSIDERED, l.shape[1]), 1)
    return [(gap, where, value.gather(1, where))]
