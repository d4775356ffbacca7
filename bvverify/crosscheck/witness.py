"""What a claimed witness does when the interpreter runs it: it violates the property inside the box, or it does something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from bvverify.errors import InputError, UsageError
from bvverify.load import claimed_witness
from bvverify.model.network import Network
from bvverify.model.query import Query
from bvverify.model.types import AnyArray, Int64Array
from bvverify.run import interpreter, replay

_CLOSE = Fraction(1, 1000)
"""Claimed outputs are printed decimals; what differs by more is another output."""


@dataclass(frozen=True, slots=True)
class Check:
    """``problem`` says in one line why it does not replay, "" where it does; ``note`` what else there is to say.

    ``input`` is flat, None where the file holds none. ``outside`` counts the values that leave the box (of several, the one it leaves
    least), ``furthest`` is by how many steps the worst of them does, ``element`` its flat index. ``predicted`` and ``outputs`` are
    what the interpreter computes, None where the input is none of the model's type.
    """

    problem: str
    note: str = ""
    input: tuple[int, ...] | None = None
    outside: int = 0
    furthest: int = 0
    element: int | None = None
    predicted: int | None = None
    outputs: tuple[int, ...] | None = None
    violates: bool = False

    @property
    def replays(self) -> bool:
        """Whether it is a witness."""
        return not self.problem


def check(spec: str, queries: Sequence[Query]) -> Check:
    """Run the witness that lies in ``spec`` against queries of one network, of which one violation suffices."""
    network = queries[0].network
    try:
        candidate = claimed_witness.read(spec, network)
    except (InputError, UsageError) as error:
        return Check(" ".join(str(error).split()))
    return _run(candidate, network, queries)


def _run(candidate: claimed_witness.Candidate, network: Network, queries: Sequence[Query]) -> Check:
    x, qtype = candidate.x, network.input.tensor.qtype
    flat = tuple(int(v) for v in x.ravel())
    beyond = (x < qtype.lo) | (x > qtype.hi)
    if beyond.any():
        i = int(beyond.ravel().argmax())
        return Check(f"value {i} is {flat[i]}, and the input is {qtype}", candidate.note, flat, int(beyond.sum()), element=i)
    y = interpreter.run(network, x[None])
    outputs = tuple(int(v) for v in y.ravel())
    query = min(queries, key=lambda q: int(_excess(q, x).max()))
    excess = _excess(query, x).ravel()
    inside = [q for q in queries if q.box.contains(x)]
    violates = any(bool(q.property.violated(x.reshape(1, -1), y.reshape(1, -1))[0]) for q in inside or [query])
    what = _does(query, outputs, violates=violates)
    problem = ""
    if not inside:
        i = int(excess.argmax())
        lo, hi = int(query.box.lo.ravel()[i]), int(query.box.hi.ravel()[i])
        by = int(excess.max())
        problem = f"outside the box: {int((excess > 0).sum())} of {x.size} values, by up to {by} step{'' if by == 1 else 's'}"
        problem += f" (value {i} is {flat[i]}, the box has {lo} to {hi}); there it {what}"
    elif not any(replay.violates(q, x[None])[0] for q in inside):
        problem = f"inside the box, but it {what}"
    worst = int(excess.argmax()) if not inside else None
    note = "; ".join(n for n in (candidate.note, _claimed_outputs(candidate, network, y)) if n)
    return Check(
        problem, note, flat, int((excess > 0).sum()) if not inside else 0, int(excess.max()) if not inside else 0, worst,
        int(y.argmax()), outputs, violates
    )  # fmt: skip


def _excess(query: Query, x: Int64Array) -> Int64Array:
    """By how many steps each value leaves the box; 0 inside."""
    return np.maximum(np.maximum(query.box.lo - x, x - query.box.hi), 0)


def _does(query: Query, outputs: tuple[int, ...], *, violates: bool) -> str:
    """What the input does, as a predicate."""
    label, found = query.property.label, int(np.argmax(outputs))
    if label is None:
        return "violates the property" if violates else f"does not violate the property: the outputs are {' '.join(map(str, outputs))}"
    if found != label:
        return f"is class {found} instead of {label}"
    rivals = [(v, i) for i, v in enumerate(outputs) if i != label]
    if not rivals:
        return f"is class {label}"
    best, rival = max(rivals, key=lambda pair: (pair[0], -pair[1]))
    if best == outputs[label]:
        return f"is class {label}: a tie with class {rival} at {best}, and the first index wins"
    return f"is class {label}: its output is {outputs[label]}, the next largest {best} (class {rival})"


def _claimed_outputs(candidate: claimed_witness.Candidate, network: Network, y: Int64Array) -> str:
    """Where the file claims other outputs than the device gives."""
    if not candidate.outputs:
        return ""
    declared: AnyArray = np.asarray(interpreter.declared_output(network, y)).ravel()
    for i, claimed in sorted(candidate.outputs.items()):
        if i >= declared.size:
            return f"the file gives Y_{i}, and there are {declared.size} outputs"
        here = Fraction(float(declared[i]))
        if abs(here - claimed) > _CLOSE * max(Fraction(1), abs(here)):
            return f"the file says Y_{i} is {float(claimed):g}; it is {float(here):g}"
    return ""
