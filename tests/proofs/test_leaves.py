"""Leaves that a solver closed: their proofs are made, stored, and checked without a solver; whatever is tampered with is rejected."""

import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import random_networks
import units

from bvverify import pipeline
from bvverify.certify import kernel
from bvverify.errors import InputError, InternalError
from bvverify.load import certificate_file
from bvverify.model.certificate import Forest, Kind, LeafProof, Multipliers
from bvverify.model.result import Verdict
from bvverify.proofs import drat, leaves
from bvverify.proofs.gates import Gates
from bvverify.run import interpreter
from bvverify.search import proof
from bvverify.search.root import Root, tighten

STAGES = frozenset({"root", "search"})


def whole(query, tightenings=()):
    """A certificate that leaves each conjunction, on the whole box, to a solver."""
    return proof.certificate(query, tightenings, [proof.solver_leaf() for _ in query.property.violation])


def split(query, tightenings, op, unit, value):
    """The same with the box cut in two at an accumulator, and the first part in two once more."""
    two = np.array([op, op]), np.array([unit, unit]), np.array([value, value - 1])
    tree = Forest(np.array([0, 0, 3, 3, 3]), *two, np.zeros((0, 1), np.int64), Multipliers(0, {}, {}))
    return proof.certificate(query, tightenings, [tree for _ in query.property.violation])


def accepted(certificate, query):
    kernel.check(certificate, query)
    return leaves.check(certificate, query)


@pytest.fixture(scope="module")
def proved():
    """Claims about two layers, splits of the first, six leaves, all with a proof."""
    query, violated = random_networks.question(70_271, ["dense", "dense"])
    assert not violated
    root = Root.of(query, [])
    tighten(root, None)
    assert root.tightenings
    lo, hi = root.ranges.acc[1]
    unit = int((hi - lo)[0].argmax())
    made = split(query, root.tightenings, 1, unit, int(lo[0, unit] + hi[0, unit]) // 2)
    certificate, report = leaves.prove(made, query, None, 4096)
    assert report.left == ()
    assert max(len(p.drat) for p in certificate.leaf_proofs) > 100
    return query, certificate


def test_every_leaf_gets_a_proof_that_is_accepted_without_the_solver(proved):
    query, certificate = proved
    report = accepted(certificate, query)
    assert (report.proved, report.left) == (len(certificate.leaf_proofs), ())
    assert report.proved == int((certificate.forest.kind == Kind.SOLVER).sum())
    assert report.checker.startswith("dratify ")


def test_every_input_is_inside_the_ranges_of_its_leaf_which_keep_the_claims(proved):
    query, certificate = proved
    x = random_networks.points(query.box)
    tensors = interpreter.trace(query.network, x)
    acc = units.accumulators(query.network, tensors)
    members = np.zeros((len(query.property.violation), len(x)), int)
    for leaf in leaves.leaves(certificate, query):
        ends = [(leaf.ranges.acc[op], values) for op, values in acc.items() if op in leaf.ranges.acc]
        inside = np.all([((lo <= values) & (values <= hi)).all(axis=1) for (lo, hi), values in ends], axis=0)
        members[leaf.conjunction] += inside
        for lo, hi, tensor in zip(leaf.ranges.lo, leaf.ranges.hi, tensors, strict=True):
            assert ((lo <= tensor) & (tensor <= hi))[inside].all()
        for t in certificate.tightenings:
            lo, hi = (side[0, t.unit] for side in leaf.ranges.acc[t.op])
            assert (np.where(t.upper, hi <= t.claim, lo >= t.claim)).all()
    assert (members == 1).all()


def test_the_file_keeps_the_proofs(proved, tmp_path):
    query, certificate = proved
    file = tmp_path / "p.bvcert"
    file.write_bytes(certificate_file.to_bytes(certificate))
    read = certificate_file.read(file)
    assert read.leaf_proofs == certificate.leaf_proofs
    assert accepted(read, query).left == ()


def _changed(certificate, change):
    return replace(certificate, leaf_proofs=tuple(change(k, p) for k, p in enumerate(certificate.leaf_proofs)))


def _first(drat):
    """Another proof for the first leaf, which unit propagation alone does not refute."""
    return lambda c: _changed(c, lambda k, p: p if k else replace(p, drat=drat(p.drat)))


TAMPERED = {
    "the empty clause at once": (_first(lambda _: b"0\n"), "refused"),
    "nothing": (_first(lambda _: b""), "refused"),
    "its beginning": (_first(lambda text: b"".join(text.splitlines(keepends=True)[:2])), "refused"),
    "its end": (_first(lambda text: b"".join(text.splitlines(keepends=True)[-2:])), "refused"),
    "that of another leaf": (lambda c: _changed(c, lambda k, p: replace(p, drat=c.leaf_proofs[k - 1].drat)), "refused"),
    "no integers": (_first(lambda text: b"x" + text), "refused"),
    "bytes": (_first(lambda text: b"\xff" + text), "refused"),
    "a lemma that does not follow": (_first(lambda text: b"2 0\n-2 0\n0\n" + text), "refused"),
    "of other clauses": (lambda c: _changed(c, lambda k, p: replace(p, clauses_sha256="0" * 64)), "other clauses"),
    "a box of splits moved": (
        lambda c: replace(c, forest=replace(c.forest, split_value=c.forest.split_value - 1)),
        "other clauses|intervals do not exclude|is refused",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_proof_that_does_not_prove_its_leaf_is_rejected(proved, name):
    query, certificate = proved
    tamper, reason = TAMPERED[name]
    with pytest.raises(kernel.Rejected, match=reason):
        accepted(tamper(certificate), query)


def test_leaves_without_a_proof_are_left_and_named(proved):
    query, certificate = proved
    report = accepted(replace(certificate, leaf_proofs=certificate.leaf_proofs[1:]), query)
    assert report.proved == len(certificate.leaf_proofs) - 1
    assert report.left == ((certificate.leaf_proofs[0].node, report.left[0][1], "it has no proof"),)


def test_without_a_checker_nothing_is_said_to_be_checked(proved, monkeypatch):
    query, certificate = proved
    monkeypatch.setattr(drat, "can_check", lambda: False)
    report = accepted(certificate, query)
    assert report.proved == 0
    assert {why for _, _, why in report.left} == {"no checker of proofs is installed (pip install 'bvverify[proofs]')"}


def test_a_leaf_that_holds_a_violation_is_never_proved():
    """A solver that is wrong: every question that is violated, with all of the box in one solver's leaf a conjunction."""
    seen = 0
    for seed in range(71_000, 71_060):
        query, violated = random_networks.question(seed)
        if violated and seen < 4:
            seen += 1
            with pytest.raises(InternalError, match="an input violates the property"):
                leaves.prove(whole(query), query, None, 4096)
    assert seen == 4


@pytest.mark.parametrize(
    ("kind", "seed"), [("dense", 70_045), ("conv", 70_015), ("q31 add", 70_041), ("shift add", 70_041), ("mean", 70_001), ("max", 70_025)]
)
def test_proofs_that_take_reasoning(kind, seed):
    query, violated = random_networks.question(seed, [kind])
    assert not violated
    certificate, report = leaves.prove(whole(query), query, None, 4096)
    assert report.left == ()
    assert max(len(p.drat) for p in certificate.leaf_proofs) > 300
    assert accepted(certificate, query).proved == report.proved


def test_a_float_mean_may_be_left_and_is_never_proved_wrongly():
    outcomes = set()
    for seed in range(70_000, 70_004):
        query, violated = random_networks.question(seed, ["float mean"])
        if not violated:
            outcomes |= {why for _, _, why in leaves.prove(whole(query), query, None, 4096)[1].left}
    assert outcomes <= {"its clauses, which say less than the solver knew, can be satisfied"}


def test_a_check_needs_no_solver_and_no_search(proved, tmp_path):
    """In a process that can import none of them."""
    query, certificate = proved
    import pickle

    (tmp_path / "q").write_bytes(pickle.dumps((query, certificate)))
    program = (
        "import pickle, sys\n"
        "for name in 'z3 torch pysat bitwuzla bvverify.search bvverify.encode bvverify.solve'.split(): sys.modules[name] = None\n"
        "from bvverify.certify import kernel\n"
        "from bvverify.proofs import leaves\n"
        f"query, certificate = pickle.load(open({str(tmp_path / 'q')!r}, 'rb'))\n"
        "kernel.check(certificate, query)\n"
        "print(leaves.check(certificate, query).left)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "()\n"


def test_limits_are_kept_and_named():
    """Pigeons without enough holes: no proof in a second."""
    gates, holes = Gates(), 11
    at = [[gates.variable() for _ in range(holes)] for _ in range(holes + 1)]
    for pigeon in at:
        gates.clause(*pigeon)
    for i in range(holes + 1):
        for j in range(i):
            for hole in range(holes):
                gates.clause(-at[i][hole], -at[j][hole])
    started = time.monotonic()
    assert drat.prove(gates, 1.0, 4096).reason == "CaDiCaL: the time limit of 1 s ran out"
    assert drat.check(gates, b"0\n", 0.01, 4096).outcome == "unfinished"
    assert time.monotonic() - started < 4


def test_a_file_with_proofs_of_what_no_solver_closed_is_damaged(proved, tmp_path):
    _, certificate = proved
    splits = np.flatnonzero(certificate.forest.kind == Kind.SPLIT)
    for bad in (LeafProof(int(splits[0]), "0", b""), LeafProof(10**6, "0", b"")):
        file = tmp_path / "p.bvcert"
        file.write_bytes(certificate_file.to_bytes(replace(certificate, leaf_proofs=(bad,))))
        with pytest.raises(InputError, match="not of leaves that a solver closed"):
            certificate_file.read(file)


def test_a_file_with_more_proof_than_fits_is_refused_before_it_is_unpacked(proved, tmp_path, monkeypatch):
    _, certificate = proved
    file = tmp_path / "p.bvcert"
    file.write_bytes(certificate_file.to_bytes(certificate))
    monkeypatch.setattr(certificate_file, "MOST_PROOF_BYTES", 100)
    with pytest.raises(InputError, match="proofs of leaves are larger"):
        certificate_file.read(file)


def _solver_alone(monkeypatch, **options):
    """A verified question whose parts all go to the solver: the verdict and what was checked."""
    from bvverify.search import search

    monkeypatch.setattr(search, "_FEW_INPUTS", 0.0)
    for seed in range(30_000, 30_080):
        query, violated = random_networks.question(seed)
        if violated:
            continue
        result = pipeline.decide(query, pipeline.Options(stages=STAGES, runtimes=False, trust_solver=True))
        if result.checked.solver_leaves:
            return query, pipeline.decide(query, pipeline.Options(stages=STAGES, runtimes=False, **options))
    raise AssertionError("no question of this kind")


def test_verified_is_said_with_a_proof(monkeypatch):
    query, result = _solver_alone(monkeypatch)
    assert result.verdict is Verdict.VERIFIED
    assert result.checked.complete
    assert result.checked.proved_leaves > 0
    assert not result.trust_solver
    assert accepted(result.certificates[0], query).left == ()


def test_without_a_proof_it_is_unknown_and_the_reason_says_how_to_go_on(monkeypatch):
    monkeypatch.setattr(drat, "can_prove", lambda: False)
    _, result = _solver_alone(monkeypatch)
    assert result.verdict is Verdict.UNKNOWN
    assert "python-sat is not installed (pip install 'bvverify[proofs]'); --trust-solver takes the solver's word" in result.reason
    assert result.open.ran_out == "proof"
    assert result.open.violations > 0


def test_trust_takes_the_solvers_word_and_is_recorded(monkeypatch):
    query, result = _solver_alone(monkeypatch, trust_solver=True)
    assert result.verdict is Verdict.VERIFIED
    assert result.trust_solver
    assert result.checked.solver_leaves > 0
    assert result.certificates[0].leaf_proofs == ()
    assert accepted(result.certificates[0], query).proved == 0
