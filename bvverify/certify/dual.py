"""Weak duality: a lower bound of linear forms over a network, for any multipliers, in exact integers.

Walk the network backwards with coefficients c on each tensor. At a step function ``z`` of the accumulator ``a``, with multiplier m,

    c * z  >=  m * a + least (c * z - m * a) over the step function on the accumulator's range,

and ``m * a`` is again a linear form over earlier tensors, the accumulator being linear in them. What reaches the input is least at a
corner of its range. Every ``>=`` holds for every m, so that nothing here depends on where the multipliers came from.
"""

from __future__ import annotations

from typing import Any, assert_never

import numpy as np

from bvverify.certify.ranges import Frame, Ranges
from bvverify.certify.steps import least_on_steps, least_on_table
from bvverify.model import ops
from bvverify.model.certificate import Multipliers
from bvverify.run.adjoint import adjoint, scatter, windows
from bvverify.run.exact import Scaled, add, add_scaled, common, fit, magnitude, scale, total


class Dual:
    """A bound under way: ``forms`` still to be bounded by tensor, (rows, *shape), and the ``constant`` so far, (rows,)."""

    def __init__(self, frame: Frame, rows: int) -> None:
        self.frame, self.network, self.rows = frame, frame.network, rows
        self.forms: dict[int, Scaled] = {}
        self.constant: Scaled = (np.zeros(rows, object), 0)

    def add_constant(self, values: Any, exponent: int) -> None:
        """Add ``values * 2^-exponent`` (rows,) to the bound."""
        self.constant = add_scaled(self.constant, (np.broadcast_to(values, (self.rows,)).astype(object), exponent))

    def add_form(self, tensor: int, form: Any, exponent: int) -> None:
        """Add a form over a tensor to what is to be bounded."""
        self.forms[tensor] = add_scaled(self.forms[tensor], (form, exponent)) if tensor in self.forms else (form, exponent)

    def push(self, index: int, m: Any, exponent: int) -> None:
        """Add multipliers on the accumulators of operation ``index`` (rows, units), as forms over its inputs."""
        forms, constant = adjoint(self.network, index, m)
        for tensor, form in forms:
            self.add_form(tensor, form, exponent)
        self.add_constant(constant, exponent)

    def lower(self, ranges: Ranges, multipliers: Multipliers) -> Scaled:
        """The bound of everything, (rows,) big integers times ``2^-exponent``; ``ranges`` have as many rows, or one."""
        for tensor in range(len(self.network.ops), 0, -1):
            if tensor in self.forms:
                self._back(ranges, tensor - 1, *self.forms.pop(tensor), multipliers)
        if 0 in self.forms:
            self._least_in_range(*self.forms.pop(0), ranges, 0)
        return self.constant

    def _back(self, ranges: Ranges, index: int, c: Any, exponent: int, multipliers: Multipliers) -> None:
        """Take the form ``c`` off the result of operation ``index``."""
        op, steps = self.network.ops[index], self.frame.steps[index]
        shapes = [self.network.tensors[t].shape for t in ops.inputs(op)]
        match op:
            case ops.Concat():
                ends = np.cumsum([shape[op.axis] for shape in shapes])[:-1]
                for tensor, part in zip(op.xs, np.split(c, ends, axis=op.axis + 1), strict=True):
                    self.add_form(tensor, part, exponent)
            case ops.Reshape():
                self.add_form(op.x, c.reshape(self.rows, *shapes[0]), exponent)
            case ops.Transpose():
                self.add_form(op.x, c.transpose(0, *(int(a) + 1 for a in np.argsort(op.axes))), exponent)
            case ops.MaxPool():
                self._back_through_max(ranges, index, op, c, exponent, multipliers)
            case ops.Dense() | ops.Conv2d() | ops.Add() | ops.AvgPool() | ops.Clamp() | ops.Lookup():
                if index in ranges.opaque or (steps is None and not isinstance(op, ops.Lookup)):
                    self._least_in_range(c, exponent, ranges, index + 1)
                    return
                flat = c.reshape(self.rows, -1)
                m, m_exponent = multipliers.of(index, flat.shape)
                (c2, fine), (m2, _) = common((flat, exponent), (m, m_exponent))
                if isinstance(op, ops.Lookup):
                    self.add_constant(total(least_on_table(op, c2, m2, *ranges.acc[index])), fine)
                if steps is not None:
                    least = least_on_steps(steps, c2, m2, *ranges.acc[index], self.network.tensors[index + 1].shape)
                    self.add_constant(total(least), fine + steps.bits)
                if m.any():
                    self.push(index, m, m_exponent)
            case _:
                assert_never(op)

    def _back_through_max(self, ranges: Ranges, index: int, op: ops.MaxPool, c: Any, exponent: int, multipliers: Multipliers) -> None:
        """``m_k = m_(k-1) + max(0, x_k - m_(k-1))``, from the last position of the window to the first."""
        x, out = self.network.tensors[op.x], self.network.tensors[index + 1].shape
        positions, size = op.window.kernel[0] * op.window.kernel[1], int(np.prod(out))
        (low, high), steps = ranges.acc[index], self.frame.steps[index]
        m = multipliers.of(index, (self.rows, (positions - 1) * size))
        (c, fine), (values, _) = common((c.reshape(self.rows, -1), exponent), m)
        assert steps is not None
        parts = []
        for k in range(positions - 1, 0, -1):
            at = slice((k - 1) * size, k * size)
            self.add_constant(total(least_on_steps(steps, c, values[:, at], low[:, at], high[:, at], out)), fine + steps.bits)
            parts.append(values[:, at])
            c = add(c, -values[:, at])
        everything = np.stack([c, *parts[::-1]], axis=1).reshape(self.rows, positions, *out).swapaxes(1, 2)
        _, inside = windows(np.zeros((1, 1, *x.shape[1:]), np.int64), op, 0)
        # A padded position holds the type's least value; ``scatter`` drops it.
        self.add_constant(scale(total(np.where(inside, 0, everything)), x.qtype.lo), fine)
        self.add_form(op.x, scatter(everything, op, x.shape), fine)

    def _least_in_range(self, c: Any, exponent: int, ranges: Ranges, tensor: int) -> None:
        """Add the least ``c * x`` over the range of a tensor."""
        lo, hi = ranges.lo[tensor], ranges.hi[tensor]
        c = fit(magnitude(c) * max(magnitude(lo), magnitude(hi)), c)[0]
        self.add_constant(total(np.minimum(c * lo, c * hi)), exponent)
