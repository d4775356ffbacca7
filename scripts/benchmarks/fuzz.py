"""Damaged files for every loader, corrupted certificates (none may prove a false statement), and points against every subproblem's ranges.

usage: scripts/bench fuzz [--files N] [--corruptions N] [--triples N] [--seed S]
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import sys
import time
from collections.abc import Callable

import corruption
import numpy as np
import random_networks
import tiny_flips
import torch
import units

from bvverify import pipeline
from bvverify.bitflip import kernel as flips_kernel
from bvverify.bitflip.ask import Question
from bvverify.bitflip.search import search as flips_search
from bvverify.certify import kernel
from bvverify.certify.ranges import propagate
from bvverify.compare.asked import differing_outputs
from bvverify.compare.joint import join
from bvverify.errors import InputError
from bvverify.load import certificate_file
from bvverify.model.certificate import Certificate, Multipliers, Statement
from bvverify.model.ops import Conv2d, Dense
from bvverify.model.query import Box, Linear, Property, Query
from bvverify.model.result import CheckReport
from bvverify.run import interpreter
from bvverify.search.root import Root, tighten
from bvverify.search.search import Search

_CHILD = 5000
"""Damaged files that one process reads."""
_APART = 10_000_000
"""Between the numbers of two seeds."""


def corrupted(rng: np.random.Generator, certificate: Certificate) -> Certificate:
    """One to three random changes of arrays: single numbers, signs, rows, order, lengths."""
    forest = certificate.forest
    for _ in range(int(rng.integers(1, 4))):
        place = rng.integers(6)
        if place == 0 and certificate.tightenings:
            k = int(rng.integers(len(certificate.tightenings)))
            t = certificate.tightenings[k]
            field = ("unit", "claim", "upper", "multipliers")[rng.integers(4)]
            value = _multipliers(rng, t.multipliers) if field == "multipliers" else _array(rng, getattr(t, field))
            changed = dataclasses.replace(t, **{field: value})
            certificate = dataclasses.replace(
                certificate, tightenings=(*certificate.tightenings[:k], changed, *certificate.tightenings[k + 1 :])
            )
        elif place == 1:
            forest = dataclasses.replace(forest, multipliers=_multipliers(rng, forest.multipliers))
        else:
            field = ("kind", "split_op", "split_unit", "split_value", "weight")[rng.integers(5)]
            forest = dataclasses.replace(forest, **{field: _array(rng, getattr(forest, field))})
    return dataclasses.replace(certificate, forest=forest)


def _array(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    out = values.copy()
    if not out.size:
        return out
    at = tuple(int(rng.integers(n)) for n in out.shape)
    match rng.integers(5):
        case 0:
            out[at] = out[at] ^ bool(rng.integers(2)) if out.dtype == bool else out[at] + int(rng.integers(-3, 4))
        case 1:
            out[at] = ~out[at] if out.dtype == bool else -out[at]
        case 2:
            out = out[: len(out) - 1]
        case 3:
            out = rng.permutation(out)
        case _:
            out[at] = out[at] if out.dtype == bool else int(rng.integers(-(1 << 40), 1 << 40))
    return out


def _multipliers(rng: np.random.Generator, m: Multipliers) -> Multipliers:
    if not m.values:
        return m
    op = sorted(m.values)[rng.integers(len(m.values))]
    if rng.integers(4) == 0:
        return Multipliers(m.rows, m.values, m.exponents | {op: m.exponents[op] + int(rng.integers(-3, 4))})
    return Multipliers(m.rows, m.values | {op: _array(rng, m.values[op])}, m.exponents)


def comparison(seed: int) -> tuple[Query, bool]:
    """As ``random_networks.question``, whether a network and itself with other biases have the same outputs; side by side."""
    rng = np.random.default_rng(seed)
    while True:
        a = random_networks.network(rng)
        box = random_networks.box(rng, a, 1 << 8)
        layers = [isinstance(op, Dense | Conv2d) for op in a.ops]
        ops = tuple(
            dataclasses.replace(op, bias=op.bias + rng.integers(-1, 2, op.bias.shape)) if layer else op
            for op, layer in zip(a.ops, layers, strict=True)
        )
        both = join(a, dataclasses.replace(a, ops=ops, provenance=dataclasses.replace(a.provenance, semantics="another")), box)
        if both.network is None:
            continue
        query = Query(both.network, box, differing_outputs(both))
        x = random_networks.points(box)
        y = interpreter.run(query.network, x).reshape(len(x), -1)
        return query, bool(query.property.violated(x.reshape(len(x), -1), y).any())


def fuzz(rng: np.random.Generator, wanted: int, draw: Callable[[int], tuple[Query, bool]], what: str) -> None:
    """Certificates of what holds, restated as something that is false, with random corruptions; and bytes of files changed."""
    outcomes: collections.Counter[str] = collections.Counter()
    seed, tried, begun = 0, 0, time.time()
    while tried < wanted:
        seed += 1
        query, violated = draw(seed)
        if violated:
            continue
        result = pipeline.decide(query, pipeline.Options(stages=frozenset({"interval", "linear", "root", "search"}), runtimes=False))
        (certificate,) = result.certificates
        x = random_networks.points(query.box)
        y = interpreter.run(query.network, x).reshape(len(x), -1)
        x = x.reshape(len(x), -1)
        raw = certificate_file.to_bytes(certificate)
        for _ in range(60):
            tried += 1
            false = _false(rng, query, x, y)
            forged = dataclasses.replace(
                certificate, statement=dataclasses.replace(certificate.statement, violation=false.property.violation)
            )
            try:
                report = kernel.check(corrupted(rng, forged), false)
                if not report.solver_leaves:
                    sys.exit(f"seed {seed}: a false statement was accepted")
                outcomes["false statement, a leaf called the solver's: counted as unchecked"] += 1
            except kernel.Rejected:
                outcomes["false statement, corrupted: rejected"] += 1
            try:
                kernel.check(corrupted(rng, certificate), query)
                outcomes["true statement, corrupted: still a proof"] += 1
            except kernel.Rejected:
                outcomes["true statement, corrupted: rejected"] += 1
        outcomes[_bytes(rng, raw, query)] += 1
    print(f"{what}: {tried} corruptions of each kind in {time.time() - begun:.0f} s: {dict(outcomes)}", flush=True)


def forged_flips(rng: np.random.Generator, wanted: int) -> None:
    """Proofs about flipped bits, corrupted, with their certificates restated to fit, for questions whose answer is no."""
    outcomes: collections.Counter[str] = collections.Counter()
    tried, begun = 0, time.time()
    while tried < wanted:
        asked, x = tiny_flips.question(rng, tiny_flips.KINDS[int(rng.integers(len(tiny_flips.KINDS)))], most=1500, moving=2)
        if tiny_flips.holds(asked):
            continue
        # A proof of something smaller: one input, or a half.
        smaller = dataclasses.replace(asked, box=Box.of(x, x))
        parts = (smaller, *_halves(asked))
        found = next((f for s in parts if (f := flips_search(s, s.box.lo, 10)).verdict == "verified"), None)
        if found is None:
            continue
        for _ in range(30):
            tried += 1
            steps = _steps(rng, list(found.steps), len(found.certificates))
            certificates = [corrupted(rng, c) if rng.integers(4) == 0 else c for c in found.certificates]
            try:
                flips_kernel.check(asked, steps, certificates, _restated)
                sys.exit(f"after {tried}: a false statement about flips was accepted")
            except flips_kernel.Rejected as why:
                outcomes["no step there" if "no step" in str(why) else "missing or too many" if "step" not in str(why) else "a leaf"] += 1
    print(f"{tried} forged proofs about flipped bits in {time.time() - begun:.0f} s, all rejected: {dict(outcomes)}", flush=True)


def _halves(asked: Question) -> list[Question]:
    middle = (asked.box.lo + asked.box.hi) >> 1
    return [
        dataclasses.replace(asked, box=Box.of(asked.box.lo, middle)),
        dataclasses.replace(asked, box=Box.of(asked.box.hi, asked.box.hi)),
    ]


def _restated(certificate: Certificate, query: Query) -> CheckReport:
    """A certificate made to state what its leaf should."""
    report = kernel.check(dataclasses.replace(certificate, statement=Statement.of(query)), query)
    if not report.complete:
        raise kernel.Rejected("a solver's leaf")
    return report


def _steps(rng: np.random.Generator, steps: list, certificates: int) -> list:
    for _ in range(int(rng.integers(0, 4))):
        at = int(rng.integers(len(steps) + 1))
        made = [["leaf", int(rng.integers(certificates))], ["split", 0, int(rng.integers(1, 40))], ["apply", 0], ["none"]][rng.integers(4)]
        match rng.integers(4):
            case 0:
                steps = steps[:at] + steps[at + 1 :]
            case 1:
                steps = [*steps[:at], made, *steps[at + 1 :]]
            case _:
                steps = [*steps[:at], made, *steps[at:]]
    return steps


def _false(rng: np.random.Generator, query: Query, x: np.ndarray, y: np.ndarray) -> Query:
    """The query with one conjunction loosened until an input of the box meets it, barely or by far."""
    k = int(rng.integers(len(query.property.violation)))
    conjunction = query.property.violation[k]
    beyond = np.max([row.value(x, y) - row.bound for row in conjunction], axis=0)
    slack = int(beyond.min()) + int(rng.choice([0, 0, 1, 5]))
    raised = tuple(Linear(r.outputs, r.bound + slack, r.inputs) for r in conjunction)
    violation = tuple(raised if i == k else c for i, c in enumerate(query.property.violation))
    out = Query(query.network, query.box, Property(violation, ""))
    assert out.property.violated(x, y).any()
    return out


def _bytes(rng: np.random.Generator, raw: bytes, query: Query) -> str:
    import tempfile
    from pathlib import Path

    changed = bytearray(raw)
    for _ in range(int(rng.integers(1, 5))):
        changed[int(rng.integers(len(changed)))] = int(rng.integers(256))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.bvcert"
        path.write_bytes(bytes(changed))
        try:
            kernel.check(certificate_file.read(path), query)
            return "file with changed bytes: still a proof"
        except kernel.Rejected:
            return "file with changed bytes: rejected"
        except InputError:
            return "file with changed bytes: unreadable, said so"


def files(seed: int, wanted: int) -> None:
    """Damaged files, in processes with limited memory: each is read or refused in a line."""
    names = sorted(corruption.subjects())
    share, begun = -(-wanted // len(names)), time.time()
    failures: list[str] = []
    total: collections.Counter[str] = collections.Counter()
    for name in names:
        outcomes: collections.Counter[str] = collections.Counter()
        for first in range(0, share, _CHILD):
            try:
                outcomes.update(corruption.children([name], seed * _APART + first, min(_CHILD, share - first))[name])
            except AssertionError as failure:
                failures.append(f"a damaged file brings a loader down: {failure}")
                break
        print(f"  {name}: {dict(outcomes)}", flush=True)
        total.update(outcomes)
    if failures:
        sys.exit("\n".join(failures))
    print(f"{total.total()} damaged files in {time.time() - begun:.0f} s, each read or refused: {dict(total)}", flush=True)


def points(rng: np.random.Generator, wanted: int) -> None:
    """Triples (point, subproblem on its way, tensor): none outside its range."""
    triples, seed, deepest, begun = 0, 100_000, 0, time.time()
    while triples < wanted:
        seed += 1
        query, _ = random_networks.question(seed)
        root = Root.of(query, [])
        tighten(root, None)
        search = Search(root, list(range(len(query.property.violation))))
        search.run(None, 200)
        if search.nodes < 6:
            continue
        x = random_networks.points(query.box)
        x = x[rng.permutation(len(x))[:100]]
        tensors = interpreter.trace(query.network, x)
        acc = units.accumulators(query.network, tensors)
        for conjunction in search.trees:
            for point in range(len(x)):
                node = search.trees[conjunction]
                nodes = [node]
                while node.children is not None:
                    op, unit, value = node.split
                    node = node.children[int(acc[op][point, unit] > value)]
                    nodes.append(node)
                ranges = propagate(root.frame, query.box.lo[None], query.box.hi[None], search._limits(nodes), root.ranges.opaque)
                inside = all(
                    (lo <= t[point]).all() and (t[point] <= hi).all() for lo, hi, t in zip(ranges.lo, ranges.hi, tensors, strict=True)
                )
                inside &= all((lo <= acc[i][point]).all() and (acc[i][point] <= hi).all() for i, (lo, hi) in ranges.acc.items())
                if not inside or ranges.empty.any():
                    sys.exit(f"seed {seed}: a value lies outside its range")
                triples += len(nodes) * (len(tensors) + len(ranges.acc))
                deepest = max(deepest, len(nodes))
    print(f"{triples} triples in {time.time() - begun:.0f} s, paths up to {deepest} nodes: none outside its range", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--corruptions", type=int, default=10_000)
    parser.add_argument("--triples", type=int, default=10**6)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    files(args.seed, args.files)
    points(np.random.default_rng(args.seed), args.triples)
    fuzz(np.random.default_rng(args.seed), args.corruptions, random_networks.question, "properties")
    fuzz(np.random.default_rng(args.seed), args.corruptions // 2, comparison, "comparisons")
    forged_flips(np.random.default_rng(args.seed), args.corruptions // 4)


main()
