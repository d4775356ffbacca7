"""The nodes of a search, and what of them goes to another process and comes back: seeds, and what grew below them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from bvverify.bounds.linear_maps import Tensor
from bvverify.certify.ranges import Limits
from bvverify.errors import InternalError
from bvverify.model.certificate import Kind
from bvverify.model.types import Float32Array

Split = tuple[int, int, int]
"""Operation (or ``INPUT``), unit, value: at most it in the first part, above it in the second."""
_NOTHING: dict[int, Tensor] = {}
"""One for all closed nodes: an empty dictionary takes 64 bytes."""
OPEN = -1
"""The kind of a node that is neither split nor closed."""


@dataclass(slots=True, eq=False)
class Node:
    """A subproblem. ``split`` is its own next split once it is bounded; ``m`` holds the multipliers to start its children from."""

    number: int
    parent: Node | None
    conjunction: int
    second: bool = False
    bound: float = -np.inf
    split: Split | None = None
    m: dict[int, Tensor] = field(default_factory=dict)
    logits: Tensor | None = None
    children: tuple[Node, Node] | None = None
    kind: Kind | None = None
    leaf: int = -1
    same: Node | None = None
    """Another node with the same ranges, whose tree proves this one too."""
    narrowed: bool = False
    """Ranges were narrowed here (``search.narrow``), or are while others are split off."""
    since: int = 0
    """Splits since the last long ascent above it (``search.longer``)."""
    base: Limits | None = None
    """What the splits above it come to, by operation: where many are in a row, nobody has to go through them again."""
    stuck: bool = False
    """Every unit is settled, and no input was found nor excluded: a solver's, once nothing else is open, and then of splits of inputs."""

    def lift(self) -> Content:
        """What stands at this node, taken out: it is open, without a split."""
        out = Content(self.split, self.bound, self.m, self.logits, self.children, self.kind, self.leaf)
        self.split, self.m, self.logits, self.children, self.kind, self.leaf = None, _NOTHING, None, None, None, -1
        return out

    def lower(self, content: Content) -> None:
        """Put in what stood elsewhere."""
        self.split, self.bound, self.m, self.logits = content.split, max(self.bound, content.bound), content.m, content.logits
        self.children, self.kind, self.leaf = content.children, content.kind, content.leaf
        for child in self.children or ():
            child.parent = self

    def close(self, kind: Kind, leaf: int = -1) -> None:
        """Be split, or a leaf: nothing starts here any more."""
        self.kind, self.leaf, self.m, self.logits = kind, leaf, _NOTHING, None

    def state(self) -> State:
        """What its children start from."""
        if self.split is None or self.logits is None:
            raise InternalError("a node that is not bounded was called open: please report this")
        return State(self.split, self.bound, {i: v.numpy() for i, v in self.m.items()}, self.logits.numpy(), self.stuck)

    def take(self, state: State) -> None:
        """Become open, with that state."""
        self.split, self.bound, self.stuck = state.split, state.bound, state.stuck
        self.m, self.logits = {i: torch.from_numpy(v) for i, v in state.m.items()}, torch.from_numpy(state.logits)


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """What stands at a node, whether it is open, split or closed."""

    split: Split | None
    bound: float
    m: dict[int, Tensor]
    logits: Tensor | None
    children: tuple[Node, Node] | None
    kind: Kind | None
    leaf: int


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """An open node's next split, bound, multipliers and logits, as arrays."""

    split: Split
    bound: float
    m: dict[int, Float32Array]
    logits: Float32Array
    stuck: bool


@dataclass(frozen=True, slots=True, eq=False)
class Seed:
    """An open node on its own: its conjunction, the way to it (each split, and whether into its second part), the base it begins at."""

    conjunction: int
    path: tuple[tuple[Split, bool], ...]
    state: State
    base: Limits | None = None

    @staticmethod
    def of(node: Node) -> Seed:
        """An open node of a search."""
        path, at = [], node
        while at.parent is not None and at.base is None:
            assert at.parent.split is not None
            path.append((at.parent.split, at.second))
            at = at.parent
        return Seed(node.conjunction, tuple(path[::-1]), node.state(), at.base)

    def node(self, number: int) -> Node:
        """The node again, below a bare path."""
        at = Node(0, None, self.conjunction, base=self.base)
        for split, second in self.path:
            at.split, at.kind = split, Kind.SPLIT
            at = Node(0, at, self.conjunction, second)
        at.number = number
        at.take(self.state)
        return at


@dataclass(frozen=True, slots=True, eq=False)
class Grown:
    """A tree in preorder: the kind of each node (or ``OPEN``), the splits, the numbers of the bounded leaves, the open nodes' states."""

    kinds: tuple[int, ...]
    splits: tuple[Split, ...]
    leaves: tuple[int, ...]
    open: tuple[State, ...]

    @staticmethod
    def of(root: Node) -> Grown:
        """The tree below a node."""
        kinds, splits, leaves, still = [], [], [], []
        for node in preorder(root):
            kinds.append(OPEN if node.kind is None else int(node.kind))
            if node.children is not None:
                assert node.split is not None
                splits.append(node.split)
            elif node.kind is Kind.BOUND:
                leaves.append(node.leaf)
            elif node.kind is None:
                still.append(node.state())
        return Grown(tuple(kinds), tuple(splits), tuple(leaves), tuple(still))


def rebase(root: Node, base: Limits) -> None:
    """Make ``base`` what the splits above a node come to; what is kept below it is narrowed by it."""
    root.base = base
    stack = list(root.children or ())
    while stack:
        node = stack.pop()
        stack += node.children or ()
        if node.base is not None:
            node.base = dict(node.base)
            for op, (lo, hi) in base.items():
                least, most = node.base.get(op, (lo, hi))
                node.base[op] = np.maximum(least, lo), np.minimum(most, hi)


def preorder(root: Node) -> Iterator[Node]:
    """The nodes of a tree, each before its parts; where one is the same as another, that one's."""
    stack = [root]
    while stack:
        node = stack.pop()
        node = node.same or node
        yield node
        stack += [] if node.children is None else node.children[::-1]


def open_leaves(root: Node) -> Iterator[Node]:
    """The leaves below a node that are not closed."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node.children is not None:
            stack += node.children
        elif node.kind is None and node.same is None:
            yield node
