"""The ascent: good multipliers for the Lagrangian bound, for many rows at once.

Adam (Kingma and Ba, 2015) on multipliers scaled by a unit's ``|c| / step width``, and on the forms' weights, which are kept as logits. On
the logits themselves a weight that had gone to zero did not come back within a node's steps, and nodes far down that another form closes
stayed open, level by level.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from bvverify.bounds.lagrange import Box, Point, Relaxation
from bvverify.bounds.linear_maps import Tensor
from bvverify.bounds.units import Corners
from bvverify.model.types import Int64Array

_LOOK = 5
"""Steps between two looks at what is best so far: keeping it costs as much as a step."""
_FRESH = (1, 4)
"""The steps between two looks, of ``_LOOK``, that run through the first layer; the others take what it gave last. On networks of dense
layers that is a third of the time, and fewer nodes."""
_CELLS = 1 << 17
"""Rows times units that are worked on at a time: with more, what is allocated and freed at each step no longer stays in the process, and
the same work takes three times as long."""
_NOT_ZERO = 1e-24
"""Where second moments start: a square root of zero takes twenty times as long as others, and there is nothing to divide by."""
LEAST_WEIGHT = 1e-6
"""Of a weight that is kept as a logit."""
_DROP = 0.25
"""The share of rows that have to have arrived for the others to go on without them."""


@dataclass(slots=True)
class Ascent:
    """The best bound found (rows,), its multipliers and row weights, and averages over the second half of the way."""

    value: Tensor
    m: dict[int, Tensor]
    logits: Tensor
    a: dict[int, Tensor]
    z: dict[int, Tensor]
    c: dict[int, Tensor]
    x: Tensor
    over_x: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """What is bounded below, by row: several forms, each with coefficients on tensors and a constant, weighted.

    ``forms[t]`` is (rows, forms, kept elements of tensor t), or has one row for all; ``constant`` (rows, forms), ``present`` bool (rows,
    forms). Weights are on a simplex; unless there is a form ``own`` by tensor (rows, elements), to which the others are added, as many
    times as helps.
    """

    forms: dict[int, Tensor]
    constant: Tensor
    present: Tensor
    own: dict[int, Tensor] = field(default_factory=dict)

    @property
    def several(self) -> bool:
        """Whether there are weights to be found."""
        return self.constant.shape[1] > 1 or bool(self.own)

    def weights(self, logits: Tensor) -> Tensor:
        """The weights of logits (rows, forms), zero where there is no form."""
        if not self.several:
            return torch.ones_like(self.constant)
        logits = logits.masked_fill(~self.present, -torch.inf)
        return logits.exp() if self.own else torch.softmax(logits, 1)

    def weighted(self, weights: Tensor) -> tuple[dict[int, Tensor], Tensor]:
        """The weighted sum: a form by tensor (rows, elements), and its constant (rows,)."""
        out = dict(self.own)
        for t, f in self.forms.items():
            # One product where the forms are those of all rows: a tenth of the time.
            part = weights @ f[0] if len(f) == 1 else (weights[:, :, None] * f).sum(1) if f.shape[1] > 1 else weights * f[:, 0]
            out[t] = out[t] + part if t in out else part
        return out, (weights * self.constant).sum(1)

    def values(self, outputs: dict[int, Tensor]) -> Tensor:
        """What the forms, ``own`` aside, are where tensors have these values (rows, elements): (rows, forms)."""
        total = self.constant
        for t, f in self.forms.items():
            total = total + (outputs[t] @ f[0].T if len(f) == 1 else (f * outputs[t][:, None]).sum(2))
        return total

    def rise(self, weights: Tensor, values: Tensor) -> Tensor:
        """How the weighted sum rises with each weight (beside ``own``: each logit), where the forms have these values (rows, forms)."""
        if self.own:
            return weights * values
        return (values - (weights * values).sum(1, keepdim=True)).masked_fill(~self.present, 0.0)

    def moved(self, logits: Tensor, weights: Tensor, way: Tensor) -> Tensor:
        """The logits of weights that went some way; the weight of a form that helped nothing above comes back as fast as it went."""
        if self.own:
            return logits + way
        return torch.where(self.present, (weights + way).clamp(min=LEAST_WEIGHT).log(), logits)

    def at(self, rows: Tensor | slice) -> Objective:
        """Some of the rows."""
        forms = {t: f if len(f) == 1 else f[rows] for t, f in self.forms.items()}
        return Objective(forms, self.constant[rows], self.present[rows], _at(self.own, rows))

    def repeat(self, rows: int) -> Objective:
        """That of one row, for several."""
        own = {t: f.expand(rows, -1) for t, f in self.own.items()}
        return Objective(self.forms, self.constant.expand(rows, -1), self.present.expand(rows, -1), own)

    def to(self, dtype: torch.dtype) -> Objective:
        """In another precision."""
        forms, own = ({t: f.to(dtype) for t, f in part.items()} for part in (self.forms, self.own))
        return Objective(forms, self.constant.to(dtype), self.present, own)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Nodes as bounds see them, a row each: accumulators, int64 (rows, n), their corners, inputs (None: the whole box), the objective."""

    tensors: dict[int, tuple[Tensor, Tensor]]
    corners: dict[int, Corners]
    x: tuple[Int64Array, Int64Array] | None
    objective: Objective


@dataclass(frozen=True, slots=True)
class Settings:
    """How to climb: steps of Adam at ``rate * decay^step``; stops early where every row has passed ``target``, or at a ``deadline``.

    With ``blur`` minimisers are averages (``units.inner``), as blurred as steps are long: so many times. A supergradient jumps from corner
    to corner, and long steps along it go astray; on averages they may begin ten times as long, and two hundred steps that shrink by
    ``e^-5`` end where 1,500 without blur have not been. In few steps that is no better.
    """

    steps: int = 30
    rate: float = 0.2
    decay: float = 0.92
    blur: float = 0.0
    target: float | None = None
    deadline: float | None = None


def ascend(
    relaxation: Relaxation,
    corners: dict[int, Corners],
    m: dict[int, Tensor],
    logits: Tensor,
    objective: Objective,
    settings: Settings,
    box: Box | None = None,
    pace: Tensor | None = None,
) -> Ascent:
    """Climb from multipliers ``m`` (rows, n) and the logits of the forms' weights; keeps the best of each row.

    ``pace`` (rows,) makes the steps of a row longer or shorter.
    """
    widest = max((len(relaxation.units[index].keep) for index in corners), default=0)
    together = max(_CELLS // max(widest, len(relaxation.keep[0]) // 16, 1), 16)
    parts = []
    for start in range(0, max(len(logits), 1), together):
        rows = slice(start, start + together)
        part = objective.at(rows)
        inputs = None if box is None else (box[0][rows], box[1][rows])
        paces = None if pace is None else pace[rows, None]
        own = {i: k.at(rows) for i, k in corners.items()}
        parts.append(_climb(relaxation, own, _at(m, rows), logits[rows], part, settings, inputs, paces))
    return parts[0] if len(parts) == 1 else _join(parts)


def _climb(
    relaxation: Relaxation,
    corners: dict[int, Corners],
    m: dict[int, Tensor],
    logits: Tensor,
    objective: Objective,
    settings: Settings,
    box: Box | None,
    pace: Tensor | None,
) -> Ascent:
    m = {index: v.clone() for index, v in m.items() if index in corners}
    logits = logits.clone()
    parameters = list(m) + ([-1] if objective.several else [])
    first: dict[int, Tensor] = {}
    second: dict[int, Tensor] = {}
    scale: dict[int, Tensor] = {}
    best: Ascent | None = None
    point: Point | None = None
    alive, arrived = torch.arange(len(logits)), list[tuple[Tensor, Ascent]]()
    averages: dict[tuple[str, int], Tensor] = {}
    count_of = looks = 0
    for step in range(settings.steps):
        weights = objective.weights(logits)
        forms, constant = objective.weighted(weights)
        fresh = step % _LOOK in _FRESH or step == settings.steps - 1 or point is None or not relaxation.first
        rate = settings.rate * settings.decay**step
        blur = logits.new_full((1, 1), settings.blur * rate) * (1.0 if pace is None else pace) if settings.blur else None
        point = relaxation.evaluate(corners, m, forms, constant, box=box, before=None if fresh else point, blur=blur)
        if best is None:
            best = Ascent(point.value, dict(m), logits, {}, {}, {}, point.x, point.over_x)
            for index, c in point.c.items():
                size = c.abs()
                largest = float(size.max()) if size.numel() else 0.0
                scale[index] = size.clamp(min=0.02 * largest + 1e-9) / relaxation.units[index].step.to(c.dtype)
                if pace is not None:
                    scale[index] = scale[index] * pace
            parameters = [p for p in parameters if p == -1 or p in scale]
        look = step % _LOOK == _LOOK - 1
        last = step == settings.steps - 1 or (look and settings.deadline is not None and time.monotonic() > settings.deadline)
        look |= last
        if look:
            better = point.value > best.value
            best.value = torch.maximum(point.value, best.value)
            take = better[:, None].to(logits.dtype)
            best.m = {index: best.m[index].lerp(v, take) for index, v in m.items()}
            best.logits = best.logits.lerp(logits, take)
        if 2 * step >= settings.steps or last:
            count_of += 1
            for name, part in (("a", point.a), ("z", point.z)):
                for index, v in part.items():
                    key = (name, index)
                    averages[key] = averages[key] + v if key in averages else v
            if look:
                looks += 1
                averages["x", 0] = averages["x", 0] + point.x if ("x", 0) in averages else point.x
        if last:
            break
        if look and settings.target is not None:
            closed = best.value > settings.target
            if bool(closed.all()):
                break
            if float(closed.float().mean()) > _DROP:
                # Rows that have arrived are put down; the others go on without them.
                left = (~closed).nonzero()[:, 0]
                arrived.append((alive, best))
                alive = alive[left]
                best = Ascent(best.value[left], _at(best.m, left), best.logits[left], {}, {}, {}, best.x, best.over_x)
                point.residual, point.outputs, point.first = (_at(p, left) for p in (point.residual, point.outputs, point.first))
                point.x, point.over_x = point.x[left], point.over_x[left]
                m, logits, weights = _at(m, left), logits[left], weights[left]
                first, second = _at(first, left), _at(second, left)
                scale = _at(scale, left)
                averages = {key: v[left] for key, v in averages.items()}
                objective = objective.at(left)
                corners = {i: k.at(left) for i, k in corners.items()}
                box = None if box is None else (box[0][left], box[1][left])
                pace = None if pace is None else pace[left]
        for p in parameters:
            gradient = objective.rise(weights, objective.values(point.outputs)) if p == -1 else point.residual[p] * scale[p]
            if p not in first:
                first[p], second[p] = torch.zeros_like(gradient), torch.full_like(gradient, _NOT_ZERO)
            first[p].lerp_(gradient, 0.1)
            second[p].mul_(0.99).addcmul_(gradient, gradient, value=0.01)
            rate_now = rate / (1 - 0.9 ** (step + 1)) * (1 - 0.99 ** (step + 1)) ** 0.5
            if p == -1:
                logits = objective.moved(logits, weights, rate_now * first[p] / second[p].sqrt())
            else:
                m[p] = torch.addcdiv(m[p], first[p] * scale[p], second[p].sqrt(), value=rate_now)
    assert best is not None
    assert point is not None
    best.c, best.over_x = point.c, point.over_x
    best.a = {i: averages["a", i] / count_of for i in point.a} if count_of else point.a
    best.z = {i: averages["z", i] / count_of for i in point.z} if count_of else point.z
    best.x = averages["x", 0] / looks if looks else point.x
    for rows, before in reversed(arrived):
        best = _put_back(before, best, alive, rows)
        alive = rows
    return best


def _join(parts: list[Ascent]) -> Ascent:
    def all_of(name: str) -> Tensor:
        return torch.cat([getattr(p, name) for p in parts])

    def by_unit(name: str) -> dict[int, Tensor]:
        return {i: torch.cat([getattr(p, name)[i] for p in parts]) for i in getattr(parts[0], name)}

    m, a, z, c = (by_unit(name) for name in ("m", "a", "z", "c"))
    return Ascent(all_of("value"), m, all_of("logits"), a, z, c, all_of("x"), all_of("over_x"))


def _at(parts: dict[int, Tensor], rows: Tensor | slice) -> dict[int, Tensor]:
    return {key: v[rows] for key, v in parts.items()}


def _put_back(before: Ascent, after: Ascent, alive: Tensor, rows: Tensor) -> Ascent:
    """``before`` holds ``rows``; those of them that are ``alive`` get ``after``. Of the others no minimiser was kept: zeros, a guess."""
    place = torch.searchsorted(rows, alive)

    def put(old: Tensor | None, new: Tensor) -> Tensor:
        out = new.new_zeros((len(rows), *new.shape[1:])) if old is None else old.clone()
        out[place] = new
        return out

    m = {i: put(before.m[i], v) for i, v in after.m.items()}
    a, z, c = ({i: put(None, v) for i, v in part.items()} for part in (after.a, after.z, after.c))
    return Ascent(put(before.value, after.value), m, put(before.logits, after.logits), a, z, c, put(None, after.x), put(None, after.over_x))
