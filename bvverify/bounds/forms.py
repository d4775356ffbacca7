"""Linear forms with exact coefficients: integers times a power of two, with the checks that keep every sum exact.

Sums of products are exact integers in float64 while every partial sum stays below 2^53 (``product`` checks the largest that could occur),
and in int64 below 2^62. Beyond that ``DoesNotFit`` is raised and whoever asked falls back to intervals: a bound is lost, never wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bvverify.model.types import Int64Array

TOTAL_EXPONENT = 20
"""Constants are added up in units of 2^-20, rounded down: a lower bound stays one."""


class DoesNotFit(ArithmeticError):
    """A number of a linear form would leave 64 bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """Linear forms over one tensor: ``coefficients * 2^-exponent``, int64 of shape (rows, *shape of the tensor)."""

    coefficients: Int64Array
    exponent: int


def accumulate(forms: dict[int, Form], tensor: int, form: Form) -> None:
    """Add a form over ``tensor`` to what is already to be bounded there."""
    other = forms.get(tensor)
    if other is not None:
        common = max(form.exponent, other.exponent)
        left = shifted(form.coefficients, common - form.exponent)
        form = Form(left + shifted(other.coefficients, common - other.exponent), common)
    forms[tensor] = form


def times(form: Form, scale: int) -> Form:
    """A form times a positive integer of up to 31 bits; trailing zeros of the scale go into the exponent."""
    zeros = (scale & -scale).bit_length() - 1
    factor = scale >> zeros
    if float(np.abs(form.coefficients).max(initial=0)) * factor >= 2.0**62:
        raise DoesNotFit
    return Form(form.coefficients * factor, form.exponent - zeros)


def shifted(values: Int64Array, shift: int) -> Int64Array:
    """``values * 2^shift`` for ``shift >= 0``, exactly."""
    if shift == 0:
        return values
    if float(np.abs(values).max(initial=0)) * 2.0**shift >= 2.0**62:
        raise DoesNotFit
    return values << shift


def product(a: Int64Array, b: Int64Array) -> Int64Array:
    """``a @ b`` over integers, exactly."""
    largest = float(np.abs(a).max(initial=0)) * float(np.abs(b).sum(axis=-2).max(initial=0))
    if largest < 2.0**53:
        return np.asarray(np.matmul(a.astype(np.float64), b.astype(np.float64))).astype(np.int64)
    if largest < 2.0**62:
        return np.asarray(np.matmul(a, b))
    raise DoesNotFit


def concretise(form: Form, lo: Int64Array, hi: Int64Array) -> Int64Array:
    """The least value of a form over a box, in units of 2^-20, rounded down."""
    flat = form.coefficients.reshape(len(form.coefficients), -1)
    # c*x >= min(c*lo, c*hi), summed as one product each: c * (lo + hi) - |c| * (hi - lo), doubled.
    doubled = product(flat, (lo + hi).reshape(-1, 1)) - product(np.abs(flat), (hi - lo).reshape(-1, 1))
    return to_total(doubled[:, 0], form.exponent + 1)


def to_total(values: Int64Array, exponent: int) -> Int64Array:
    """``values * 2^-exponent`` in units of 2^-20, rounded down."""
    shift = exponent - TOTAL_EXPONENT
    return values >> min(shift, 63) if shift >= 0 else shifted(values, -shift)


def check(c: Int64Array, z: Int64Array, multiplier: Int64Array, a: Int64Array) -> None:
    """Assert that ``c*z - multiplier*a`` stays within 64 bits."""
    size = [float(np.abs(v).max(initial=0)) for v in (c, z, multiplier, a)]
    if size[0] * size[1] + 2 * size[2] * size[3] >= 2.0**62:
        raise DoesNotFit
