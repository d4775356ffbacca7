"""The branch-and-bound trees of a certificate with a bound at every node, as plain JSON data for the page.

A certificate stores splits and multipliers, no bounds. What is shown is computed here from the certificate, by the functions of the
trusted kernel and in its exact integers: at a leaf, the bound that its own multipliers prove; at an inner node, the best that the
multipliers of the first and the last bound leaf below it prove of the whole node (any multipliers are valid anywhere). The bounds that
the search itself saw on its way may have been tighter. All bounds are of the violation's **excess**, the weighted mean of
``outputs . y + inputs . x - bound`` over the rows of a conjunction: above zero, no input of the node meets the conjunction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bvverify.certify.dual import Dual
from bvverify.certify.ranges import ANYTHING, Frame, Limits, Ranges, propagate
from bvverify.model.certificate import INPUT, Certificate, Forest, Kind, units
from bvverify.model.query import Conjunction, Linear, Query
from bvverify.run.exact import narrow

MOST_NODES = 600
"""Nodes of a certificate that a page shows: those nearest to the roots."""
_ROWS = 128
_DECIMALS = 1000


@dataclass(frozen=True, slots=True)
class _Node:
    number: int
    """Its place in the certificate's preorder."""
    parent: int
    depth: int
    conjunction: int
    kind: Kind
    split: int
    """Its place among the splits."""
    rows: tuple[int, int]
    """The bound leaves in it: the first, and one past the last."""
    descendants: int
    path: tuple[tuple[int, bool], ...]
    """Splits above it, and whether it is in the second part of each."""


def tree_data(query: Query, certificate: Certificate) -> dict[str, Any]:
    """The forest of a certificate that the kernel has accepted for ``query``; nodes beyond ``MOST_NODES`` are counted only."""
    nodes, shown = _shown(_nodes(certificate.forest)), []
    frame, claims = Frame(query.network), _claims(query, certificate)
    root = propagate(frame, query.box.lo[None], query.box.hi[None], claims)
    for start in range(0, len(nodes), _ROWS):
        part = nodes[start : start + _ROWS]
        limits = _limits(query, certificate.forest, claims, part)
        ranges = propagate(frame, query.box.lo[None], query.box.hi[None], limits, root.opaque)
        empty = np.broadcast_to(ranges.empty, (len(part),))
        bounds = _bounds(query, frame, certificate.forest, ranges, part)
        for i, node in enumerate(part):
            shown.append(_node_data(query, certificate.forest, ranges, i, node, bounds[i]) | ({"empty": True} if empty[i] else {}))
    places = {node.number: place for place, node in enumerate(nodes)}
    for node, data in zip(nodes, shown, strict=True):
        data["parent"] = places.get(node.parent, -1)
    return {
        "claims": sum(len(t.unit) for t in certificate.tightenings),
        "total": len(certificate.forest.kind),
        "conjunctions": [_conjunction_text(c, query.property.label) for c in query.property.violation],
        "nodes": shown,
    }


def _nodes(forest: Forest) -> list[_Node]:
    """Every node in preorder. The forest has been checked: each split has two parts."""
    found: list[_Node] = []
    split = row = conjunction = 0
    path: list[list[int]] = []  # of each open split: its node, its place among the splits, the parts done
    ends: dict[int, tuple[int, int]] = {}
    for number, code in enumerate(forest.kind.tolist()):
        at = tuple((place, bool(done)) for _, place, done in path)
        found.append(_Node(number, path[-1][0] if path else -1, len(path), conjunction, Kind(code), split, (row, row), 0, at))
        if code == Kind.SPLIT:
            path.append([number, split, 0])
            split += 1
            continue
        row += code == Kind.BOUND
        ends[number] = number, row
        while path:
            path[-1][2] += 1
            if path[-1][2] == 1:
                break
            ends[path.pop()[0]] = number, row
        conjunction += not path
    return [
        _Node(
            n.number,
            n.parent,
            n.depth,
            n.conjunction,
            n.kind,
            n.split,
            (n.rows[0], ends[n.number][1]),
            ends[n.number][0] - n.number,
            n.path,
        )
        for n in found
    ]


def _shown(nodes: list[_Node]) -> list[_Node]:
    """All nodes down to the greatest depth at which there are not too many."""
    depths = np.array([n.depth for n in nodes], np.int64)
    deepest = max((d for d in range(int(depths.max(initial=0)) + 1) if (depths <= d).sum() <= MOST_NODES), default=0)
    return [n for n in nodes if n.depth <= deepest][:MOST_NODES]


def _claims(query: Query, certificate: Certificate) -> Limits:
    claims: Limits = {}
    for t in certificate.tightenings:
        size = units(query.network, t.op)
        lo, hi = (side.copy() for side in claims.get(t.op, (np.full((1, size), -ANYTHING), np.full((1, size), ANYTHING))))
        np.maximum.at(lo[0], t.unit[~t.upper], t.claim[~t.upper])
        np.minimum.at(hi[0], t.unit[t.upper], t.claim[t.upper])
        claims[t.op] = lo, hi
    return claims


def _limits(query: Query, forest: Forest, claims: Limits, nodes: list[_Node]) -> Limits:
    """The claims and, for each node, the splits above it."""
    limits: Limits = dict(claims)
    for op in {int(forest.split_op[place]) for node in nodes for place, _ in node.path}:
        size = units(query.network, op)
        known = claims.get(op, (np.full((1, size), -ANYTHING), np.full((1, size), ANYTHING)))
        limits[op] = np.repeat(known[0], len(nodes), axis=0), np.repeat(known[1], len(nodes), axis=0)
    for i, node in enumerate(nodes):
        for place, second in node.path:
            lo, hi = limits[int(forest.split_op[place])]
            unit, value = int(forest.split_unit[place]), int(forest.split_value[place])
            if second:
                lo[i, unit] = max(lo[i, unit], value + 1)
            else:
                hi[i, unit] = min(hi[i, unit], value)
    return limits


def _bounds(query: Query, frame: Frame, forest: Forest, ranges: Ranges, nodes: list[_Node]) -> list[tuple[int, int] | None]:
    """For each node the best excess that multipliers of its leaves prove, as a fraction (numerator, denominator)."""
    tries = [
        (i, row) for i, node in enumerate(nodes) if node.rows[0] < node.rows[1] for row in dict.fromkeys((node.rows[0], node.rows[1] - 1))
    ]
    best: list[tuple[int, int] | None] = [None] * len(nodes)
    if not tries:
        return best
    at, rows = (np.array(v) for v in zip(*tries, strict=True))
    outputs, inputs = query.network.output_tensor, query.network.input.tensor
    c, over, constant = (np.zeros((len(tries), n), object) for n in (outputs.size, inputs.size, 1))
    for k, (i, row) in enumerate(tries):
        for weight, linear in zip(forest.weight[row].tolist(), query.property.violation[nodes[i].conjunction], strict=False):
            c[k] += weight * linear.outputs
            constant[k] -= weight * linear.bound
            over[k] += 0 if linear.inputs is None else weight * linear.inputs
    dual = Dual(frame, len(tries))
    dual.add_constant(constant[:, 0], 0)
    dual.add_form(query.network.output.tensor, narrow(c).reshape(len(tries), *outputs.shape), 0)
    if over.any():
        dual.add_form(0, narrow(over).reshape(len(tries), *inputs.shape), 0)
    bound, exponent = dual.lower(ranges.at(at), forest.multipliers.at(rows))
    for k, (i, row) in enumerate(tries):
        total = max(1, int(forest.weight[row].sum()))
        numerator, denominator = int(bound[k]) * (1 << max(0, -exponent)), total << max(0, exponent)
        known = best[i]
        if known is None or numerator * known[1] > known[0] * denominator:
            best[i] = numerator, denominator
    return best


def _node_data(query: Query, forest: Forest, ranges: Ranges, i: int, node: _Node, bound: tuple[int, int] | None) -> dict[str, Any]:
    data: dict[str, Any] = {
        "kind": node.kind.name.lower(),
        "conjunction": node.conjunction,
        "descendants": node.descendants,
        "interval": _interval_excess(query, ranges, i, node.conjunction),
    }
    if bound is not None:
        data |= {"bound": _rounded_down(*bound), "closes": bound[0] > 0}
    if node.kind is Kind.SPLIT:
        op, unit = int(forest.split_op[node.split]), int(forest.split_unit[node.split])
        name = "the input" if op == INPUT else query.network.ops[op].name
        lo, hi = (ranges.lo[0], ranges.hi[0]) if op == INPUT else ranges.acc[op]
        row = i if len(lo) > 1 else 0
        data |= {"op": op, "name": name, "unit": unit, "value": int(forest.split_value[node.split])}
        data |= {"lo": int(lo[row].ravel()[unit]), "hi": int(hi[row].ravel()[unit])}
    return data


def _interval_excess(query: Query, ranges: Ranges, i: int, conjunction: int) -> int:
    """The best excess of a single row that intervals alone show; an integer."""

    def ends(tensor: int) -> tuple[Any, Any]:
        return tuple(side[tensor][i if len(side[tensor]) > 1 else 0].ravel() for side in (ranges.lo, ranges.hi))

    (y_lo, y_hi), (x_lo, x_hi) = ends(query.network.output.tensor), ends(0)
    excesses = []
    for row in query.property.violation[conjunction]:
        excess = int(np.minimum(row.outputs * y_lo, row.outputs * y_hi).sum()) - int(row.bound)
        if row.inputs is not None:
            excess += int(np.minimum(row.inputs * x_lo, row.inputs * x_hi).sum())
        excesses.append(excess)
    return max(excesses, default=0)


def _rounded_down(numerator: int, denominator: int) -> str:
    """At most the fraction: it is a lower bound."""
    whole = numerator * _DECIMALS // denominator
    return f"{'-' if whole < 0 else ''}{abs(whole) // _DECIMALS}.{abs(whole) % _DECIMALS:03d}"


def _conjunction_text(conjunction: Conjunction, label: int | None) -> str:
    """The rows as inequalities; for robustness also which class wins."""
    text = " and ".join(f"{_sum_text(row)} ≤ {_signed(int(row.bound))}" for row in conjunction) or "anything"
    winner = [] if label is None or len(conjunction) != 1 else np.flatnonzero(conjunction[0].outputs == -1).tolist()
    return f"class {winner[0]} wins: {text}" if len(winner) == 1 else text


def _sum_text(row: Linear) -> str:
    """Positive terms first, a dozen at most."""
    terms = [(int(v), f"y{k}") for k, v in enumerate(row.outputs) if v]
    terms += [] if row.inputs is None else [(int(v), f"x{k}") for k, v in enumerate(row.inputs) if v]
    parts = [
        f"{'−' if v < 0 else '+'} {'' if abs(v) == 1 else f'{abs(v)}·'}{name}" for v, name in sorted(terms, key=lambda term: term[0] < 0)
    ]
    return (" ".join(parts[:12]).removeprefix("+ ") + (" + …" if len(parts) > 12 else "")) if parts else "0"


def _signed(value: int) -> str:
    return f"−{-value}" if value < 0 else str(value)
