"""``check``: accept a certificate, or say why not and where.

What is shown, in this order. The statement is the one that was asked. Each tightening's claims follow from the box and the claims before
it, by weak duality. The forest has one tree for each conjunction of the violation; the two parts of every split cover what was split,
since an integer is at most v or at least v + 1; and in each leaf the conjunction cannot be met. What is trusted: this package,
``bvverify.model`` (thresholds and shapes), ``bvverify.run`` (the interpreter), NumPy; and each solver leaf, which is counted and not
checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bvverify.certify.dual import Dual
from bvverify.certify.ranges import ANYTHING, Frame, Limits, Ranges, propagate
from bvverify.model.certificate import Certificate, Forest, Kind, Statement, Tightening, units
from bvverify.model.query import Query
from bvverify.model.result import CheckReport
from bvverify.run.exact import Scaled, narrow

_ROWS = 256


class Rejected(Exception):
    """The certificate proves nothing; the message says what is wrong, and where."""


@dataclass(frozen=True, slots=True, eq=False)
class _Leaf:
    number: int
    kind: Kind
    conjunction: int
    row: int
    """Its place among the leaves with multipliers."""
    limits: dict[int, tuple[Any, Any]]


def check(certificate: Certificate, query: Query) -> CheckReport:
    """Check that ``certificate`` proves ``query``; raises ``Rejected``."""
    different = certificate.statement.differs(Statement.of(query))
    if different:
        raise Rejected(f"it is about {different}")
    place = ""
    try:
        for number, tightening in enumerate(certificate.tightenings):
            place = f"tightening {number}: "
            tightening.check(query.network)
        place = "the forest: "
        certificate.forest.check(query.network)
        place = ""
        return _Checker(certificate, query).run()
    except ValueError as error:
        raise Rejected(f"{place}{error}") from None


class _Checker:
    def __init__(self, certificate: Certificate, query: Query) -> None:
        self.certificate, self.query, self.network = certificate, query, query.network
        self.frame = Frame(query.network)
        self.box = query.box.lo[None], query.box.hi[None]
        self.claims: Limits = {}
        self.below: tuple[int, Any] = (-1, None)
        self.splits, self.leaves = 0, dict.fromkeys(Kind, 0)

    def run(self) -> CheckReport:
        """All of it."""
        for number, tightening in enumerate(self.certificate.tightenings):
            self._tighten(f"tightening {number}", tightening)
        self.root = propagate(self.frame, *self.box, self.claims)
        if self.root.empty.any():
            raise Rejected("the claims leave no value for an accumulator")
        chunk: list[_Leaf] = []
        for leaf in self._leaves(self.certificate.forest):
            self.leaves[leaf.kind] += 1
            if leaf.kind is not Kind.SOLVER:
                chunk.append(leaf)
            if len(chunk) == _ROWS:
                self._close(chunk)
                chunk = []
        if chunk:
            self._close(chunk)
        claims = sum(len(t.unit) for t in self.certificate.tightenings)
        return CheckReport(claims, self.splits, *(self.leaves[k] for k in (Kind.INTERVAL, Kind.BOUND, Kind.SOLVER)))

    def _tighten(self, place: str, claim: Tightening) -> None:
        """Prove a tightening's claims and add them to what is known."""
        network, rows, size = self.network, len(claim.unit), units(self.network, claim.op)
        if claim.op != self.below[0]:  # claims about an operation leave what is below it as it was
            self.below = claim.op, propagate(self.frame, *self.box, self.claims)
        ranges = self.below[1]
        sign = np.where(claim.upper, -1, 1)
        for start in range(0, rows, _ROWS):
            part = np.arange(start, min(start + _ROWS, rows))
            dual, weight = Dual(self.frame, len(part)), np.zeros((len(part), size), np.int64)
            weight[np.arange(len(part)), claim.unit[part]] = sign[part]
            dual.push(claim.op, weight, 0)
            bound, exponent = dual.lower(ranges, claim.multipliers.at(part))
            # The accumulator is an integer: above claim - 1 it is at least the claim.
            wanted = (sign[part] * claim.claim[part] - 1).astype(object) * (1 << exponent)
            weak = np.flatnonzero(bound <= wanted)
            if len(weak):
                row = part[weak[0]]
                proved = -(-int(bound[weak[0]]) >> exponent) * int(sign[row])
                raise Rejected(
                    f"{place}, {network.ops[claim.op].name}, unit {claim.unit[row]}: claims {'at most' if claim.upper[row] else 'at least'}"
                    f" {claim.claim[row]}, its multipliers prove {proved}"
                )
        known = self.claims.get(claim.op, (np.full((1, size), -ANYTHING), np.full((1, size), ANYTHING)))
        lo, hi = (side.copy() for side in known)
        np.maximum.at(lo[0], claim.unit[~claim.upper], claim.claim[~claim.upper])
        np.minimum.at(hi[0], claim.unit[claim.upper], claim.claim[claim.upper])
        self.claims[claim.op] = lo, hi

    def _leaves(self, forest: Forest) -> Iterator[_Leaf]:
        """Every leaf with the limits that the splits above it set; ``Rejected`` where the forest is not one tree a conjunction."""
        sizes = {op: units(self.network, op) for op in {int(i) for i in forest.split_op}}
        limits = {op: (np.full(size, -ANYTHING), np.full(size, ANYTHING)) for op, size in sizes.items()}
        conjunction, split, bound = 0, 0, 0
        path: list[tuple[int, int, int, int, bool]] = []  # operation, unit, value, the limit to restore, whether in the second part
        for number, code in enumerate(forest.kind.tolist()):
            if conjunction == len(self.query.property.violation):
                raise Rejected(f"the forest, node {number}: more trees than the violation has conjunctions")
            if code == Kind.SPLIT:
                op, unit, value = int(forest.split_op[split]), int(forest.split_unit[split]), int(forest.split_value[split])
                path.append((op, unit, value, int(limits[op][1][unit]), False))
                limits[op][1][unit] = min(limits[op][1][unit], value)
                split += 1
                continue
            if code not in (Kind.INTERVAL, Kind.BOUND, Kind.SOLVER):
                raise Rejected(f"the forest, node {number}: an unknown kind {code}")
            yield _Leaf(number, Kind(code), conjunction, bound, {op: (lo.copy(), hi.copy()) for op, (lo, hi) in limits.items()})
            bound += code == Kind.BOUND
            while path:
                op, unit, value, before, second = path.pop()
                limits[op][0 if second else 1][unit] = before
                if not second:
                    path.append((op, unit, value, int(limits[op][0][unit]), True))
                    limits[op][0][unit] = max(limits[op][0][unit], value + 1)
                    break
            if not path:
                conjunction += 1
        self.splits = split
        if conjunction != len(self.query.property.violation):
            raise Rejected(f"the forest: a leaf is missing in tree {conjunction} of {len(self.query.property.violation)}")

    def _close(self, leaves: list[_Leaf]) -> None:
        """Show that no input of any of these leaves meets its conjunction."""
        limits: Limits = dict(self.claims)
        for op in leaves[0].limits:
            lo, hi = (np.stack([leaf.limits[op][side] for leaf in leaves]) for side in (0, 1))
            known = self.claims.get(op)
            if known is not None:
                lo, hi = np.maximum(lo, known[0]), np.minimum(hi, known[1])
            if (lo == lo[0]).all() and (hi == hi[0]).all():
                lo, hi = lo[:1], hi[:1]
            limits[op] = lo, hi
        ranges = propagate(self.frame, *self.box, limits, self.root.opaque)
        empty = np.broadcast_to(ranges.empty, (len(leaves),))
        for i, leaf in enumerate(leaves):
            if leaf.kind is Kind.INTERVAL and not empty[i] and not self._excluded_by_interval(ranges, i, leaf.conjunction):
                raise Rejected(f"the forest, node {leaf.number}: intervals do not exclude conjunction {leaf.conjunction}")
        bounded = [i for i, leaf in enumerate(leaves) if leaf.kind is Kind.BOUND and not empty[i]]
        if bounded:
            bound, exponent = self._bound([leaves[i] for i in bounded], ranges.at(np.array(bounded)))
            for weak in np.flatnonzero(bound <= 0):
                leaf, proved = leaves[bounded[weak]], float(bound[weak]) / 2.0**exponent
                place = f"the forest, node {leaf.number}"
                raise Rejected(f"{place}: conjunction {leaf.conjunction} is bounded by {proved:.6g} only, not above zero")

    def _excluded_by_interval(self, ranges: Ranges, position: int, conjunction: int) -> bool:
        ends = [(side[self.network.output.tensor], side[0]) for side in (ranges.lo, ranges.hi)]
        (y_lo, x_lo), (y_hi, x_hi) = ([side[position if len(side) > 1 else 0].ravel() for side in end] for end in ends)
        for row in self.query.property.violation[conjunction]:
            # Coefficients are below 2^31 and values below 2^16 (model.query).
            least = int(np.minimum(row.outputs * y_lo, row.outputs * y_hi).sum())
            if row.inputs is not None:
                least += int(np.minimum(row.inputs * x_lo, row.inputs * x_hi).sum())
            if least > row.bound:
                return True
        return False

    def _bound(self, leaves: list[_Leaf], ranges: Ranges) -> Scaled:
        """Lower bounds of the weighted rows minus their bounds: above zero, no input meets all of the rows.

        With weights zero as well: then the form is zero everywhere, and a bound above that leaves no input.
        """
        forest, output = self.certificate.forest, self.network.output.tensor
        dual, at = Dual(self.frame, len(leaves)), np.array([leaf.row for leaf in leaves])
        sizes = self.network.output_tensor.size, self.network.input.tensor.size
        c, over, constant = (np.zeros((len(leaves), n), object) for n in (*sizes, 1))
        for i, leaf in enumerate(leaves):
            rows = self.query.property.violation[leaf.conjunction]
            weight = forest.weight[leaf.row]
            if len(weight) < len(rows) or (weight < 0).any() or weight[len(rows) :].any():
                raise Rejected(f"the forest, node {leaf.number}: its row weights are not one non-negative number a row")
            for w, row in zip(weight.tolist(), rows, strict=False):
                if w:
                    c[i] += w * row.outputs
                    constant[i] -= w * row.bound
                    if row.inputs is not None:
                        over[i] += w * row.inputs
        dual.add_constant(constant[:, 0], 0)
        dual.add_form(output, narrow(c).reshape(len(leaves), *self.network.output_tensor.shape), 0)
        if over.any():
            dual.add_form(0, narrow(over).reshape(len(leaves), *self.network.input.tensor.shape), 0)
        return dual.lower(ranges, forest.multipliers.at(at))
