"""Branch and bound over step functions, complete: every conjunction of a violation is refuted, or met by an input.

A node is a conjunction with a path of splits; its ranges are what the kernel derives from the root's claims and that path. Each node is
bounded by a few steps of ascent from its parent's multipliers, in float32; what seems closed is evaluated again in float64 at integer
multipliers, and the kernel has the last word on all of them together. All open nodes of all conjunctions are in one pool, worst bound
first, and are worked off in batches. Where nothing is left to split but inputs, an input is looked for or excluded (``search.cell``); what
resists is a solver's, once nothing else is open, and then inputs are split: at a single input the ranges are exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch

from bvverify.bounds.ascent import Ascent, Seen, Settings
from bvverify.bounds.interval import Bounds
from bvverify.bounds.linear_maps import Tensor
from bvverify.errors import InternalError
from bvverify.model.certificate import INPUT, Forest, Kind
from bvverify.model.query import Box
from bvverify.model.types import Int64Array
from bvverify.run.replay import violates
from bvverify.search import saturation
from bvverify.search.branching import choose
from bvverify.search.cell import Cells
from bvverify.search.leaves import Leaves
from bvverify.search.longer import LEVELS, Longer, gains
from bvverify.search.narrow import Narrow
from bvverify.search.node import OPEN, Grown, Node, Seed, open_leaves
from bvverify.search.pace import Pace
from bvverify.search.reserve import Reserve
from bvverify.search.root import Root, bounds_of
from bvverify.search.tree import LONG_SETTINGS, NODE_SETTINGS, Tree, rows_at

ROOT_SETTINGS = Settings(steps=200, rate=0.5, decay=0.978, blur=0.7)

_TARGET = 1e-3
_ENDS = -2.5
"""The first logit of the forms of ends."""
_BLURRED = 1.4
"""What a blurred step of an ascent costs, in others."""
_CELLS = 64
"""Settled nodes of a batch in which a witness is looked for."""
_FEW_INPUTS = 12.0
"""Bits of a box that is split rather than given to a solver: what is split is checked."""
_WORK = 4 * 10**7
"""Multiplications of a batch, about: what bounds the time between two looks at the clock."""
_BATCH = 16, 256
"""The fewest and the most nodes that a batch splits."""
_TRIES, _EARLY, _EARLY_DEEP, _FREE, _SHARE = 6, 60, 30, 2, 0.1
"""Local searches a batch at most; how many of them, and of those in levels, are early, when they may cost as much as the bounds; how many
are free; the share of what the bounds cost that the others may cost. Counted, not timed, so that a search depends on its seed alone."""


_LATELY = 0.1
"""The share of the last batch in what a split gains lately."""


class Attack(Protocol):
    """Looks for witnesses near the minimisers of nodes (``bvverify.attack.nodes``)."""

    def candidates(self, conjunctions: Sequence[int], x: Any) -> tuple[Int64Array | None, list[tuple[int, Int64Array]]]:
        """A witness among the inputs next to real ``x`` (a conjunction a row); starts for ``polish``, the most promising first."""

    def polish(self, conjunction: int, x: Int64Array) -> Int64Array | None:
        """A witness for a conjunction near an input."""

    def suggest(self, conjunctions: Sequence[int], points: Int64Array) -> None:
        """Inputs to ``deepen`` first."""

    @property
    def deepens(self) -> bool:
        """Whether ``deepen`` has anything to start from."""

    def deepen(self) -> Int64Array | None:
        """A witness some way from one of the inputs that others ended at."""


Solver = Callable[[int, Bounds, Box], Literal["unsat"] | Int64Array | None]
"""Asks a solver about a conjunction on a part of the box: refuted, an input, or nothing."""
Report = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """``witness``: an input that violates; ``trees`` a tree for each conjunction when all are closed; otherwise what is still open."""

    witness: Int64Array | None
    trees: dict[int, Forest] | None
    nodes: int
    open: int
    bound: float
    """The worst bound of an open node, in units of the violation's rows (negative: not yet excluded); infinite with none open."""
    conjunctions: tuple[int, ...]
    """Those with an open node."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to search."""
        return self.witness is not None or self.trees is not None


class Search(Tree):
    """The search for a root and some conjunctions; ``run`` can be called again with a later deadline."""

    def __init__(
        self,
        root: Root,
        conjunctions: Sequence[int],
        attack: Attack | None = None,
        solver: Solver | None = None,
        report: Report | None = None,
    ) -> None:
        super().__init__(root, conjunctions)
        self.attack, self.solver, self.report = attack, solver, report or (lambda _line: None)
        self.attacked, self.deepened, self.asked = 0, 0, 0
        self.early, self.early_deep = _EARLY, _EARLY_DEEP
        self.narrow, self.pace = Narrow(self), Pace()
        long = LONG_SETTINGS.steps / NODE_SETTINGS.steps
        self.longer = Longer(_BLURRED * long, self.costs.calls * long)
        self.witness: Int64Array | None = None
        self.cells: Cells | None = None
        self.batch = int(np.clip(_WORK // self.costs.bounding, *_BATCH))

    def run(self, deadline: float | None, most_nodes: int | None = None, reserve: Reserve | None = None) -> Outcome:
        """Search until everything is closed, a witness is found, or the deadline or the number of nodes is reached.

        ``reserve`` says how long before the deadline it ends.
        """
        if self.nodes == len(self.trees) and not self.open:
            self._work(self._presplit(list(self.trees.values())), ROOT_SETTINGS, deadline)
        while self.witness is None:
            until = self._until(deadline, reserve)
            if not self.open or (until is not None and time.monotonic() > until) or (most_nodes is not None and self.nodes >= most_nodes):
                break
            self._work(self._parts(self._settle(self.take(self.batch), until), until), NODE_SETTINGS, until)
            if self.bounded >= self.narrow.due and self.witness is None and (most_nodes is None or self.nodes < most_nodes):
                self.narrow.look(self._again, lambda: self._until(deadline, reserve))
            if self.open:
                self.report(f"{self.nodes} nodes, {len(self.open)} open, worst bound {self.open[0][1]:.3g}")
        done = not self.open and self.witness is None
        trees = {i: self._forest(node) for i, node in self.trees.items()} if done else None
        still = tuple(sorted({node.conjunction for *_, node in self.open}))
        bound = min((bound for _, bound, *_ in self.open), default=np.inf)
        return Outcome(self.witness, trees, self.nodes, len(self.open), bound, still)

    def _until(self, deadline: float | None, reserve: Reserve | None) -> float | None:
        """When to end, so that what is proved by now can still be checked."""
        return deadline if deadline is None or reserve is None else deadline - reserve.seconds(self)

    def so_far(self) -> Outcome:
        """What is open where ``run`` was interrupted: read off the trees, since nodes at work are in no pool."""
        left = [node for root in self.trees.values() for node in open_leaves(root)]
        bound = min((node.bound for node in left), default=np.inf)
        return Outcome(None, None, self.nodes, len(left), bound, tuple(sorted({node.conjunction for node in left})))

    def suggest(self, points: Int64Array) -> None:
        """Inputs (batch, *input shape) that came near to a violation."""
        if self.attack is not None:
            self.attack.suggest(sorted({node.conjunction for *_, node in self.open}), points)

    # -- in parts (``search.spread``) ------------------------------------------------------------------------------------

    def plant(self, seeds: Sequence[Seed]) -> list[Node]:
        """Begin below nodes of another search, instead of at the root; what is early in a search has been there."""
        self.trees, self.open, self.nodes, self.early, self.early_deep = {}, [], len(seeds), 0, 0
        nodes = [seed.node(number) for number, seed in enumerate(seeds, 1)]
        for node in nodes:
            self.put_back(node)
        return nodes

    def graft(self, nodes: Sequence[Node], trees: Sequence[Grown], leaves: Leaves) -> None:
        """What grew elsewhere below nodes that were taken, and the leaves there."""
        first = self.leaves.extend(leaves)
        for root, tree in zip(nodes, trees, strict=True):
            splits, numbers, still = iter(tree.splits), iter(tree.leaves), iter(tree.open)
            stack = [root]
            for kind in tree.kinds:
                node = stack.pop()
                if kind == OPEN:
                    node.take(next(still))
                    self.put_back(node)
                elif kind == Kind.SPLIT:
                    first_part, second_part = self.split_at(node, *next(splits))
                    stack += [second_part, first_part]
                else:
                    node.close(Kind(kind), first + next(numbers) if kind == Kind.BOUND else -1)

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def _parts(self, nodes: list[Node], deadline: float | None) -> list[Node]:
        """The parts of nodes; of those that are stuck, where a solver does not close them."""
        parts: list[Node] = []
        for node in nodes:
            if self.witness is not None or (node.stuck and deadline is not None and time.monotonic() > deadline):
                self.put_back(node)
            elif not node.stuck or self.solver is None or not self._ask(self.solver, node):
                parts += self._branch(node)
        return parts

    def _presplit(self, roots: list[Node]) -> list[Node]:
        """Cut each root where its outputs saturate (``search.saturation``); parts that ask the same are asked once."""
        if self.rows.output_op is None or self.relaxation.units[self.rows.output_op].early.shape[1] < 2:
            return roots
        unit = self.relaxation.units[self.rows.output_op]
        top = unit.lo + unit.early.shape[1]
        lo, hi = (side[self.network.output.tensor].reshape(-1) for side in (self.root.ranges.lo, self.root.ranges.hi))
        leaves, shared = [], dict[tuple[int, bool], Node]()
        for root in roots:
            rows, main = self.query.property.violation[root.conjunction], root
            # Of several rows the one that is farthest from being met: the others may well be, and it has to carry the bound.
            row = rows[self.rows.farthest(root.conjunction)]
            for cut in saturation.cuts(row, lo, hi, unit.lo, top) if row.inputs is None and self.rows.ends(rows) else ():
                place = int(np.searchsorted(unit.keep, cut.output))
                group = 0 if len(unit.early) == 1 else place // (len(unit.keep) // len(unit.early))
                threshold = int(unit.early[group, 0 if cut.lower else -1])
                parts = self.split_at(main, self.rows.output_op, cut.output, threshold - 1)
                aside, main = parts if cut.lower else parts[::-1]
                key = cut.output, cut.lower
                if cut.met and aside.parent is root and len(rows) == 1:
                    if key in shared:
                        aside.same = shared[key]
                        continue
                    shared[key] = aside
                leaves.append(aside)
            leaves.append(main)
        return leaves

    # -- bounding ------------------------------------------------------------------------------------------------------

    def _work(self, nodes: list[Node], settings: Settings, deadline: float | None) -> None:
        for start in range(0, len(nodes), 2 * self.batch):
            if self.witness is None:
                self._bound(nodes[start : start + 2 * self.batch], settings, deadline)

    def _settle(self, nodes: list[Node], deadline: float | None) -> list[Node]:
        """Climb on at those of some open nodes where that should save splits (``search.longer``); the others."""
        before, since = torch.tensor([n.bound for n in nodes], dtype=torch.float64), torch.tensor([n.since for n in nodes])
        worth = self.longer.worth(-before, since, gains(nodes, self.gain), self.nodes) & torch.tensor([not n.stuck for n in nodes])
        some = [node for node, long in zip(nodes, worth.tolist(), strict=True) if long]
        if some:
            self._bound_again(some, deadline, LONG_SETTINGS)
            left = torch.tensor([-node.bound if node.kind is None else 0.0 for node in some], dtype=torch.float64)
            self.longer.learn(-before[worth], left, since[worth])
            for node in some:
                node.since = 0
        return [node for node, long in zip(nodes, worth.tolist(), strict=True) if not long]

    def _bound_again(self, nodes: list[Node], deadline: float | None, settings: Settings = NODE_SETTINGS) -> None:
        """Bound nodes once more. What splits gain is learned from splits alone."""
        gain = self.gain
        self._work(nodes, settings, deadline)
        self.gain = gain

    def _again(self, nodes: list[Node], deadline: float | None) -> bool:
        """Bound nodes once more, in narrower ranges; whether the search goes on.

        The way is long: their multipliers are of other hulls. Another long one below soon pays as well (with ``since`` at 0 three times as
        many nodes stayed open on 3x100), so it is counted as none.
        """
        for node in nodes:
            node.since = LEVELS
        self._bound_again(nodes, deadline, LONG_SETTINGS)
        return self.witness is None

    def _bound(self, nodes: list[Node], settings: Settings, deadline: float | None) -> None:
        """Close what can be closed, find a split for the rest and put it into the pool."""
        ranges = self.ranges(nodes)
        closed = self.excluded(nodes, ranges)
        for i in np.flatnonzero(closed):
            nodes[i].close(Kind.INTERVAL)
        rest = np.flatnonzero(~closed)
        if not len(rest):
            return
        nodes = [nodes[i] for i in rest]
        seen = self.seen(nodes, ranges, rest)
        m, logits = self._start(nodes, seen)
        before = torch.tensor([n.bound for n in nodes], dtype=torch.float64)
        numbers = [n.number for n in nodes]
        pace = self.pace.of(before, numbers) if nodes[0].m and settings is NODE_SETTINGS else None
        best = self.ascend(seen, m, logits, replace(settings, target=_TARGET, deadline=deadline), pace)
        if pace is not None:
            self.pace.learn(before, best.value, numbers)
        done = self.close(nodes, torch.nonzero(best.value > 0)[:, 0], seen, best)
        value = torch.maximum(best.value.double(), before)
        if bool(torch.isfinite(before).all()):
            gained = float((value.clamp(max=0) - before).mean())
            self.gain = gained if self.gain == 0 else _LATELY * gained + (1 - _LATELY) * self.gain
        choice = choose(self.relaxation, seen.tensors, best)
        settled = np.flatnonzero(~done & (True if choice is None else choice.score.numpy() <= 0))
        if len(settled):
            done |= self._in_cells(nodes, settled, seen, best, deadline)
        for row in np.flatnonzero(~done):
            node = nodes[row]
            node.bound = float(value[row])
            node.m, node.logits = {i: v[row] for i, v in best.m.items()}, best.logits[row]
            if choice is not None and float(choice.score[row]) > 0:
                node.split = int(choice.op[row]), int(choice.unit[row]), int(choice.value[row])
            else:
                lo, hi = (rows_at(side[0].reshape(len(side[0]), -1), rest[[row]])[0] for side in (ranges.lo, ranges.hi))
                node.split = self._split_input(lo, hi, best.over_x[row])
                if node.split is None:
                    self._at_a_point(node, lo)
                    continue
                node.stuck = self.solver is not None and float(np.log2(hi - lo + 1.0).sum()) >= _FEW_INPUTS
            self.put_back(node)
        self._try(nodes, best, np.flatnonzero(~done), deadline)

    def _start(self, nodes: list[Node], seen: Seen) -> tuple[dict[int, Tensor], Tensor]:
        """The multipliers to climb from: the parent's; at the root slopes."""
        if nodes[0].m:
            m = {i: torch.stack([n.m[i] for n in nodes]) for i in nodes[0].m}
            return m, torch.stack([n.logits for n in nodes if n.logits is not None])
        logits = torch.zeros((len(nodes), self.rows.constant.shape[1]))
        logits[:, self.rows.most_rows :] = _ENDS
        objective = seen.objective.to(torch.float32)
        return self.relaxation.start(seen.corners, objective.weighted(objective.weights(logits))[0]), logits

    # -- inputs --------------------------------------------------------------------------------------------------------

    def _in_cells(self, nodes: list[Node], rows: Any, seen: Seen, best: Ascent, deadline: float | None) -> Any:
        """Every unit of these rows is settled: close those that no input is in, look for a witness in the others (``search.cell``)."""
        first = self.relaxation.first & self.relaxation.units.keys()
        if not first or not first <= best.m.keys():
            return np.zeros(len(nodes), bool)
        if self.cells is None:
            self.cells = Cells(self.relaxation)
        at = torch.from_numpy(rows)
        box = self.relaxation.box(seen.x, torch.float64) or self.relaxation.ranges[torch.float64][0]
        cell, start = self.cells.cell(seen.tensors, box, at), best.x[at].double()
        r, worth = self.cells.refute(cell, start, deadline)
        # Twice what the bound lacks, and a little.
        share = torch.where(worth > 0, (1e-3 - 2 * best.value[at].double().clamp(max=0)) / worth, 0.0)
        for i, v in r.items():
            best.m[i][at] += (share[:, None] * v).to(best.m[i].dtype)
        done = self.close(nodes, at[worth > 0], seen, best)
        left = torch.from_numpy(np.flatnonzero(~done[rows]))[:_CELLS]
        if len(left):
            part = self.cells.cell(seen.tensors, box, at[left])
            points = self.cells.inputs(part, start[left], deadline)
            whole = np.repeat(self.relaxation.reference[0].reshape(1, -1), len(points), axis=0)
            whole[:, self.relaxation.keep[0]] += points.numpy().astype(np.int64)
            whole = whole.reshape(-1, *self.network.input.tensor.shape)
            hit = np.flatnonzero(violates(self.query, whole))
            if len(hit):
                self.witness = whole[hit[0]]
        return done

    def _ask(self, solver: Solver, node: Node) -> bool:
        """Ask a solver about a node; whether it needs no more."""
        self.asked += 1
        ranges = self.ranges([node])
        answer = solver(node.conjunction, bounds_of(self.network, ranges, 0), Box.of(ranges.lo[0][0], ranges.hi[0][0]))
        if isinstance(answer, np.ndarray):
            self.witness = answer
        elif answer == "unsat":
            node.close(Kind.SOLVER)
        return answer is not None

    def _split_input(self, lo: Int64Array, hi: Int64Array, over_x: Tensor) -> tuple[int, int, int] | None:
        """The middle of the input element that the bound leaves most to; None at a single input."""
        if not (lo < hi).any():
            return None
        weight = np.zeros(len(lo))
        weight[self.relaxation.keep[0]] = over_x.abs().numpy()
        element = int(((weight + 1e-9) * (hi - lo)).argmax())
        return INPUT, element, int((lo[element] + hi[element]) >> 1)

    def _at_a_point(self, node: Node, x: Int64Array) -> None:
        """At a single input the ranges are exact: it violates, or they would have closed the node."""
        x = x.reshape(self.network.input.tensor.shape)
        if not violates(self.query, x[None])[0]:
            raise InternalError("a single input neither violates the property nor is excluded by its own ranges: please report this")
        self.witness = x

    def _try(self, nodes: list[Node], best: Ascent, rows: Any, deadline: float | None) -> None:
        """Look for a witness near the minimisers of the worst nodes."""
        if not len(rows) or self.witness is not None:
            return
        x = np.repeat(self.relaxation.reference[0].reshape(1, -1), len(rows), axis=0).astype(np.float64)
        x[:, self.relaxation.keep[0]] += best.x.numpy()[rows]
        x = x.reshape(-1, *self.network.input.tensor.shape)
        if self.attack is None:
            hit = np.flatnonzero(violates(self.query, np.rint(x).astype(np.int64)))
            self.witness = np.rint(x[hit[0]]).astype(np.int64) if len(hit) else None
            return
        self.witness, starts = self.attack.candidates([nodes[row].conjunction for row in rows], x)
        for conjunction, start in starts[:_TRIES]:
            if self.witness is not None or not self._affords(self.attacked, self.costs.polish, self.early, deadline):
                break
            self.attacked += 1
            self.witness = self.attack.polish(conjunction, start)
        while self.witness is None and self.attack.deepens and self._affords(self.deepened, self.costs.deepen, self.early_deep, deadline):
            self.deepened += 1
            self.witness = self.attack.deepen()

    def _affords(self, made: int, cost: float, early: int, deadline: float | None) -> bool:
        """Whether one more search of that cost, in nodes, after so many, leaves the bounds their time."""
        share = 1.0 if made < early else _SHARE
        return made * cost <= share * self.bounded + _FREE * cost and (deadline is None or time.monotonic() < deadline)
