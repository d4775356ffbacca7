"""What is asked of two networks side by side, as a property of the joint network's outputs: A's first, then B's.

Outputs are compared as the real numbers that they stand for, ``scale * (y - zero_point)``, with float32 scales taken as the exact dyadic
rationals that they are (what the file's last DequantizeLinear rounds to float32 is that number's neighbour). With two scales, "A's output
is larger than B's by more than delta" is a half plane over pairs of integers with coefficients of 24 bits. Pairs of bytes are few: a half
plane of small coefficients holds the same ones, and the simplest fraction on the way to the quotient of the scales in the tree of Stern
and Brocot gives it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from bvverify.compare.align import two_files
from bvverify.compare.joint import Joint
from bvverify.errors import UnsupportedError
from bvverify.model.network import Network
from bvverify.model.query import Linear, Property
from bvverify.model.types import Int64Array, Quantisation

_MOST_CLASSES = 64
_COEFFICIENT = 1 << 22
_BOUND = 1 << 31
EXACTLY = Fraction(0)


def names(a: Network, b: Network) -> tuple[str, str]:
    """What to call the two: their semantics, or where they come from two files, those."""
    return (a.provenance.path, b.provenance.path) if two_files(a, b) else (a.semantics, b.semantics)


def meanings(a: Network, b: Network) -> tuple[Quantisation, Quantisation]:
    """The real numbers that outputs of A and of B stand for; integers stand for themselves where neither file says more.

    ``UnsupportedError`` where only one does, or where both give integers of different types.
    """
    one, other = a.output.dequantiser, b.output.dequantiser
    if two_files(a, b):
        one, other = one or a.output_tensor.quantisation, other or b.output_tensor.quantisation
    if one is None and other is None and a.output_tensor.qtype == b.output_tensor.qtype:
        one = other = Quantisation(1.0, 0)
    if one is None or other is None:
        ours, theirs = names(a, b)
        raise UnsupportedError(
            f"{a.provenance.path}: output {a.output_tensor.name}: {ours} gives {a.output_tensor.qtype}, {theirs} {b.output_tensor.qtype} of"
            " another scale; ask about the class (--class)"
        )
    return one, other


def differ(a: Network, b: Network, y: Int64Array, z: Int64Array, delta: Fraction = EXACTLY) -> bool:
    """Whether an output of A (``y``, flat) and the same one of B (``z``) stand for numbers more than ``delta`` apart; in rationals."""
    one, other = meanings(a, b)
    pairs = zip(y.ravel().tolist(), z.ravel().tolist(), strict=True)
    return any(abs(_real(one, p) - _real(other, q)) > delta for p, q in pairs)


def _real(meaning: Quantisation, value: int) -> Fraction:
    return Fraction(meaning.scale) * (value - meaning.zero_point)


def differing_outputs(joint: Joint, delta: Fraction = EXACTLY) -> Property:
    """Violated where an output of A is not the same output of B, give or take ``delta``."""
    a, b = joint.a, joint.b
    n = a.output_tensor.size
    one, other = meanings(a, b)
    over = half_plane(one, _ends(a), other, _ends(b), delta)
    under = half_plane(other, _ends(b), one, _ends(a), delta)
    rows = []
    for i in range(n):
        if over is not None:
            p, q, bound = over
            rows.append((Linear.of(2 * n, {i: -p, n + i: q}, -bound),))
        if under is not None:
            p, q, bound = under
            rows.append((Linear.of(2 * n, {n + i: -p, i: q}, -bound),))
    ours, theirs = names(a, b)
    more = f" by more than {delta}" if delta else ""
    return Property(tuple(rows), f"no output differs{more} between {ours} and {theirs}")


def _ends(network: Network) -> tuple[int, int]:
    return network.output_tensor.qtype.lo, network.output_tensor.qtype.hi


def half_plane(
    one: Quantisation, ys: tuple[int, int], other: Quantisation, zs: tuple[int, int], delta: Fraction
) -> tuple[int, int, int] | None:
    """Positive ``(p, q, bound)``: ``p*y - q*z >= bound`` exactly where y stands for more than z does, plus ``delta``.

    For ``y`` and ``z`` within ``ys`` and ``zs``, both inclusive. None where that is so of no pair.
    ``UnsupportedError`` where no coefficients of 22 bits say it.
    """
    s, t = Fraction(one.scale), Fraction(other.scale)
    beyond = delta + s * one.zero_point - t * other.zero_point
    z = np.arange(zs[0], zs[1] + 1)
    least = np.array([min(max(math.floor((beyond + t * int(v)) / s) + 1, ys[0]), ys[1] + 1) for v in z], np.int64)
    inside, outside = least <= ys[1], least > ys[0]
    if not inside.any():
        return None
    for p, q in _towards(s / t):
        bound = int((p * least - q * z)[inside].min())
        if not outside.any() or int((p * (least - 1) - q * z)[outside].max()) < bound:
            if abs(bound) < _BOUND:
                return p, q, bound
            break
    raise UnsupportedError(f"outputs on the scales {one.scale:g} and {other.scale:g}: a difference of them takes too large coefficients")


def _towards(ratio: Fraction) -> Iterator[tuple[int, int]]:
    """The fractions p/q on the way to a positive ``ratio`` in the tree of Stern and Brocot, from the root, up to 22 bits."""
    (a, b), (c, d) = (0, 1), (1, 0)
    while True:
        p, q = a + c, b + d
        if max(p, q) > _COEFFICIENT:
            return
        yield p, q
        middle = Fraction(p, q)
        if middle == ratio:
            return
        (a, b), (c, d) = ((p, q), (c, d)) if middle < ratio else ((a, b), (p, q))


def differing_classes(joint: Joint) -> Property:
    """Violated where the first index of the largest output is another one: A's is i and B's is j, for each i and j."""
    a, b = joint.a, joint.b
    n = a.output_tensor.size
    if n > _MOST_CLASSES:
        raise UnsupportedError(f"{a.provenance.path}: output {a.output_tensor.name}: has {n} classes; --class takes up to {_MOST_CLASSES}")
    of_a, of_b = ([tuple(Linear.beats(2 * n, o + i, o + k) for k in range(n) if k != i) for i in range(n)] for o in (0, n))
    rows = [(*of_a[i], *of_b[j]) for i in range(n) for j in range(n) if i != j]
    return Property(tuple(rows), f"the class is the same under {names(a, b)[0]} and {names(a, b)[1]}")
