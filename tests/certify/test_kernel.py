"""The kernel accepts what the pipeline makes, and rejects it after every kind of tampering, with the reason and the place."""

import dataclasses

import numpy as np
import pytest
import random_networks

from bvverify import pipeline
from bvverify.certify import kernel
from bvverify.load import certificate_file
from bvverify.model.certificate import Kind, Multipliers
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Dense
from bvverify.model.query import Box, Linear, Property, Query
from bvverify.model.requant import ShiftHalfUp
from bvverify.model.result import Verdict
from bvverify.model.staircase import Staircase
from bvverify.model.types import INT8, UINT8, QType, Tensor, frozen_array


def _network(sha="a" * 64, bias=0, shift=3, semantics="fixed"):
    """6 inputs, two hidden layers of 8, 3 outputs, narrow: certificates of it have claims, splits and both kinds of leaves."""
    rng = np.random.default_rng(17)
    sizes = [(8, 6), (8, 8), (3, 8)]
    ops, tensors = [], [Tensor("in", (6,), UINT8)]
    for k, shape in enumerate(sizes):
        last = k == len(sizes) - 1
        stairs = Staircase(ShiftHalfUp(shift), -60 if last else 0, 60)
        ops.append(Dense.of(f"layer {k}", k, rng.integers(-7, 8, shape), rng.integers(-20, 21, shape[0]) + bias, stairs))
        tensors.append(Tensor(f"layer {k}", (shape[0],), INT8 if last else QType(7, False)))
    return Network(Input(tensors[0], (1, 6)), tuple(ops), tuple(tensors), Output(3, (1, 3)), Provenance("net", "test", semantics, sha))


def _query(network=None, radius=9, bound=0):
    """That a linear form of the outputs stays above what it reaches in the middle of the box less ``margin``: provable, but not at once."""
    network = network or _network()
    x = np.array([40, 90, 20, 70, 10, 60])
    box = Box.of(x - radius, x + radius)
    points = np.random.default_rng(5).integers(box.lo, box.hi + 1, (4000, 6))
    y = pipeline.interpreter.run(network, points)
    rows = [np.array([1, -1, 0]), np.array([0, 1, 1])]
    least = [int((y @ r).min()) for r in rows]
    violation = tuple((Linear(frozen_array(r, np.int64), value - 4 + bound, None),) for r, value in zip(rows, least, strict=True))
    return Query(network, box, Property(violation, "test"))


@pytest.fixture(scope="module")
def proved():
    query = _query()
    result = pipeline.decide(query, pipeline.Options(stages=frozenset({"linear", "root", "search"}), runtimes=False))
    assert result.verdict is Verdict.VERIFIED
    (certificate,) = result.certificates
    kinds = set(certificate.forest.kind.tolist())
    assert kinds >= {Kind.SPLIT, Kind.BOUND}
    assert certificate.tightenings
    return query, certificate


def _forest(certificate, **changes):
    return dataclasses.replace(certificate, forest=dataclasses.replace(certificate.forest, **changes))


def _multipliers(m, change):
    values = {op: v.copy() for op, v in m.values.items()}
    exponents = dict(m.exponents)
    change(values, exponents)
    return Multipliers(m.rows, values, exponents)


def _leaves(change):
    def tamper(certificate):
        return _forest(certificate, multipliers=_multipliers(certificate.forest.multipliers, change))

    return tamper


def _first(change):
    """A change of the first tightening."""

    def tamper(certificate):
        first, *rest = certificate.tightenings
        return dataclasses.replace(certificate, tightenings=(change(first), *rest))

    return tamper


def _statement(**changes):
    return lambda certificate: dataclasses.replace(certificate, statement=dataclasses.replace(certificate.statement, **changes))


def _at(array, index, value):
    out = array.copy()
    out[index] = value
    return out


def _claims(t, by):
    sign = np.where(t.upper, -1, 1)
    return dataclasses.replace(t, claim=t.claim + sign * by)


def _negated(values, _):
    for op in values:
        values[op] = -values[op]


def _zeroed(values, _):
    for op in values:
        values[op][:] = 0


def _doubled(_, exponents):
    for op in exponents:
        exponents[op] -= 1


def _last_layer_only(values, _):
    for op in list(values):
        if op != max(values):
            values[op][:] = 0


def _permuted(values, _):
    for op in values:
        values[op] = values[op][:, ::-1].copy()


def _violation(certificate, change):
    rows = [change(k, c[0]) for k, c in enumerate(certificate.statement.violation)]
    return dataclasses.replace(certificate, statement=dataclasses.replace(certificate.statement, violation=tuple((r,) for r in rows)))


def _drop_multiplier_row(certificate):
    m = certificate.forest.multipliers
    return _forest(certificate, multipliers=Multipliers(m.rows - 1, {op: v[1:] for op, v in m.values.items()}, m.exponents))


def _last_split_elsewhere(certificate):
    return _forest(certificate, split_value=certificate.forest.split_value + 40)


TAMPERED = {
    "another model": (_statement(model_sha256="b" * 64), "another model"),
    "another semantics": (_statement(semantics="onnxruntime"), "other semantics"),
    "another radius": (lambda c: _statement(lo=c.statement.lo - 1, hi=c.statement.hi + 1)(c), "another box"),
    "a smaller box": (lambda c: _statement(hi=c.statement.hi - 1)(c), "another box"),
    "a box of another shape": (lambda c: _statement(lo=c.statement.lo[:5], hi=c.statement.hi[:5])(c), "another box"),
    "a weaker bound in the property": (
        lambda c: _violation(c, lambda k, r: Linear(r.outputs, r.bound - 1, None)),
        "another property",
    ),
    "another row in the property": (lambda c: _violation(c, lambda k, r: Linear(-r.outputs, r.bound, None)), "another property"),
    "a conjunction left out": (lambda c: _statement(violation=c.statement.violation[:1])(c), "another property"),
    "a row over inputs put in": (
        lambda c: _violation(c, lambda k, r: Linear(r.outputs, r.bound, np.ones(6, np.int64))),
        "another property",
    ),
    "the signs of all multipliers": (_leaves(_negated), "bounded by"),
    "multipliers zero": (_leaves(_zeroed), "bounded by"),
    "multipliers doubled by the exponent": (_leaves(_doubled), "bounded by"),
    "multipliers of one layer only": (_leaves(_last_layer_only), "bounded by"),
    "multipliers of other units": (_leaves(_permuted), "bounded by"),
    "a multiplier beyond 62 bits": (_leaves(lambda v, e: v.update({0: v[0] + (1 << 61)})), "bounded by"),
    "an exponent out of range": (_leaves(lambda v, e: e.update({0: 100_000})), "exponent"),
    "an exponent left out": (_leaves(lambda v, e: e.pop(0)), "do not fit"),
    "multipliers for an operation that is not there": (_leaves(lambda v, e: (v.update({7: v[0]}), e.update({7: 0}))), "operation 7"),
    "multipliers of another shape": (_leaves(lambda v, e: v.update({0: v[0][:, 1:]})), "multipliers of shape"),
    "multipliers of another type": (_leaves(lambda v, e: v.update({0: v[0].astype(np.float64)})), "multipliers of shape"),
    "a row of multipliers missing": (_drop_multiplier_row, "do not fit"),
    "row weights zero": (lambda c: _forest(c, weight=c.forest.weight * 0), "bounded by"),
    "row weights negative": (lambda c: _forest(c, weight=-c.forest.weight), "row weights"),
    "a leaf missing": (lambda c: _forest(c, kind=c.forest.kind[:-1]), "do not fit"),
    "an interval leaf missing at the end": (
        lambda c: _forest(c, kind=np.append(c.forest.kind, Kind.SPLIT), split_op=np.append(c.forest.split_op, 0),
                          split_unit=np.append(c.forest.split_unit, 0), split_value=np.append(c.forest.split_value, 0)),
        "more trees",
    ),
    "a leaf too many": (lambda c: _forest(c, kind=np.append(c.forest.kind, Kind.INTERVAL)), "more trees"),
    "a tree missing": (
        lambda c: _forest(c, kind=np.array([Kind.INTERVAL]), split_op=c.forest.split_op[:0], split_unit=c.forest.split_unit[:0],
                          split_value=c.forest.split_value[:0], weight=c.forest.weight[:0], multipliers=Multipliers(0, {}, {})),
        "node 0|leaf is missing",
    ),
    "an unknown kind of node": (lambda c: _forest(c, kind=_at(c.forest.kind, -1, 9)), "kind|do not fit"),
    "bound leaves called interval leaves": (
        lambda c: _forest(c, kind=np.where(c.forest.kind == Kind.BOUND, Kind.INTERVAL, c.forest.kind), weight=c.forest.weight[:0],
                          multipliers=Multipliers(0, {}, {})),
        "intervals do not exclude",
    ),
    "splits at other values": (_last_split_elsewhere, "bounded by|intervals do not exclude"),
    "a split of an operation that is not there": (lambda c: _forest(c, split_op=c.forest.split_op + 9), "a split of a unit"),
    "a split of a unit that is not there": (lambda c: _forest(c, split_unit=c.forest.split_unit + 1000), "a split of a unit"),
    "a split of a negative unit": (lambda c: _forest(c, split_unit=c.forest.split_unit - 1000), "a split of a unit"),
    "a split too few": (lambda c: _forest(c, split_value=c.forest.split_value[:-1]), "splits do not fit"),
    "a claim too narrow by one": (_first(lambda t: _claims(t, 1)), "its multipliers prove"),
    "a claim far too narrow": (_first(lambda t: _claims(t, 1000)), "its multipliers prove"),
    "a claim about the other side": (_first(lambda t: dataclasses.replace(t, upper=~t.upper)), "its multipliers prove"),
    "a claim about another unit": (_first(lambda t: dataclasses.replace(t, unit=np.roll(t.unit, 1))), "its multipliers prove"),
    "a claim about a unit that is not there": (_first(lambda t: dataclasses.replace(t, unit=t.unit + 99)), "units that operation"),
    "a claim about an operation that is not there": (_first(lambda t: dataclasses.replace(t, op=12)), "no accumulator"),
    "a claim that rests on later layers": (
        _first(lambda t: dataclasses.replace(t, op=0, unit=t.unit % 8)),
        "beyond the operation",
    ),
    "a claim more than multipliers": (_first(lambda t: dataclasses.replace(t, claim=t.claim[:-1])), "units that operation"),
    "a claim's multipliers of the wrong sign": (
        _first(lambda t: dataclasses.replace(t, multipliers=_multipliers(t.multipliers, _negated))),
        "its multipliers prove",
    ),
    "claims left out": (lambda c: dataclasses.replace(c, tightenings=()), "bounded by|intervals do not exclude"),
}  # fmt: skip


def test_there_are_thirty_kinds_of_tampering():
    assert len(TAMPERED) >= 30


def test_the_untampered_certificate_is_accepted_and_survives_its_file(proved, tmp_path):
    query, certificate = proved
    report = kernel.check(certificate, query)
    assert report.complete
    assert report.bound_leaves > 3
    file = tmp_path / "proof.bvcert"
    file.write_bytes(certificate_file.to_bytes(certificate))
    assert kernel.check(certificate_file.read(file), query) == report


@pytest.mark.parametrize("kind", TAMPERED)
def test_a_tampered_certificate_is_rejected(proved, kind):
    query, certificate = proved
    tamper, reason = TAMPERED[kind]
    with pytest.raises(kernel.Rejected, match=reason):
        kernel.check(tamper(certificate), query)


@pytest.mark.parametrize(
    ("network", "why"),
    [(_network(bias=3), "a shifted bias"), (_network(shift=4), "a shifted threshold"), (_network(bias=-3), "a shifted bias")],
)
def test_a_certificate_of_another_arithmetic_is_rejected(proved, network, why):
    """The same names and digests over other numbers: the kernel computes with the network that it is given."""
    query, certificate = proved
    other = Query(network, query.box, query.property)
    with pytest.raises(kernel.Rejected):
        kernel.check(certificate, other)
    assert why


def test_a_solver_leaf_is_counted_and_not_checked(proved):
    query, certificate = proved
    forest = certificate.forest
    kinds = np.where(forest.kind == Kind.BOUND, Kind.SOLVER, forest.kind)
    unchecked = _forest(certificate, kind=kinds, weight=forest.weight[:0], multipliers=Multipliers(0, {}, {}))
    report = kernel.check(unchecked, query)
    assert not report.complete
    assert report.solver_leaves == int((forest.kind == Kind.BOUND).sum())


def test_big_integers_decide_what_does_not_fit(proved):
    """Scaled far beyond 64 bits the same multipliers prove the same: nothing wraps."""
    query, certificate = proved

    def grow(values, exponents):
        for op in values:
            values[op] = values[op] << 30
            exponents[op] += 30

    assert kernel.check(_leaves(grow)(certificate), query).complete


@pytest.mark.parametrize("block", range(10))
def test_corrupted_certificates_never_prove_what_is_false(block):
    """Random certificates of violated properties: forests and multipliers of a sibling question that holds, corrupted or not."""
    rng = np.random.default_rng(block)
    tried = 0
    for seed in range(block * 30, block * 30 + 30):
        query, violated = random_networks.question(seed)
        if violated:
            continue
        result = pipeline.decide(query, pipeline.Options(stages=frozenset({"interval", "linear", "root", "search"}), runtimes=False))
        (certificate,) = result.certificates
        y = pipeline.interpreter.run(query.network, random_networks.points(query.box)).reshape(-1, query.network.output_tensor.size)
        x = random_networks.points(query.box).reshape(len(y), -1)
        for _ in range(5):
            # Raise one bound until the property is violated somewhere: the certificate must not follow.
            k = int(rng.integers(len(query.property.violation)))
            conjunction = list(query.property.violation[k])
            slack = int(max(np.max([row.value(x, y) for row in conjunction], axis=0)) + 1 - min(row.bound for row in conjunction))
            raised = tuple(Linear(r.outputs, r.bound + max(slack, 1), r.inputs) for r in conjunction)
            violation = tuple(raised if i == k else c for i, c in enumerate(query.property.violation))
            false = Query(query.network, query.box, Property(violation, ""))
            assert false.property.violated(x, y).any()
            forged = dataclasses.replace(certificate, statement=dataclasses.replace(certificate.statement, violation=violation))
            tried += 1
            with pytest.raises(kernel.Rejected):
                kernel.check(forged, false)
    assert tried > 20
