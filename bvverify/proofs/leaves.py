"""The leaves of a certificate that a solver closed: their proofs, made and checked.

What a leaf asks is derived as the kernel derives it, from the box, the claims and the splits above the leaf: nothing that a search or a
solver said takes part. So a proof shows that no input of the leaf meets its conjunction, given what the kernel has shown of the claims.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bvverify.certify.kernel import Rejected, _Checker
from bvverify.certify.ranges import ANYTHING, Frame, Limits, Ranges, propagate
from bvverify.errors import InternalError
from bvverify.model.certificate import MOST_PROOF_BYTES, Certificate, Kind, LeafProof, units
from bvverify.model.query import Query
from bvverify.model.result import CheckReport
from bvverify.proofs import drat
from bvverify.proofs.clauses import SCHEME, question
from bvverify.proofs.gates import TooLarge
from bvverify.run import replay

TRUSTED = f"the translation into clauses (bvverify.proofs, {SCHEME!r})"


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A solver's leaf: its node in the forest, its conjunction, and the ranges of its inputs."""

    node: int
    conjunction: int
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class LeafReport:
    """``proved`` leaves that ``checker`` accepted; ``left``: of the others the node, the conjunction, and why they are unchecked."""

    proved: int
    left: tuple[tuple[int, int, str], ...]
    checker: str

    def added_to(self, report: CheckReport) -> CheckReport:
        """What the kernel accepted, and this."""
        return replace(report, solver_leaves=len(self.left), proved_leaves=self.proved)

    def __str__(self) -> str:
        first = f": node {self.left[0][0]}: {self.left[0][2]}" if self.left else ""
        total = self.proved + len(self.left)
        return f"{self.proved} of {total} leaves that a solver closed have a checked proof{first}"


def leaves(certificate: Certificate, query: Query) -> Iterator[Leaf]:
    """The solver's leaves of a certificate that the kernel has accepted."""
    frame, box = Frame(query.network), (query.box.lo[None], query.box.hi[None])
    claims = _claims(certificate, query)
    opaque = propagate(frame, *box, claims).opaque
    for leaf in _Checker(certificate, query)._leaves(certificate.forest):
        if leaf.kind is not Kind.SOLVER:
            continue
        limits: Limits = dict(claims)
        for op, (lo, hi) in leaf.limits.items():
            known = claims.get(op, (lo[None], hi[None]))
            limits[op] = np.maximum(lo, known[0]), np.minimum(hi, known[1])
        yield Leaf(leaf.number, leaf.conjunction, propagate(frame, *box, limits, opaque))


def _claims(certificate: Certificate, query: Query) -> Limits:
    """What the tightenings, all of them proved, say of the accumulators."""
    claims: Limits = {}
    for t in certificate.tightenings:
        size = units(query.network, t.op)
        lo, hi = claims.setdefault(t.op, (np.full((1, size), -ANYTHING), np.full((1, size), ANYTHING)))
        np.maximum.at(lo[0], t.unit[~t.upper], t.claim[~t.upper])
        np.minimum.at(hi[0], t.unit[t.upper], t.claim[t.upper])
    return claims


def check(certificate: Certificate, query: Query, *, timeout: float | None = None, memory_mb: int = 4096) -> LeafReport:
    """Check the proofs that a certificate brings, for a certificate that the kernel has accepted.

    ``Rejected`` when one does not prove its leaf; a leaf without a proof, or with one that nobody here can check, is left.
    """
    proofs = {p.node: p for p in certificate.leaf_proofs}
    proved, left, by = 0, list[tuple[int, int, str]](), ""
    for leaf in leaves(certificate, query):
        proof = proofs.get(leaf.node)
        if proof is None:
            left.append((leaf.node, leaf.conjunction, "it has no proof"))
            continue
        try:
            gates = question(query.network, leaf.ranges, query.property.violation[leaf.conjunction]).gates
        except TooLarge as error:
            left.append((leaf.node, leaf.conjunction, str(error)))
            continue
        if gates.sha256() != proof.clauses_sha256:
            raise Rejected(f"the forest, node {leaf.node}: its proof is of other clauses than those of the leaf ({SCHEME})")
        checked = drat.check(gates, proof.drat, timeout, memory_mb)
        match checked.outcome:
            case "accepted":
                proved, by = proved + 1, checked.by
            case "refused":
                raise Rejected(f"the forest, node {leaf.node}: its proof is refused: {' '.join(checked.reason.split())}")
            case "unfinished":
                left.append((leaf.node, leaf.conjunction, checked.reason))
    return LeafReport(proved, tuple(left), by)


def prove(certificate: Certificate, query: Query, deadline: float | None, memory_mb: int) -> tuple[Certificate, LeafReport]:
    """Make a proof for each solver's leaf and have it checked; the certificate with those that were accepted.

    ``InternalError`` when an input in a leaf violates the property, or the checker refuses what CaDiCaL wrote.
    """
    proofs, left, by = list[LeafProof](), list[tuple[int, int, str]](), ""
    for leaf in leaves(certificate, query):
        made = _prove(leaf, query, deadline, memory_mb)
        if not isinstance(made, str) and sum(len(p.drat) for p in (*proofs, made[0])) > MOST_PROOF_BYTES:
            made = f"its proof would make those of the certificate larger than {MOST_PROOF_BYTES >> 20} MB"
        if isinstance(made, str):
            left.append((leaf.node, leaf.conjunction, made))
        else:
            by = made[1]
            proofs.append(made[0])
    return replace(certificate, leaf_proofs=tuple(proofs)), LeafReport(len(proofs), tuple(left), by)


def _prove(leaf: Leaf, query: Query, deadline: float | None, memory_mb: int) -> tuple[LeafProof, str] | str:
    """The proof of one leaf and its checker, or why there is none."""
    if deadline is not None and time.monotonic() > deadline:
        return "the time limit ran out"
    try:
        asked = question(query.network, leaf.ranges, query.property.violation[leaf.conjunction])
    except TooLarge as error:
        return str(error)
    found = drat.prove(asked.gates, _left(deadline), memory_mb)
    if found.satisfied is not None:
        x = asked.tensor(0, found.satisfied)
        if query.box.contains(x) and replay.violates(query, x[None])[0]:
            raise InternalError(f"a solver closed node {leaf.node}, in which an input violates the property: please report this")
        return "its clauses, which say less than the solver knew, can be satisfied"
    if found.drat is None:
        return found.reason
    checked = drat.check(asked.gates, found.drat, _left(deadline), memory_mb)
    if checked.outcome == "refused":
        raise InternalError(f"{checked.by} refuses CaDiCaL's proof of node {leaf.node}: {checked.reason}; please report this")
    return (LeafProof(leaf.node, asked.gates.sha256(), found.drat), checked.by) if checked.outcome == "accepted" else checked.reason


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0.1)
