"""What a saved result means: margins, neurons, the tree of subproblems, the changes of a witness; computed anew from the model and the box.

The ranges are those of exact integer intervals and of one pass of exact linear bounds, so that they are sound, and wider than what a search
that split the box has shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bvverify.bounds import interval, linear
from bvverify.bounds.interval import Bounds
from bvverify.errors import InputError
from bvverify.explain.overview import clamp_of
from bvverify.explain.saved import Saved
from bvverify.model.certificate import INPUT, Certificate, Kind
from bvverify.model.network import Network
from bvverify.model.ops import Clamp
from bvverify.model.query import Query
from bvverify.model.types import Int64Array
from bvverify.run import interpreter, replay


@dataclass(frozen=True, slots=True)
class Margin:
    """One output: at the clean input (or the box's middle), the range that bounds allow on the box, and at the witness.

    ``clean_margin`` and ``witness_margin`` are the label's output minus this one; ``least_margin`` is what linear bounds guarantee of
    it on the box. All three are None where no class is asked about, and at the label itself.
    """

    output: int
    clean: int
    least: int
    largest: int
    witness: int | None
    clean_margin: int | None
    least_margin: int | None
    witness_margin: int | None


@dataclass(frozen=True, slots=True)
class Layer:
    """The neurons of a layer on the box.

    ``constant`` ones take one value (of these, ``saturated`` ones an end of the clamp), the clamp never changes ``linear`` ones, and
    ``undecided`` ones it may hold for some inputs and not for others.
    """

    layer: int
    tensor: str
    neurons: int
    constant: int
    saturated: int
    linear: int
    undecided: int


@dataclass(frozen=True, slots=True)
class Tree:
    """The subproblems of a proof, all conjunctions together: splits by layer (0: the input), leaves by kind, the longest path."""

    trees: int
    splits: int
    leaves: tuple[tuple[str, int], ...]
    deepest: int
    split_layers: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One input element that the witness changes."""

    element: tuple[int, ...]
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """The facts; ``box`` is its size in words, ``tree`` None without a certificate, ``changes`` None without a witness or a clean input."""

    label: int | None
    asked: str
    box: str
    moving: int
    inputs: int
    boxes: int
    margins: tuple[Margin, ...]
    layers: tuple[Layer, ...]
    tree: Tree | None
    changes: tuple[Change, ...] | None
    classes: tuple[int, int | None]


def explain(saved: Saved, network: Network, queries: Sequence[Query], certificates: Sequence[Certificate]) -> Explanation:
    """The facts about a result; ``InputError`` where it does not belong to the question, or its witness is none."""
    witness = None if saved.witness is None else _witness(saved, network)
    query = next((q for q in queries if witness is not None and replay.violates(q, witness[None])[0]), None)
    if witness is not None and query is None:
        raise InputError(f"{saved.file}: its witness does not violate the property in the box; bvverify replay says more")
    query = query or queries[0]
    bounds, _ = linear.tighten(network, query.box, interval.propagate(network, query.box))
    nominal = query.nominal if query.nominal is not None else (query.box.lo + query.box.hi) >> 1
    clean = interpreter.run(network, nominal[None]).ravel()
    found = None if witness is None else interpreter.run(network, witness[None]).ravel()
    return Explanation(
        query.property.label,
        query.property.text,
        str(query.box),
        query.box.varying,
        query.box.lo.size,
        len(queries),
        _margins(query, bounds, clean, found),
        tuple(_layers(network, bounds)),
        _tree(certificates) if certificates else None,
        None if witness is None or query.nominal is None else _changes(query.nominal, witness),
        (int(clean.argmax()), None if found is None else int(found.argmax())),
    )


def _witness(saved: Saved, network: Network) -> Int64Array:
    tensor = network.input.tensor
    x = np.array(saved.witness, np.int64)
    if x.size != tensor.size or (x < tensor.qtype.lo).any() or (x > tensor.qtype.hi).any():
        raise InputError(f"{saved.file}: its witness is no input of the model: {tensor.size} numbers of type {tensor.qtype}")
    return x.reshape(tensor.shape)


def _margins(query: Query, bounds: Bounds, clean: Int64Array, found: Int64Array | None) -> tuple[Margin, ...]:
    output, label = query.network.output.tensor, query.property.label
    lo, hi = (side[output].ravel() for side in (bounds.lo, bounds.hi))
    guaranteed = _guaranteed(query, bounds)
    margins = []
    for i in range(len(clean)):
        rival = label is not None and i != label
        margins.append(
            Margin(
                i,
                int(clean[i]),
                int(lo[i]),
                int(hi[i]),
                None if found is None else int(found[i]),
                int(clean[label] - clean[i]) if rival else None,
                guaranteed[i] if rival else None,
                int(found[label] - found[i]) if rival and found is not None else None,
            )
        )
    return tuple(margins)


def _guaranteed(query: Query, bounds: Bounds) -> list[int]:
    """A lower bound of the label's output minus each output."""
    output, label = query.network.output.tensor, query.property.label
    if label is None:
        return []
    lo, hi = (side[output].ravel() for side in (bounds.lo, bounds.hi))
    rows = -np.eye(lo.size, dtype=np.int64)
    rows[:, label] += 1
    return np.maximum(linear.lower(query.network, bounds, rows)[0], lo[label] - hi).tolist()


def _layers(network: Network, bounds: Bounds) -> list[Layer]:
    layers = []
    for index, op in enumerate(network.ops):
        clamp = (op.lo, op.hi) if isinstance(op, Clamp) else clamp_of(op)
        if clamp is None:
            continue
        lo, hi = bounds.lo[index + 1], bounds.hi[index + 1]
        if isinstance(op, Clamp):
            # A value at an end of a clamp alone need not have been clamped: what it read tells.
            lo, hi = bounds.lo[op.x], bounds.hi[op.x]
            inside, held = (clamp[0] <= lo) & (hi <= clamp[1]), (hi <= clamp[0]) | (lo >= clamp[1])
            constant = (lo == hi) | held
        else:
            inside, constant = (clamp[0] < lo) & (hi < clamp[1]), lo == hi
            held = constant & ((lo == clamp[0]) | (lo == clamp[1]))
        linear_ones = inside & ~constant
        layers.append(
            Layer(
                index + 1,
                network.tensors[index + 1].name,
                lo.size,
                int(constant.sum()),
                int((held & constant).sum()),
                int(linear_ones.sum()),
                int((~constant & ~linear_ones).sum()),
            )
        )
    return layers


def _tree(certificates: Sequence[Certificate]) -> Tree:
    kinds: Counter[str] = Counter()
    layers: Counter[int] = Counter()
    trees = deepest = 0
    for certificate in certificates:
        forest = certificate.forest
        trees += len(certificate.statement.violation)
        layers.update(0 if op == INPUT else op + 1 for op in forest.split_op.tolist())
        # In preorder: a split opens a first and a second part, a leaf ends the part that was opened last.
        waiting: list[int] = []
        for kind in forest.kind.tolist():
            depth = waiting.pop() if waiting else 0
            deepest = max(deepest, depth)
            if kind == Kind.SPLIT:
                waiting += [depth + 1, depth + 1]
            else:
                kinds[Kind(kind).name.lower()] += 1
    return Tree(trees, layers.total(), tuple(sorted(kinds.items())), deepest, tuple(sorted(layers.items())))


def _changes(nominal: Int64Array, witness: Int64Array) -> tuple[Change, ...]:
    return tuple(
        Change(tuple(int(i) for i in at), int(nominal[tuple(at)]), int(witness[tuple(at)])) for at in np.argwhere(nominal != witness)
    )
