"""The tree of a search: its nodes, what bounds see of them, the leaves that integers close, and the proof in the end."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from bvverify.bounds.ascent import Ascent, Objective, Seen, Settings, ascend
from bvverify.bounds.lagrange import Relaxation, exponents_for
from bvverify.bounds.linear_maps import Tensor
from bvverify.certify.ranges import ANYTHING, Limits, Ranges, propagate
from bvverify.errors import InternalError
from bvverify.model.certificate import Forest, Kind, Multipliers, units
from bvverify.search.leaves import Leaves
from bvverify.search.node import Node, preorder
from bvverify.search.root import Root
from bvverify.search.rows import Rows
from bvverify.search.work import Work

NODE_SETTINGS = Settings(steps=50, rate=0.15, decay=0.96)
"""Half as many steps cost more than they save: a split pays once its bound has settled."""
LONG_SETTINGS = Settings(steps=120, rate=0.3, decay=0.955, blur=0.7)
"""Of what most nodes need not (``search.longer``)."""
_WEIGHT_BITS = 12
_ABOVE = 1e-6
"""What float64 has to find above zero: more than it loses."""
_LONG = 64
"""Splits above a node after which what they come to is kept with it."""
_MULTIPLIER_LIMIT = (1 << 31) - 1


class Tree:
    """A tree for each of some conjunctions, below one root; all open nodes in one pool, the worst bound first."""

    def __init__(self, root: Root, conjunctions: Sequence[int]) -> None:
        self.root, self.query, self.network = root, root.query, root.query.network
        self.relaxation: Relaxation = root.relaxation()
        self.claims = root.limits()
        self.open: list[tuple[bool, float, int, Node]] = []
        self.nodes = self.dropped = self.ends = 0
        """Nodes in all; those that are in no tree any more; those that were split off as ends, and bounded by no ascent of their own."""
        self.leaves = Leaves()
        self.exponents: dict[int, int] = {}
        self.rows = Rows(self.query, self.relaxation, root.ranges, conjunctions)
        self.costs = Work.of(self.relaxation, NODE_SETTINGS.steps)
        self.gain = 0.0
        """By how much a split raises a bound, lately."""
        self.trees = {i: self._node(None, i) for i in conjunctions}

    @property
    def bounded(self) -> int:
        """Nodes without the ends."""
        return self.nodes - self.ends

    @property
    def closed(self) -> int:
        """Leaves that are closed."""
        return (self.nodes - self.dropped + len(self.trees)) // 2 - len(self.open)

    def sample(self, most: int) -> dict[int, Forest]:
        """The tree of each conjunction as it is, with at most so many closed leaves in all; solver leaves stand for the others."""
        left, out = most, {}
        for i, node in self.trees.items():
            out[i] = self._forest(node, left)
            left -= int(((out[i].kind == Kind.BOUND) | (out[i].kind == Kind.INTERVAL)).sum())
        return out

    def take(self, most: int) -> list[Node]:
        """Open nodes out of the pool, the worst first, those that are stuck last."""
        return [heapq.heappop(self.open)[-1] for _ in range(min(most, len(self.open)))]

    def put_back(self, node: Node) -> None:
        """An open node into the pool."""
        heapq.heappush(self.open, (node.stuck, node.bound, node.number, node))

    def _node(self, parent: Node | None, conjunction: int, second: bool = False) -> Node:
        self.nodes += 1
        node = Node(self.nodes, parent, conjunction, second)
        if parent is not None:
            node.bound, node.m, node.logits, node.since = parent.bound, parent.m, parent.logits, parent.since + 1
        return node

    def _branch(self, parent: Node) -> tuple[Node, Node]:
        children = self._node(parent, parent.conjunction), self._node(parent, parent.conjunction, True)
        parent.children = children
        parent.close(Kind.SPLIT)
        return children

    def split_at(self, node: Node, op: int, unit: int, value: int) -> tuple[Node, Node]:
        """Split a node; both parts, that with at most the value first."""
        node.split = op, unit, value
        return self._branch(node)

    def limits(self, nodes: list[Node]) -> Limits:
        """The claims and each node's splits, as the kernel combines them."""
        out: dict[int, tuple[Any, Any]] = {}

        def of(op: int) -> tuple[Any, Any]:
            if op not in out:
                size = units(self.network, op)
                lo, hi = self.claims.get(op, (np.full((1, size), -ANYTHING), np.full((1, size), ANYTHING)))
                out[op] = np.repeat(lo, len(nodes), axis=0), np.repeat(hi, len(nodes), axis=0)
            return out[op]

        for row, node in enumerate(nodes):
            at, way = node, 0
            while at.parent is not None and at.base is None:
                assert at.parent.split is not None
                op, unit, value = at.parent.split
                lo, hi = of(op)
                if at.second:
                    lo[row, unit] = max(lo[row, unit], value + 1)
                else:
                    hi[row, unit] = min(hi[row, unit], value)
                at, way = at.parent, way + 1
            for op, (least, most) in (at.base or {}).items():
                lo, hi = of(op)
                np.maximum(lo[row], least, out=lo[row])
                np.minimum(hi[row], most, out=hi[row])
            if way > _LONG:
                node.base = {op: (lo[row].copy(), hi[row].copy()) for op, (lo, hi) in out.items()}
        return self.claims | out

    def ranges(self, nodes: list[Node]) -> Ranges:
        """What the kernel derives for nodes, a row each."""
        box = self.query.box
        return propagate(self.root.frame, box.lo[None], box.hi[None], self.limits(nodes), self.root.ranges.opaque)

    def excluded(self, nodes: list[Node], ranges: Ranges) -> Any:
        """Which nodes their ranges alone exclude, bool (nodes,): no input is left, or one of their rows cannot be met."""
        return np.broadcast_to(ranges.empty, (len(nodes),)) | self.rows.excluded([n.conjunction for n in nodes], ranges)

    def seen(self, nodes: list[Node], ranges: Ranges, rows: Any) -> Seen:
        """Nodes whose ranges are these rows."""
        relaxation, output = self.relaxation, self.network.output.tensor
        acc = {i: tuple(rows_at(side, rows)[:, relaxation.units[i].keep] for side in ranges.acc[i]) for i in relaxation.units}
        tensors = {i: (torch.from_numpy(lo.copy()), torch.from_numpy(hi.copy())) for i, (lo, hi) in acc.items()}
        corners = {i: relaxation.corners(i, lo, hi, torch.float32) for i, (lo, hi) in tensors.items() if i != self.rows.output_op}
        lo, hi = (rows_at(side[0].reshape(len(side[0]), -1), rows) for side in (ranges.lo, ranges.hi))
        outputs = tuple(rows_at(side[output].reshape(len(side[output]), -1), rows) for side in (ranges.lo, ranges.hi))
        objective = self.rows.objective([n.conjunction for n in nodes], tensors, (outputs[0], outputs[1]))
        return Seen(tensors, corners, (lo, hi) if len(ranges.lo[0]) > 1 else None, objective)

    def ascend(self, seen: Seen, m: dict[int, Tensor], logits: Tensor, settings: Settings, pace: Tensor | None = None) -> Ascent:
        """Climb from multipliers, a row each; the first ascent settles the exponents at which multipliers are kept."""
        box = self.relaxation.box(seen.x, torch.float32)
        best = ascend(self.relaxation, seen.corners, m, logits, seen.objective.to(torch.float32), settings, box, pace)
        if not self.exponents:
            self.exponents = exponents_for(best.m)
            if self.rows.output_op is not None:
                self.exponents |= exponents_for({self.rows.output_op: self.rows.pull})
        return best

    def close(self, nodes: list[Node], rows: Tensor, seen: Seen, best: Ascent) -> Any:
        """Which nodes, of these rows, are bounded above zero at integer multipliers; their leaves are kept."""
        done = np.zeros(len(nodes), bool)
        if not len(rows):
            return done
        about = [nodes[i].conjunction for i in rows.tolist()]
        own = {i: (lo[rows], hi[rows]) for i, (lo, hi) in seen.tensors.items()}
        part = None if seen.x is None else tuple(side[rows.numpy()] for side in seen.x)
        m = {i: v[rows] for i, v in best.m.items()}
        kept, numbers = self.prove(about, own, m, best.logits[rows], seen.objective.at(rows), part)
        good = rows[kept].numpy()
        for row, number in zip(good, numbers, strict=True):
            nodes[row].close(Kind.BOUND, number)
        done[good] = True
        return done

    def prove(
        self,
        about: Sequence[int],
        tensors: dict[int, Any],
        m: dict[int, Tensor],
        logits: Tensor,
        objective: Objective,
        x: tuple[Any, ...] | None,
    ) -> tuple[Tensor, range]:
        """Which rows, each about a conjunction, are bounded above zero at integer multipliers; the numbers of their leaves."""
        shares = objective.weights(logits.double())
        m = {i: v.double() for i, v in m.items()}
        if self.rows.output_op is not None:
            m[self.rows.output_op] = (shares[:, :, None] * self.rows.pull[self.rows.at(about)]).sum(1)
        rounded = {
            i: torch.round(torch.ldexp(v, torch.tensor(self.exponents[i]))).clamp(-_MULTIPLIER_LIMIT, _MULTIPLIER_LIMIT)
            for i, v in m.items()
        }
        exact = {i: torch.ldexp(v, torch.tensor(-self.exponents[i])) for i, v in rounded.items()}
        weight = torch.round(torch.ldexp(shares[:, : self.rows.most_rows], torch.tensor(_WEIGHT_BITS)))
        w = torch.ldexp(weight, torch.tensor(-_WEIGHT_BITS))
        kept = self._above(about, tensors, exact, w, x)
        numbers = self.leaves.add(weight[kept].numpy().astype(np.int64), {i: v[kept].numpy().astype(np.int32) for i, v in rounded.items()})
        return kept, numbers

    def _above(self, about: Sequence[int], tensors: dict[int, Any], m: dict[int, Tensor], w: Tensor, x: tuple[Any, ...] | None) -> Tensor:
        """Which rows, each about a conjunction, are above zero at multipliers and row weights as a leaf holds them, float64."""
        corners = {i: self.relaxation.corners(i, lo, hi, torch.float64) for i, (lo, hi) in tensors.items()}
        forms, constant = self.rows.exact(about, w)
        box = self.relaxation.box(x, torch.float64)
        return self.relaxation.evaluate(corners, m, forms, constant, box=box, gradient=False).value > _ABOVE

    def _forest(self, root: Node, most: int | None = None) -> Forest:
        """The tree below a root, in preorder; with ``most``, of one that may be open, with at most so many of its closed leaves."""
        kinds, splits, leaves = [], [], []
        for node in preorder(root):
            if most is not None and node.children is None:
                if node.kind is None or most == 0:
                    kinds.append(int(Kind.SOLVER))
                    continue
                most -= 1
            if node.kind is None:
                raise InternalError("a tree without an end was called closed: please report this")
            kinds.append(int(node.kind))
            if node.children is not None:
                assert node.split is not None
                splits.append(node.split)
            elif node.kind is Kind.BOUND:
                leaves.append(node.leaf)
        split = np.array(splits, np.int64).reshape(-1, 3).T
        values, exponents = {}, {}
        weight = np.zeros((0, self.rows.most_rows), np.int64)
        if leaves:
            weight, multipliers = self.leaves.at(leaves)
            for index, known in multipliers.items():
                unit = self.relaxation.units[index]
                full = np.zeros((len(leaves), unit.size), np.int64)
                full[:, unit.keep] = known
                values[index], exponents[index] = full, self.exponents[index] - _WEIGHT_BITS
        return Forest(np.array(kinds, np.int64), split[0], split[1], split[2], weight, Multipliers(len(leaves), values, exponents))


def rows_at(side: Any, rows: Any) -> Any:
    """Some rows of a range, which may have one for all."""
    return np.repeat(side, len(rows), axis=0) if len(side) == 1 else side[rows]
