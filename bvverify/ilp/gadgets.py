"""What every reading writes the same way: sums, saturation, maximum, tables. Their constants are the columns' own ranges, never larger."""

from __future__ import annotations

from collections.abc import Sequence

from bvverify.ilp.model import Exact, Follows, Model, Neuron, Number, Role, Value, Values


def equals(x: Value, k: int) -> Follows:
    """For a binary that is one where ``x`` is ``k``."""
    return lambda values: int(values[x.column] == k)


def reaches(x: Value, k: int) -> Follows:
    """For a binary that is one where ``x`` is ``k`` or more."""
    return lambda values: int(values[x.column] >= k)


def total(model: Model, neuron: Neuron, terms: Sequence[tuple[Value, int]], constant: int, lo: int, hi: int) -> Value:
    """``a_<layer>_<index> = sum of terms + constant``: an accumulator. It is an integer because its terms are."""
    pairs = [(v.column, c) for v, c in terms if c]

    def follows(values: Values) -> Exact:
        return sum((c * values[column] for column, c in pairs), start=constant)

    acc = model.column(neuron, "a", lo, hi, follows, integer=False)
    model.row(f"sum_{neuron.label}", [(acc, -1), *terms], "=", -constant, Role.SUM, neuron)
    return acc


def saturated(t: Value, lo: int, hi: int) -> tuple[int, int]:
    """The range of ``min(max(t, lo), hi)``."""
    return min(max(t.lo, lo), hi), min(max(t.hi, lo), hi)


def clip(model: Model, neuron: Neuron, t: Value, lo: int, hi: int, y: Value) -> None:
    """``y = min(max(t, lo), hi)`` with a binary for each end that ``t`` can pass."""
    u = t
    if t.lo < lo:
        above = max(t.hi, lo)
        u = y if t.hi <= hi else model.column(neuron, "u", lo, above, lambda v: max(v[t.column], lo))
        b = model.column(neuron, "b", 0, 1, reaches(t, lo))
        model.row(f"low1_{neuron.label}", [(u, 1), (t, -1)], ">=", 0, Role.CLIP, neuron)
        model.row(f"low2_{neuron.label}", [(u, 1), (t, -1), (b, lo - t.lo)], "<=", lo - t.lo, Role.CLIP, neuron)
        model.row(f"low3_{neuron.label}", [(u, 1), (b, lo - above)], "<=", lo, Role.CLIP, neuron)
    if u.hi > hi:
        below = min(u.lo, hi)
        c = model.column(neuron, "c", 0, 1, lambda v: int(v[u.column] <= hi))
        model.row(f"high1_{neuron.label}", [(y, 1), (u, -1)], "<=", 0, Role.CLIP, neuron)
        model.row(f"high2_{neuron.label}", [(y, 1), (u, -1), (c, hi - u.hi)], ">=", hi - u.hi, Role.CLIP, neuron)
        model.row(f"high3_{neuron.label}", [(y, 1), (c, hi - below)], ">=", hi, Role.CLIP, neuron)


def maximum(model: Model, neuron: Neuron, xs: Sequence[Value]) -> Value:
    """``y`` is the largest of ``xs``: at least each, and at most the one that a binary picks."""
    y = model.element(neuron, max(x.lo for x in xs), max(x.hi for x in xs))
    rivals = [x for x in xs if x.hi >= y.lo]
    columns = [x.column for x in rivals]
    picks: list[tuple[Value, Number]] = []
    for j, x in enumerate(rivals):

        def follows(values: Values, j: int = j) -> Exact:
            row = [values[column] for column in columns]
            return int(row.index(max(row)) == j)

        pick = model.column(neuron, "m", 0, 1, follows, suffix=f"_{j}")
        model.row(f"most1_{neuron.label}_{j}", [(y, 1), (x, -1)], ">=", 0, Role.CHOICE, neuron)
        model.row(f"most2_{neuron.label}_{j}", [(y, 1), (x, -1), (pick, y.hi - x.lo)], "<=", y.hi - x.lo, Role.CHOICE, neuron)
        picks.append((pick, 1))
    model.row(f"pick_{neuron.label}", picks, "=", 1, Role.CHOICE, neuron)
    return y


def lookup(model: Model, neuron: Neuron, x: Value, entries: Sequence[int]) -> Value:
    """``y = entries[x - x.lo]``, with a binary for each value of ``x``."""
    y = model.element(neuron, min(entries), max(entries))
    picks = [model.column(neuron, "s", 0, 1, equals(x, k), suffix=f"_{k - x.lo}") for k in range(x.lo, x.hi + 1)]
    model.row(f"pick_{neuron.label}", [(p, 1) for p in picks], "=", 1, Role.CHOICE, neuron)
    model.row(f"from_{neuron.label}", [*((p, x.lo + k) for k, p in enumerate(picks)), (x, -1)], "=", 0, Role.CHOICE, neuron)
    model.row(f"to_{neuron.label}", [*((p, e) for p, e in zip(picks, entries, strict=True)), (y, -1)], "=", 0, Role.CHOICE, neuron)
    return y
