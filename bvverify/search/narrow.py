"""Narrowing: what no violation reaches at the ends of ranges is split off, for a node and all that is below it.

The ends are those of ``bounds.conditional``; where integers prove them each is a split with one closed part, and ranges shrink round by
round. In networks of several layers that closes nodes whose subtrees would not end: where the kinks are used up, a split gains next to
nothing. Elsewhere it costs as much as some hundred nodes and brings little. So what it should save is weighed against what it costs: a
leaf that misses m has about ``2^(m / g)`` nodes below it while splits gain g each, and narrowing brings a share of what is missing; both
are learned from what they brought lately, the share by how much was missing: where much is, ranges hardly shrink; where little is and no
kink is left, the slack of rounding is all there is, and ranges do not change it; in between they shrink and shrink until the node closes.
Counted, not timed, so that a search depends on its seed alone.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from bvverify.bounds.ascent import Seen, Settings
from bvverify.bounds.conditional import Climbed, Ends, Start, ends_of
from bvverify.model.certificate import Kind
from bvverify.model.ops import Conv2d, Dense
from bvverify.search.node import Node, open_leaves, preorder, rebase
from bvverify.search.pace import SIZES, size
from bvverify.search.tree import Tree

_SETTINGS = Settings(steps=100, rate=0.03, decay=0.96)
_ROUNDS, _STALLED = 24, 0.98
"""Rounds at most, as long as they make ranges shrink to less than this part."""
_SAMPLE, _OF_SAMPLE = 32, 0.1
"""Units of an operation that show whether the others are worth it; the share of their ends that has to come off."""
_FIRST, _AGAIN = 1000, 1.1
"""Nodes before the first look at the tree; how many times as many there are at the next."""
_SHARE = 8.0
"""Of the nodes that were bounded, ends aside: what narrowing may cost, in nodes."""
_TOGETHER = 256
"""Ends that are proved at once."""
_END, _SHORTER = 0.8, 0.4
"""What an end costs, in nodes; what part of that from where the last round ended."""
_LEAF = 300.0
"""Nodes that narrowing is taken to save below a leaf, at most."""
_NEARER = 0.8
"""Of what was missing at the last narrowing above: what may be missing for another."""
_AT_FIRST, _LATELY, _FORGET = 0.3, 0.3, 0.02
"""The share of what is missing that narrowing is taken to bring before it was tried; the weight of the last trial in what it brings; how
much of what was learned is forgotten from look to look."""
_LEAST_SHARE = 0.15
"""Where it brings less, nothing is narrowed: what splits gain may be as little, and then any share seems worth it."""


class Narrow:
    """For one tree."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        ops, last = tree.network.ops, tree.rows.output_op
        self.ops = [i for i in tree.relaxation.units if isinstance(ops[i], Dense | Conv2d) and i != last]
        """The operations whose accumulators are narrowed."""
        self.due = _FIRST
        """The number of nodes, ends aside, at which to look next."""
        self.share = [_AT_FIRST] * SIZES
        """By the size of what was missing (``pace.size``): the share of it that narrowing brought."""
        units = tree.relaxation.units
        once = tree.costs.calls + 2 * _END * sum(len(units[i].keep) for i in self.ops)
        self.cost = [once] * SIZES
        """By the size of what was missing: what narrowing cost, in nodes."""
        self.spent = 0.0

    def look(self, again: Callable[[list[Node], float | None], bool], until: Callable[[], float | None]) -> None:
        """Narrow where it should pay; ``again`` bounds open nodes once more, in their narrower ranges, and says whether to go on.

        ``until`` is the deadline as things stand: the ends that were split off meanwhile have to be checked as well.
        """
        tree = self.tree
        self.share = [share + _FORGET * (_AT_FIRST - share) for share in self.share]
        for node in self._choose():
            deadline = until()
            late = deadline is not None and time.monotonic() > deadline
            if late or self.spent > _SHARE * tree.bounded:
                break
            missing, before = -node.bound, self.spent
            if not self._may(missing):  # since the nodes were chosen
                continue
            left, nodes = self.narrow(node, deadline)
            k = size(missing)
            self.cost[k] += _LATELY * (self.spent - before - self.cost[k])
            self.share[k] += _LATELY * ((missing - left) / missing - self.share[k])
            if not again(nodes, until()):
                break
        self.due = int(tree.bounded * _AGAIN) + 1

    def _choose(self) -> list[Node]:
        """Nodes below which narrowing should save more than it costs, those where it should save most first; no two on one path."""
        saved: defaultdict[int, float] = defaultdict(float)
        nodes: dict[int, Node] = {}
        if not self.ops or self.tree.gain == 0:  # nothing to narrow, or nothing known yet of what splits bring
            return []
        for stuck, _, _, leaf in self.tree.open:
            way, at = [], leaf
            while not at.narrowed and at.parent is not None:
                way.append(at)
                at = at.parent
            most = -_NEARER * at.bound if at.narrowed else math.inf
            node = next((n for n in [at, *way[::-1]] if not n.narrowed and self._may(-n.bound, most)), None)
            if node is not None and not stuck:
                nodes[node.number] = node
                saved[node.number] += self._saves(-leaf.bound, self.share[size(-node.bound)] * -node.bound)
        worth = [number for number, much in saved.items() if much >= self.cost[size(-nodes[number].bound)]]
        return [nodes[number] for number in sorted(worth, key=lambda number: (-saved[number], number))]

    def _may(self, missing: float, most: float = math.inf) -> bool:
        """Whether a node that misses so much, and may miss ``most``, is one of those of which narrowing brings enough."""
        return 0 < missing <= most and math.isfinite(missing) and self.share[size(missing)] >= _LEAST_SHARE

    def _saves(self, missing: float, rise: float) -> float:
        """How many nodes fewer are below a leaf that misses so much when its bound rises by so much."""
        gain = max(self.tree.gain, 1e-9)  # on the way splits may bring nothing at all
        return min(2.0 ** min(missing / gain, 30.0) * (1 - 2.0 ** -(rise / gain)), _LEAF)

    def narrow(self, top: Node, deadline: float | None) -> tuple[float, list[Node]]:
        """Narrow a node that is open, or has open leaves below it; what is still missing there, and the leaves, taken out of the pool."""
        tree = self.tree
        leaves = list(open_leaves(top))
        left = [node for node in leaves if not node.stuck]
        worst = min(left, key=lambda node: (node.bound, node.number))
        assert worst.logits is not None
        start = Start({i: v[None] for i, v in worst.m.items()}, worst.logits[None], -worst.bound)
        gone = {id(node) for node in leaves}
        tree.open = [entry for entry in tree.open if id(entry[-1]) not in gone]
        heapq.heapify(tree.open)
        below = top.lift()
        top.narrowed = True
        node = self._rounds(top, start, deadline)
        if node.kind is not None:
            tree.dropped += sum(1 for child in below.children or () for _ in preorder(child))
            return 0.0, []
        node.lower(below)
        rebase(node, {op: (lo[0], hi[0]) for op, (lo, hi) in tree.limits([node]).items()})
        for leaf in leaves:
            if leaf.stuck:
                tree.put_back(leaf)
        return -node.bound, left if node.children is not None else [node]

    def _rounds(self, node: Node, start: Start, deadline: float | None) -> Node:
        """What is left of a node after some rounds, closed or not."""
        tree, ops, width = self.tree, self.ops, math.inf
        climbed: Climbed | None = None
        for number in range(_ROUNDS + 1):
            ranges = tree.ranges([node])
            if tree.excluded([node], ranges)[0]:
                node.close(Kind.INTERVAL)
                break
            seen = tree.seen([node], ranges, np.arange(1))
            best = tree.ascend(seen, start.m, start.logits, replace(_SETTINGS, deadline=deadline))
            start = Start.at(best)
            self.spent += 2
            node.bound = max(node.bound, float(best.value[0]))
            if tree.close([node], torch.nonzero(best.value > 0)[:, 0], seen, best)[0]:
                break
            steps = sum(float(((hi - lo) / tree.relaxation.units[i].step).sum()) for i, (lo, hi) in seen.tensors.items() if i in self.ops)
            late = deadline is not None and time.monotonic() > deadline
            if late or number == _ROUNDS or steps >= _STALLED * width:
                break
            if number == 0:
                ops = self._worth(ops, seen, start, deadline)
            width = steps
            ends, climbed = self._ends(ops, seen, climbed or start, None, deadline)
            if ends is not None:
                node = self._split_off(node, ends, seen)
        return node

    def _worth(self, ops: list[int], seen: Seen, start: Start, deadline: float | None) -> list[int]:
        """The operations of which ends of a sample come off; all, where a sample would be most of them."""
        if _count(ops, seen, None) <= 2 * _count(ops, seen, _SAMPLE):
            return ops
        ends, _ = self._ends(ops, seen, start, _SAMPLE, deadline)
        found = Counter([] if ends is None else ends.op.tolist())
        return [i for i in ops if found[i] > _OF_SAMPLE * _count([i], seen, _SAMPLE)]

    def _ends(
        self, ops: list[int], seen: Seen, start: Start | Climbed, most: int | None, deadline: float | None
    ) -> tuple[Ends | None, Climbed | None]:
        tree = self.tree
        share = _SHORTER if isinstance(start, Climbed) else 1.0
        self.spent += share * (tree.costs.calls + _END * _count(ops, seen, most))
        return ends_of(tree.relaxation, ops, seen, start, deadline, most)

    def _split_off(self, node: Node, ends: Ends, seen: Seen) -> Node:
        """Split off what is excluded, as far as integers prove it; what is left."""
        tree = self.tree
        for first in range(0, len(ends.op), _TOGETHER):
            part = ends.at(slice(first, first + _TOGETHER))
            count = len(part.op)
            x = None if seen.x is None else tuple(np.repeat(side, count, axis=0) for side in seen.x)
            about, ranges = [node.conjunction] * count, part.excluded(seen.tensors)
            kept, leaves = tree.prove(about, ranges, part.m, part.logits, seen.objective.repeat(count), x)
            for k, leaf in zip(np.flatnonzero(kept.numpy()).tolist(), leaves, strict=True):
                op = int(part.op[k])
                sides = tree.split_at(node, op, int(tree.relaxation.units[op].keep[part.place[k]]), int(part.value[k]))
                excluded, node = sides if part.lower[k] else sides[::-1]
                excluded.close(Kind.BOUND, leaf)
                tree.ends += len(sides)
                node.narrowed = True
        return node


def _count(ops: Sequence[int], seen: Seen, most: int | None) -> int:
    """How many ends the open accumulators of some operations have, of ``most`` of each at most."""
    opened = [int((lo < hi).sum()) for lo, hi in (seen.tensors[i] for i in ops)]
    return 2 * sum(n if most is None else min(n, most) for n in opened)
