"""The Lagrangian bound over step functions, batched in torch: for any multipliers a lower bound, and the ascent that finds good ones.

For a linear form with coefficients C on some tensor, one multiplier m for each unit, and c what reaches a unit's result from above,

    L(m) = constant + sum over units of min over a in [l, u] of (c z(a) - m a)  +  min over the box of c x.

L is concave and piecewise linear in m. Its supergradient is the residual ``W z* + b - a*`` of the minimisers: two linear maps a layer, no
autograd. Ascent is Adam (Kingma and Ba, 2015) on multipliers scaled by a unit's |c| / step width. All numbers are relative to a reference
run of the network (``x0``): then constants drop out and float32 suffices for the search, where raw accumulators pass 2^24. What is to be
believed is evaluated again in float64 at multipliers rounded to integers, and checked by the kernel in integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from bvverify.bounds import interval, stairs
from bvverify.bounds.interval import Range
from bvverify.bounds.linear_maps import LinearMap, Tensor, kept, linear_map, positions
from bvverify.bounds.stairs import Stairs
from bvverify.model.certificate import Multipliers, units
from bvverify.model.network import Network
from bvverify.model.ops import Add, AvgPool, Clamp, Conv2d, Dense, Lookup, MaxPool, SumThenRequantise, inputs
from bvverify.model.types import Int64Array

_FAR = 1 << 40
_LOOK = 5
"""Steps between two looks at what is best so far: keeping it costs as much as a step."""
_DROP = 0.25
"""The share of rows that have to have arrived for the others to go on without them."""


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """The units of one operation that take part.

    ``keep`` are their flat indices; ``early`` and ``late`` thresholds int64 (groups, steps), where unit ``i`` belongs to group ``i // (n
    / groups)``; ``table`` instead for a table. ``a0``, ``z0`` int64 (n,): accumulator and result of the reference run. ``step`` float64
    (n,): the mean step width.
    """

    keep: Int64Array
    size: int
    lo: int
    early: Tensor
    late: Tensor
    spread: Tensor
    a0: Tensor
    z0: Tensor
    step: Tensor
    kinks: tuple[int, int]
    table: Tensor | None = None
    table_lo: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Corners:
    """Corners relative to the reference, (corners, rows, n), and the spread (rows, n) or None where it is nowhere needed."""

    a: Tensor
    z: Tensor
    spread: Tensor | None


@dataclass(slots=True)
class Point:
    """What an evaluation came to: the bound (rows,), and at the minimiser, by operation, residuals, accumulators, results, coefficients."""

    value: Tensor
    residual: dict[int, Tensor]
    a: dict[int, Tensor]
    z: dict[int, Tensor]
    c: dict[int, Tensor]
    x: Tensor
    over_x: Tensor
    outputs: dict[int, Tensor]


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
    """What is bounded below, by row: for each of several forms coefficients on tensors and a constant, weighted on a simplex.

    ``forms[t]`` is (rows, forms, kept elements of tensor t), ``constant`` (rows, forms), ``present`` bool (rows, forms).
    """

    forms: dict[int, Tensor]
    constant: Tensor
    present: Tensor

    def weights(self, logits: Tensor) -> Tensor:
        """The weights of logits (rows, forms), zero where there is no form."""
        if self.constant.shape[1] == 1:
            return torch.ones_like(self.constant)
        return torch.softmax(logits.masked_fill(~self.present, -torch.inf), 1)

    def to(self, dtype: torch.dtype) -> Objective:
        """In another precision."""
        return Objective({t: f.to(dtype) for t, f in self.forms.items()}, self.constant.to(dtype), self.present)


class Relaxation:
    """A network on a box, prepared: linear maps and step functions of the elements that vary.

    ``lo``, ``hi`` are ranges of every tensor (without a batch axis), ``reference`` every tensor of one input of the box (1, *shape),
    ``opaque`` operations of which only the range of the result is known.
    """

    def __init__(
        self, network: Network, lo: list[Int64Array], hi: list[Int64Array], reference: list[Int64Array], opaque: frozenset[int]
    ) -> None:
        self.network, self.dtypes = network, (torch.float32, torch.float64)
        self.keep = kept(network, lo, hi)
        self.reference = reference
        self.maps: dict[torch.dtype, list[LinearMap | None]] = {
            dtype: [linear_map(network, i, self.keep, dtype) for i in range(len(network.ops))] for dtype in self.dtypes
        }
        self.units: dict[int, Unit] = {}
        self.positions: dict[int, tuple[Tensor, Tensor]] = {}
        for index, op in enumerate(network.ops):
            if isinstance(op, MaxPool):
                self.positions[index] = positions(op, network.tensors[op.x].shape)
            if units(network, index) and index not in opaque:
                unit = self._unit(index)
                if unit is not None:
                    self.units[index] = unit
        v0 = [r.reshape(-1)[k] for r, k in zip(self.reference, self.keep, strict=True)]
        self.least = [torch.from_numpy(a.reshape(-1)[k] - v) for a, k, v in zip(lo, self.keep, v0, strict=True)]
        self.most = [torch.from_numpy(a.reshape(-1)[k] - v) for a, k, v in zip(hi, self.keep, v0, strict=True)]
        self.v0 = v0
        self._box: tuple[Tensor, Tensor] | None = None

    @contextmanager
    def box(self, inputs: tuple[Int64Array, ...] | None) -> Iterator[None]:
        """Within: each row has its own range of inputs, int64 (rows, all elements) twice; None: the whole box for all."""
        if inputs is not None:
            self._box = tuple(torch.from_numpy(side[:, self.keep[0]] - self.v0[0]) for side in inputs)  # type: ignore[assignment]
        try:
            yield
        finally:
            self._box = None

    def _unit(self, index: int) -> Unit | None:
        network, op = self.network, self.network.ops[index]
        xs = [self.reference[t] for t in inputs(op)]
        size = units(network, index)
        keep = self.keep[index + 1] if isinstance(op, Dense) else np.arange(size)
        shape = network.tensors[index + 1].shape
        z0 = self.reference[index + 1].reshape(-1)
        match op:
            case Dense(staircase=s) | Conv2d(staircase=s):
                made, a0 = stairs.of_staircase(s), interval.accumulator(op, Range(xs[0][0], xs[0][0])).lo.reshape(-1)
            case AvgPool(rule=SumThenRequantise(staircase=s, input_zero_point=zero)):
                made = stairs.of_staircase(s)
                mean = torch.nn.functional.avg_pool2d(
                    torch.tensor(xs[0] - zero, dtype=torch.float64), op.window.kernel, op.window.strides, divisor_override=1
                )
                a0 = mean.numpy().astype(np.int64).reshape(-1)
            case Add():
                added = stairs.of_add(op, network.tensors[op.a].qtype, network.tensors[op.b].qtype)
                if added is None:
                    return None
                made, a0 = added.stairs, (added.ma * xs[0] + added.mb * xs[1]).reshape(-1)
            case Clamp():
                made, a0 = stairs.of_clamp(op), xs[0].reshape(-1)
            case MaxPool():
                qtype = network.tensors[op.x].qtype
                at, inside = (p.numpy() for p in self.positions[index])
                x = np.where(inside, xs[0].reshape(-1)[at], qtype.lo)
                a0 = (x[1:] - np.maximum.accumulate(x, axis=0)[:-1]).reshape(-1)
                made, z0, shape = stairs.of_relu(qtype.hi - qtype.lo), np.maximum(a0, 0), (1, len(a0))
            case Lookup():
                a0 = xs[0].reshape(-1)
                one = torch.ones(size, dtype=torch.float64)
                empty = torch.zeros((1, 0), dtype=torch.int64)
                table = torch.from_numpy(op.table.copy())
                return Unit(
                    keep, size, 0, empty, empty, one * 0, torch.from_numpy(a0), torch.from_numpy(z0), one, (0, 0), table, op.input_lo
                )
            case _:
                return None
        return _of_stairs(made, keep, size, shape, a0, z0, isinstance(op, Dense))

    def corners(self, index: int, l: Tensor, u: Tensor, dtype: torch.dtype) -> Corners:
        """The corners of operation ``index`` for accumulators in ``[l, u]``, int64 (rows, n)."""
        unit = self.units[index]
        if unit.table is not None:
            entries = torch.arange(int(l.min()), int(u.max()) + 1)[:, None, None].clamp(min=l, max=u)
            return Corners((entries - unit.a0).to(dtype), (unit.table[entries - unit.table_lo] - unit.z0).to(dtype), None)
        first, last = count(unit.late, l), count(unit.early, u)
        if unit.early.shape[1] == 0:
            ends = torch.stack([l, u])
            return Corners((ends - unit.a0).to(dtype), (unit.lo - unit.z0).expand_as(ends).to(dtype), None)
        some = last > first
        i, j = torch.where(some, first, 0), torch.where(some, last - 1, 0)
        a, z = [l, u], [first, torch.maximum(last, first)]
        for k, level in ((i, first), (j, last - 1)):
            a += [torch.where(some, pick(unit.late, k) - 1, l), torch.where(some, pick(unit.early, k), l)]
            z += [torch.where(some, level, first), torch.where(some, level + 1, first)]
        spread = None
        if bool(unit.spread.any()):
            spread = torch.where(last - first > 2, unit.spread, 0.0).to(dtype)
        return Corners((torch.stack(a) - unit.a0).to(dtype), (torch.stack(z) + (unit.lo - unit.z0)).to(dtype), spread)

    def evaluate(
        self, corners: dict[int, Corners], m: dict[int, Tensor], forms: dict[int, Tensor], constant: Tensor, *, gradient: bool = True
    ) -> Point:
        """L at multipliers ``m`` for forms by tensor (rows, kept elements)."""
        dtype, network = constant.dtype, self.network
        forms, value = dict(forms), constant.clone()
        stars: dict[int, tuple[Tensor, Tensor]] = {}
        seen: list[int] = []
        coefficients: dict[int, Tensor] = {}
        loose: dict[int, Tensor] = {}
        for index in range(max(forms) - 1, -1, -1):
            c = forms.pop(index + 1, None)
            if c is None:
                continue
            seen.append(index)
            op, maps = network.ops[index], self.maps[dtype][index]
            if index in self.positions:
                back = [self._max_backward(index, c, corners, m, stars, coefficients, value)]
            elif index in self.units:
                least, star = inner(corners[index], c, m[index], gradient=gradient)
                value += least
                coefficients[index] = c
                stars[index] = star
                back = maps.backward(m[index])  # type: ignore[union-attr]
            elif units(network, index) == 0 and maps is not None and not isinstance(op, AvgPool):
                back = maps.backward(c)
            else:
                lo, hi = self.least[index + 1].to(dtype), self.most[index + 1].to(dtype)
                loose[index] = torch.where(c > 0, lo, hi)
                value += (c * loose[index]).sum(1)
                continue
            for t, form in zip(inputs(op), back, strict=True):
                forms[t] = forms[t] + form if t in forms else form
        rows = len(value)
        lo, hi = (side.to(dtype) for side in (self._box or (self.least[0], self.most[0])))
        c = forms.get(0, constant.new_zeros(rows, len(self.keep[0])))
        x = torch.where(c > 0, lo, hi)
        value += (c * x).sum(1)
        point = Point(value, {}, {i: s[0] for i, s in stars.items()}, {i: s[1] for i, s in stars.items()}, coefficients, x, c, {0: x})
        if gradient:
            self._residuals(point, seen, stars, loose, corners, m)
        return point

    def _residuals(
        self,
        point: Point,
        seen: list[int],
        stars: dict[int, tuple[Tensor, Tensor]],
        loose: dict[int, Tensor],
        corners: dict[int, Corners],
        m: dict[int, Tensor],
    ) -> None:
        """Forwards through the minimisers: how far each accumulator is from what the minimisers below it give."""
        values = point.outputs
        for index in reversed(seen):
            op, maps = self.network.ops[index], self.maps[point.value.dtype][index]
            if index in loose:
                values[index + 1] = loose[index]
                continue
            xs = [values[t] for t in inputs(op)]
            if index in self.positions:
                values[index + 1] = self._max_forward(index, xs[0], stars, point.residual)
            elif index in stars:
                a, z = stars[index]
                point.residual[index] = maps.forward(xs) - a  # type: ignore[union-attr]
                values[index + 1] = z
            else:
                values[index + 1] = maps.forward(xs)  # type: ignore[union-attr]
            spread = corners[index].spread if index in corners else None
            if spread is not None:
                point.residual[index] -= m[index].sign() * spread

    def _max_backward(
        self,
        index: int,
        c: Tensor,
        corners: dict[int, Corners],
        m: dict[int, Tensor],
        stars: dict[int, tuple[Tensor, Tensor]],
        coefficients: dict[int, Tensor],
        value: Tensor,
    ) -> Tensor:
        """``m_k = m_(k-1) + max(0, x_k - m_(k-1))`` from the last position to the first; the form over the input."""
        at, inside = self.positions[index]
        steps, size = at.shape
        out = c.new_zeros(len(c), self.network.tensors[inputs(self.network.ops[index])[0]].size)
        if steps > 1:
            multiplier = m[index].reshape(len(c), steps - 1, size)
            # What reaches step k is c minus the multipliers of the later steps.
            later = multiplier.flip(1).cumsum(1).flip(1)
            reaching = c[:, None] - torch.cat([later[:, 1:], torch.zeros_like(later[:, :1])], 1)
            coefficients[index] = reaching.flatten(1)
            least, stars[index] = inner(corners[index], coefficients[index], m[index])
            value += least
            for k in range(1, steps):
                out.index_add_(1, at[k], torch.where(inside[k], multiplier[:, k - 1], 0.0))
            c = c - later[:, 0]
        out.index_add_(1, at[0], torch.where(inside[0], c, 0.0))
        return out

    def _max_forward(self, index: int, x: Tensor, stars: dict[int, tuple[Tensor, Tensor]], residual: dict[int, Tensor]) -> Tensor:
        at, inside = self.positions[index]
        steps, size = at.shape
        values = torch.where(inside, x[:, at], 0.0)
        if steps == 1:
            return values[:, 0]
        a, z = (s.reshape(len(x), steps - 1, size) for s in stars[index])
        so_far = values[:, :1] + torch.cat([torch.zeros_like(z[:, :1]), z.cumsum(1)], 1)
        residual[index] = (values[:, 1:] - so_far[:, :-1] - a).flatten(1)
        return so_far[:, -1]

    def ascend(self, corners: dict[int, Corners], m: dict[int, Tensor], logits: Tensor, objective: Objective, settings: Settings) -> Ascent:
        """Climb from multipliers ``m`` (rows, n) and row weights' logits; keeps the best of each row."""
        m = {index: v.clone() for index, v in m.items() if index in corners}
        logits = logits.clone()
        several = objective.constant.shape[1] > 1
        parameters = list(m) + ([-1] if several else [])
        first: dict[int, Tensor] = {}
        second: dict[int, Tensor] = {}
        scale: dict[int, Tensor] = {}
        best: Ascent | None = None
        alive, arrived = torch.arange(len(logits)), list[tuple[Tensor, Ascent]]()
        averages: dict[tuple[str, int], Tensor] = {}
        count_of = looks = 0
        for step in range(settings.steps):
            weights = objective.weights(logits)
            forms = {t: (weights[:, :, None] * f).sum(1) if several else f[:, 0] for t, f in objective.forms.items()}
            point = self.evaluate(corners, m, forms, (weights * objective.constant).sum(1))
            if best is None:
                best = Ascent(point.value, dict(m), logits, {}, {}, {}, point.x, point.over_x)
                for index, c in point.c.items():
                    size = c.abs()
                    largest = float(size.max()) if size.numel() else 0.0
                    scale[index] = size.clamp(min=0.02 * largest + 1e-9) / self.units[index].step.to(c.dtype)
                scale[-1] = torch.ones(1, dtype=logits.dtype)
                parameters = [p for p in parameters if p in scale]
            last = step == settings.steps - 1
            look = step % _LOOK == _LOOK - 1 or last
            if look:
                better = point.value > best.value
                best.value = torch.where(better, point.value, best.value)
                best.m = {index: torch.where(better[:, None], v, best.m[index]) for index, v in m.items()}
                best.logits = torch.where(better[:, None], logits, best.logits)
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
                    point.residual, point.outputs = _at(point.residual, left), _at(point.outputs, left)
                    m, logits, weights = _at(m, left), logits[left], weights[left]
                    first, second = _at(first, left), _at(second, left)
                    scale = {p: v if p == -1 else v[left] for p, v in scale.items()}
                    averages = {key: v[left] for key, v in averages.items()}
                    objective = Objective(_at(objective.forms, left), objective.constant[left], objective.present[left])
                    corners = {
                        i: Corners(k.a[:, left], k.z[:, left], None if k.spread is None else k.spread[left]) for i, k in corners.items()
                    }
                    if self._box is not None:
                        self._box = self._box[0][left], self._box[1][left]
            rate = settings.rate * settings.decay**step
            for p in parameters:
                if p == -1:
                    rise = sum(((f * point.outputs[t][:, None]).sum(2) for t, f in objective.forms.items()), objective.constant)
                    gradient = weights * (rise - (weights * rise).sum(1, keepdim=True))
                else:
                    gradient = point.residual[p] * scale[p]
                if p not in first:
                    first[p], second[p] = torch.zeros_like(gradient), torch.zeros_like(gradient)
                first[p].lerp_(gradient, 0.1)
                second[p].mul_(0.99).addcmul_(gradient, gradient, value=0.01)
                width = (second[p] / (1 - 0.99 ** (step + 1))).sqrt_().add_(1e-12)
                move = first[p] / width * scale[p] * (rate / (1 - 0.9 ** (step + 1)))
                if p == -1:
                    logits = logits + move
                else:
                    m[p] = m[p] + move
        assert best is not None
        best.c, best.over_x = point.c, point.over_x
        best.a = {i: averages["a", i] / count_of for i in point.a} if count_of else point.a
        best.z = {i: averages["z", i] / count_of for i in point.z} if count_of else point.z
        best.x = averages["x", 0] / looks if looks else point.x
        for rows, before in reversed(arrived):
            best = _put_back(before, best, alive, rows)
            alive = rows
        return best

    def start(self, corners: dict[int, Corners], forms: dict[int, Tensor]) -> dict[int, Tensor]:
        """CROWN's slopes on each row's own ranges as first multipliers: of the lower hull where c is positive, of the upper where negative.

        Slopes of wider ranges will not do: where an output saturates on most of its range they are flat, nothing reaches the layers
        below, and the ascent, whose steps are as long as what reaches a unit, never leaves that point.
        """
        forms, m = dict(forms), {}
        for index in range(max(forms) - 1, -1, -1):
            c = forms.pop(index + 1, None)
            if c is None:
                continue
            op, maps = self.network.ops[index], self.maps[c.dtype][index]
            if index in self.positions:
                at, inside = self.positions[index]
                out = c.new_zeros(len(c), self.network.tensors[inputs(op)[0]].size)
                size, parts = at.shape[1], []
                for k in range(len(at) - 1, 0, -1):
                    part = slice((k - 1) * size, k * size)
                    own = Corners(corners[index].a[:, :, part], corners[index].z[:, :, part], None)
                    parts.append(c * _slope(own, c))
                    out.index_add_(1, at[k], torch.where(inside[k], parts[-1], 0.0))
                    c = c - parts[-1]
                out.index_add_(1, at[0], torch.where(inside[0], c, 0.0))
                if parts:
                    m[index] = torch.cat(parts[::-1], 1)
                back = [out]
            elif index in self.units:
                m[index] = c * _slope(corners[index], c)
                back = maps.backward(m[index])  # type: ignore[union-attr]
            elif units(self.network, index) == 0 and maps is not None and not isinstance(op, AvgPool):
                back = maps.backward(c)
            else:
                continue
            for t, form in zip(inputs(op), back, strict=True):
                forms[t] = forms[t] + form if t in forms else form
        rows = len(next(iter(corners.values())).a[0]) if corners else 0
        return {i: m.get(i, torch.zeros(rows, len(unit.keep))) for i, unit in self.units.items()}

    def of_multipliers(self, multipliers: Multipliers, dtype: torch.dtype) -> dict[int, Tensor]:
        """Multipliers of a certificate as tensors (rows, n), zeros where there are none."""
        out = {}
        for index, unit in self.units.items():
            values = multipliers.values.get(index)
            if values is None:
                out[index] = torch.zeros((multipliers.rows, len(unit.keep)), dtype=dtype)
            else:
                out[index] = torch.from_numpy(np.ldexp(values[:, unit.keep].astype(np.float64), -multipliers.exponents[index])).to(dtype)
        return out

    def to_multipliers(self, m: dict[int, Tensor], exponents: dict[int, int]) -> Multipliers:
        """Tensors as integers at the given exponents, rounded to nearest."""
        values = {}
        for index, v in m.items():
            unit = self.units[index]
            rounded = np.rint(np.ldexp(v.double().numpy(), exponents[index])).astype(np.int64)
            full = np.zeros((len(v), unit.size), np.int64)
            full[:, unit.keep] = rounded
            values[index] = full
        rows = len(next(iter(m.values()))) if m else 0
        return Multipliers(rows, values, {index: exponents[index] for index in m})


@dataclass(frozen=True, slots=True)
class Settings:
    """How to climb: steps of Adam at ``rate * decay^step``; stops early where every row has passed ``target``."""

    steps: int = 30
    rate: float = 0.2
    decay: float = 0.92
    target: float | None = None


def _at(parts: dict[int, Tensor], rows: Tensor) -> dict[int, Tensor]:
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


def _slope(corners: Corners, c: Tensor) -> Tensor:
    """The slope of the steep or the flat edge of the hull that c meets, whichever is longer."""
    a, z = corners.a, corners.z
    if len(a) != 6:  # a table, or nothing but two ends
        return torch.where(a[-1] > a[0], (z[-1] - z[0]) / (a[-1] - a[0]).clamp(min=1), 0.0)
    low, high, rise = a[0], a[1], z[1] - z[0]
    before_first, on_first, before_last, on_last = a[2], a[3], a[4], a[5]
    within = (rise - 1) / (before_last - before_first).clamp(min=1)
    steep = torch.where((rise > 1) & ((high - before_last) * within <= 1), within, rise / (high - before_first).clamp(min=1))
    rising = torch.where(before_first - low > high - before_first, 0.0, steep)
    within = (rise - 1) / (on_last - on_first).clamp(min=1)
    steep = torch.where((rise > 1) & ((on_first - low) * within <= 1), within, rise / (on_last - low).clamp(min=1))
    falling = torch.where(high - on_last > on_last - low, 0.0, steep)
    return torch.where(rise > 0, torch.where(c > 0, rising, falling), 0.0)


def inner(corners: Corners, c: Tensor, m: Tensor, *, gradient: bool = True) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The sum over units of the least ``c z - m a``, (rows,), and the minimising (a, z)."""
    least, at = torch.addcmul(c * corners.z, m, corners.a, value=-1).min(0)
    value = least.sum(1)
    if corners.spread is not None:
        value = value - (m.abs() * corners.spread).sum(1)
    if not gradient:
        return value, (least, least)
    return value, (corners.a.gather(0, at[None])[0], corners.z.gather(0, at[None])[0])


def count(thresholds: Tensor, a: Tensor) -> Tensor:
    """How many thresholds of its group each accumulator (rows, n) has reached, int64."""
    groups = len(thresholds)
    if groups == 0:
        return torch.zeros_like(a)
    if groups == 1:
        return torch.searchsorted(thresholds[0], a.contiguous(), right=True)
    rows, n = a.shape
    by_group = a.reshape(rows, groups, n // groups).transpose(0, 1).reshape(groups, -1)
    found = torch.searchsorted(thresholds, by_group.contiguous(), right=True)
    return found.reshape(groups, rows, n // groups).transpose(0, 1).reshape(rows, n)


def pick(thresholds: Tensor, k: Tensor) -> Tensor:
    """``thresholds[group, k]`` for k (rows, n)."""
    groups = len(thresholds)
    if groups == 0:
        return torch.zeros_like(k)
    if groups == 1:
        return thresholds[0][k]
    group = torch.arange(groups).repeat_interleave(k.shape[1] // groups)
    return thresholds[group, k]


def exponents_for(m: dict[int, Tensor], bits: int = 18) -> dict[int, int]:
    """For each operation the exponent at which its largest multiplier has ``bits`` bits."""
    out = {}
    for index, v in m.items():
        largest = float(v.abs().max()) if v.numel() else 0.0
        out[index] = bits - int(np.frexp(largest)[1]) if largest > 0 else bits
    return out


def _of_stairs(made: Stairs, keep: Int64Array, size: int, shape: tuple[int, ...], a0: Int64Array, z0: Int64Array, dense: bool) -> Unit:
    early, late, spread = made.early, made.late, made.spread
    if len(early) > 1 and dense:
        early, late, spread = early[keep], late[keep], spread[keep]
    n = len(keep)
    per_unit = np.broadcast_to(spread, (n,)) if len(spread) == 1 else np.repeat(spread, n // max(len(spread), 1))
    reachable = np.abs(early) < _FAR
    first = np.where(reachable.any(1), early[np.arange(len(early)), reachable.argmax(1)], 0) if early.shape[1] else np.zeros(len(early))
    last_index = early.shape[1] - 1 - reachable[:, ::-1].argmax(1) if early.shape[1] else np.zeros(len(early), int)
    last = np.where(reachable.any(1), early[np.arange(len(early)), last_index], 0) if early.shape[1] else first
    step = np.maximum((last - first) / np.maximum(reachable.sum(1) - 1, 1), 1.0)
    steps = np.broadcast_to(step, (n,)) if len(step) == 1 else np.repeat(step, n // max(len(step), 1))
    return Unit(
        keep,
        size,
        made.lo,
        torch.from_numpy(early.copy()),
        torch.from_numpy(late.copy()),
        torch.from_numpy(per_unit.astype(np.float64)),
        torch.from_numpy(a0[keep].copy()),
        torch.from_numpy(z0[keep].copy()),
        torch.from_numpy(steps.astype(np.float64)),
        (1, early.shape[1]),
    )
