"""The Lagrangian bound over step functions, batched in torch: for any multipliers a lower bound.

For a linear form with coefficients C on some tensor, one multiplier m for each unit, and c what reaches a unit's result from above,

    L(m) = constant + sum over units of min over a in [l, u] of (c z(a) - m a)  +  min over the box of c x.

L is concave and piecewise linear in m. Its supergradient is the residual ``W z* + b - a*`` of the minimisers: two linear maps a layer, no
autograd; ``bvverify.bounds.ascent`` climbs it. All numbers are relative to a reference run of the network: then constants drop out and
float32 suffices for the search, where raw accumulators pass 2^24. What is to be believed is evaluated again in float64 at multipliers
rounded to integers, and checked by the kernel in integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bvverify.bounds import interval, stairs
from bvverify.bounds.interval import Range
from bvverify.bounds.linear_maps import LinearMap, Tensor, kept, linear_map, positions
from bvverify.bounds.units import Corners, Unit, count, inner, of_stairs, pick
from bvverify.model.certificate import Multipliers, units
from bvverify.model.network import Network
from bvverify.model.ops import Add, AvgPool, Clamp, Conv2d, Dense, Lookup, MaxPool, Reshape, SumThenRequantise, Transpose, inputs
from bvverify.model.types import Int64Array

Box = tuple[Tensor, Tensor]
"""The middle of each row's inputs, relative to the reference, and half their width: (rows, kept elements) each, or (kept elements,)."""


def _box(lo: Int64Array, hi: Int64Array, dtype: torch.dtype) -> Box:
    return torch.tensor((lo + hi) / 2, dtype=dtype), torch.tensor((hi - lo) / 2, dtype=dtype)


def _least(c: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """The least ``c x`` over a box, (rows,), and where: at a corner, or in the middle of what c leaves out."""
    middle, half = box
    size = c.abs()
    value = c @ middle - size @ half if middle.dim() == 1 else (c * middle).sum(1) - (size * half).sum(1)
    return value, torch.addcmul(middle, c.sign(), half, value=-1)


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
    first: dict[int, Tensor]
    """Accumulators of the operations that the input alone reaches, at the minimiser."""


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
        self.first = _first(network)
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
        self.v0 = v0
        least = [a.reshape(-1)[k] - v for a, k, v in zip(lo, self.keep, v0, strict=True)]
        most = [a.reshape(-1)[k] - v for a, k, v in zip(hi, self.keep, v0, strict=True)]
        self.ranges = {dtype: [_box(a, b, dtype) for a, b in zip(least, most, strict=True)] for dtype in self.dtypes}

    def box(self, x: tuple[Int64Array, Int64Array] | None, dtype: torch.dtype) -> Box | None:
        """Ranges of inputs row by row, int64 (rows, all elements) twice, as evaluations take them; None stays None: the whole box."""
        if x is None:
            return None
        lo, hi = (side[:, self.keep[0]] - self.v0[0] for side in x)
        return _box(lo, hi, dtype)

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
                line = empty.double()
                return Unit(
                    keep, size, 0, empty, empty, line, line, torch.from_numpy(a0), torch.from_numpy(z0), one, (0, 0), table, op.input_lo
                )
            case _:
                return None
        return of_stairs(made, keep, size, shape, a0, z0, isinstance(op, Dense))

    def corners(self, index: int, l: Tensor, u: Tensor, dtype: torch.dtype) -> Corners:
        """The corners of operation ``index`` for accumulators in ``[l, u]``, int64 (rows, n)."""
        unit = self.units[index]
        if unit.table is not None:
            entries = torch.arange(int(l.min()), int(u.max()) + 1)[:, None, None].clamp(min=l, max=u)
            return Corners(torch.stack([entries - unit.a0, unit.table[entries - unit.table_lo] - unit.z0]).to(dtype), None)
        if unit.early.shape[1] == 0:
            level = (unit.lo - unit.z0).expand_as(l)
            left, right = (torch.stack([a - unit.a0, level])[:, None].to(dtype) for a in (l, u))
            return Corners(left, right)
        first, last = count(unit.late, l), count(unit.early, u)
        last = torch.maximum(last, first)
        some = (last > first).to(torch.int64)
        i, j = first * some, (last - 1) * some
        l, u, many = l.double(), u.double(), last - first > 2
        # With more than three levels both ends are on the line; where there is no step all three are the end of the range.
        on = [l + some * (torch.where(many, pick(unit.left, k), pick(unit.early, k).double()) - l) for k in (i, j)]
        before = [u + some * (torch.where(many, pick(unit.right, k), pick(unit.late, k).double() - 1) - u) for k in (i, j)]
        left = torch.stack([l, *on, first, first + some, last])
        right = torch.stack([*before, u, first, last - some, last])
        offset = torch.stack([unit.a0, unit.z0 - unit.lo])[:, None, None]
        left, right = ((side.reshape(2, 3, *l.shape) - offset).to(dtype) for side in (left, right))
        return Corners(left, right)

    def evaluate(
        self,
        corners: dict[int, Corners],
        m: dict[int, Tensor],
        forms: dict[int, Tensor],
        constant: Tensor,
        *,
        box: Box | None = None,
        gradient: bool = True,
        before: Point | None = None,
        blur: Tensor | None = None,
    ) -> Point:
        """L at multipliers ``m`` for forms by tensor (rows, kept elements); ``blur`` (rows, 1) is that of ``units.inner``.

        With ``before``, what the input contributes is that of an earlier evaluation: the first layer, which is most of the work, is
        left out. The residuals are then only near a supergradient, and the value is no bound.
        """
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
                back = [self._max_backward(index, c, corners, m, stars, coefficients, value, blur)]
            elif index in self.units:
                least, star = inner(corners[index], c, m[index], gradient=gradient, blur=blur)
                value += least
                coefficients[index] = c
                stars[index] = star
                if before is not None and index in self.first:
                    continue
                back = maps.backward(m[index])  # type: ignore[union-attr]
            elif units(network, index) == 0 and maps is not None and not isinstance(op, AvgPool):
                back = maps.backward(c)
            else:
                least, loose[index] = _least(c, self.ranges[dtype][index + 1])
                value += least
                continue
            for t, form in zip(inputs(op), back, strict=True):
                forms[t] = forms[t] + form if t in forms else form
        rows = len(value)
        if before is None:
            c = forms.get(0)
            c = constant.new_zeros(rows, len(self.keep[0])) if c is None else c
            least, x = _least(c, box or self.ranges[dtype][0])
            value += least
            first: dict[int, Tensor] = {}
        else:
            c, x, first = before.over_x, before.x, before.first
        a_star, z_star = ({i: s[k] for i, s in stars.items()} for k in (0, 1))
        point = Point(value, {}, a_star, z_star, coefficients, x, c, {0: x}, first)
        if gradient:
            self._residuals(point, seen, stars, loose)
        return point

    def _residuals(
        self,
        point: Point,
        seen: list[int],
        stars: dict[int, tuple[Tensor, Tensor]],
        loose: dict[int, Tensor],
    ) -> None:
        """Forwards through the minimisers: how far each accumulator is from what the minimisers below it give."""
        values = point.outputs
        for index in reversed(seen):
            op, maps = self.network.ops[index], self.maps[point.value.dtype][index]
            if index in loose:
                values[index + 1] = loose[index]
                continue
            xs = [values[t] for t in inputs(op) if t in values]
            if index in self.positions:
                values[index + 1] = self._max_forward(index, xs[0], stars, point.residual)
            elif index in stars:
                a, z = stars[index]
                acc = point.first[index] if index in point.first else maps.forward(xs)  # type: ignore[union-attr]
                point.residual[index] = acc - a
                if index in self.first:
                    point.first[index] = acc
                values[index + 1] = z
            else:
                values[index + 1] = maps.forward(xs)  # type: ignore[union-attr]

    def _max_backward(
        self,
        index: int,
        c: Tensor,
        corners: dict[int, Corners],
        m: dict[int, Tensor],
        stars: dict[int, tuple[Tensor, Tensor]],
        coefficients: dict[int, Tensor],
        value: Tensor,
        blur: Tensor | None,
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
            least, stars[index] = inner(corners[index], coefficients[index], m[index], blur=blur)
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
                    parts.append(c * _slope(corners[index].at(slice(None), part), c))
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
        rows = next(iter(corners.values())).left.shape[2] if corners else 0
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


def _first(network: Network) -> frozenset[int]:
    """The operations with steps that only the input reaches, through views at most; none where something else reads the input, too."""
    views, first = {0}, set()
    for index, op in enumerate(network.ops):
        if not views.isdisjoint(inputs(op)):
            if isinstance(op, Reshape | Transpose):
                views.add(index + 1)
            elif isinstance(op, Dense | Conv2d):
                first.add(index)
            else:
                return frozenset()
    return frozenset(first)


def _slope(corners: Corners, c: Tensor) -> Tensor:
    """The slope of the steep or the flat edge of the hull that c meets, whichever is longer."""
    left, right = corners.left, corners.left if corners.right is None else corners.right
    if right is left or left.shape[1] != 3:  # a table, or nothing but two ends
        width = right[0, -1] - left[0, 0]
        return torch.where(width > 0, (right[1, -1] - left[1, 0]) / width.clamp(min=1), 0.0)
    (low, on_first, on_last), (before_first, before_last, high) = left[0], right[0]
    rise = right[1, 2] - left[1, 0]
    within = (rise - 1) / (before_last - before_first).clamp(min=1)
    steep = torch.where((rise > 1) & ((high - before_last) * within <= 1), within, rise / (high - before_first).clamp(min=1))
    rising = torch.where(before_first - low > high - before_first, 0.0, steep)
    within = (rise - 1) / (on_last - on_first).clamp(min=1)
    steep = torch.where((rise > 1) & ((on_first - low) * within <= 1), within, rise / (on_last - low).clamp(min=1))
    falling = torch.where(high - on_last > on_last - low, 0.0, steep)
    return torch.where(rise > 0, torch.where(c > 0, rising, falling), 0.0)


def exponents_for(m: dict[int, Tensor], bits: int = 18) -> dict[int, int]:
    """For each operation the exponent at which its largest multiplier has ``bits`` bits."""
    out = {}
    for index, v in m.items():
        largest = float(v.abs().max()) if v.numel() else 0.0
        out[index] = bits - int(np.frexp(largest)[1]) if largest > 0 else bits
    return out
