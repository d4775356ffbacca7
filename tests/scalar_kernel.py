"""What ``bvverify.certify`` computes, a second time: one number after another, in Python's integers and fractions, from the definitions.

Slow and plain. Ranges are lists over the flat elements of a tensor, forms are lists of fractions.
"""

import itertools
from fractions import Fraction

import numpy as np

from bvverify.model import ops
from bvverify.model.certificate import INPUT, Kind
from bvverify.model.staircase import ACC_LIMIT
from bvverify.run import interpreter
from bvverify.run.add_thresholds import thresholds_of_add


class Net:
    """A network's operations as what each unit is: a linear accumulator and a step function."""

    def __init__(self, network):
        self.network = network
        self.linear = [self._linear(i) for i in range(len(network.ops))]
        self.steps = [self._steps(i) for i in range(len(network.ops))]

    def sources(self, index):
        return ops.inputs(self.network.ops[index])

    def moved(self, index):
        """Where each element of a result comes from (operand, flat element), for an operation that only moves values."""
        op, sizes = self.network.ops[index], [self.network.tensors[t].size for t in self.sources(index)]
        starts = np.cumsum([0, *sizes])
        numbers = [
            np.arange(a, b).reshape(1, *self.network.tensors[t].shape)
            for a, b, t in zip(starts, starts[1:], self.sources(index), strict=False)
        ]
        places = interpreter.evaluate(op, numbers).ravel().tolist()
        return [next((k, p - int(starts[k])) for k in range(len(sizes)) if starts[k] <= p < starts[k + 1]) for p in places]

    def positions(self, index):
        """Of a pooling: for each output element and each position of its window the flat element of its input, None in the padding."""
        op, x = self.network.ops[index], self.network.tensors[self.sources(index)[0]]
        (rows, columns), (top, left, _, _) = op.window.output(*x.shape[1:]), op.window.padding
        found = []
        for channel, i, j in itertools.product(range(x.shape[0]), range(rows), range(columns)):
            places = []
            for k, l in itertools.product(range(op.window.kernel[0]), range(op.window.kernel[1])):
                row = i * op.window.strides[0] + k * op.window.dilations[0] - top
                column = j * op.window.strides[1] + l * op.window.dilations[1] - left
                inside = 0 <= row < x.shape[1] and 0 <= column < x.shape[2]
                places.append((channel * x.shape[1] + row) * x.shape[2] + column if inside else None)
            found.append(places)
        return found

    def _linear(self, index):
        """For each unit (coefficients {(operand, element): weight}, constant); None where units are not linear in the operands."""
        op = self.network.ops[index]
        match op:
            case ops.Dense() | ops.Conv2d():
                x = self.network.tensors[op.x]
                zero = interpreter.accumulate(op, np.zeros((1, *x.shape), np.int64)).ravel()
                each = interpreter.accumulate(op, np.eye(x.size, dtype=np.int64).reshape(-1, *x.shape)).reshape(x.size, -1) - zero
                return [({(0, j): int(w) for j, w in enumerate(column) if w}, int(z)) for column, z in zip(each.T, zero, strict=True)]
            case ops.AvgPool(rule=ops.SumThenRequantise(input_zero_point=zero)):
                assert all(p is not None for places in self.positions(index) for p in places)
                return [({(0, p): 1 for p in places}, -zero * len(places)) for places in self.positions(index)]
            case ops.Add():
                a, b = op.rule.weights
                size, same = self.network.tensors[op.a].size, op.a == op.b
                return [({(0, j): a + b} if same else {(0, j): a, (1, j): b}, 0) for j in range(size)]
            case ops.Clamp() | ops.Lookup():
                return [({(0, j): 1}, 0) for j in range(self.network.tensors[op.x].size)]
        return None

    def _steps(self, index):
        """(level below the first step, early thresholds, late thresholds), for each unit; None where there is no step function."""
        op, size = self.network.ops[index], self.network.tensors[index + 1].size
        match op:
            case ops.Dense(staircase=s) | ops.Conv2d(staircase=s) | ops.AvgPool(rule=ops.SumThenRequantise(staircase=s)):
                rows = [row.tolist() for row in s.thresholds]
                each = [(s.lo, row, row) for row in rows]
                return [each[0] if len(each) == 1 else each[unit * len(each) // size] for unit in range(size)]
            case ops.Clamp(lo=lo, hi=hi):
                steps = list(range(lo + 1, hi + 1))
                return [(lo, steps, steps)] * size
            case ops.MaxPool():
                qtype = self.network.tensors[op.x].qtype
                steps = list(range(1, qtype.hi - qtype.lo + 1))
                return [(0, steps, steps)] * (size * (op.window.kernel[0] * op.window.kernel[1] - 1))
            case ops.Add():
                found = thresholds_of_add(self.network, op)
                if found is None:
                    return None
                lo, (early,), (late,) = found
                return [(lo, early.tolist(), late.tolist())] * size
        return None


def on_a_line(thresholds, down):
    """Thresholds moved down or up onto a line about as steep as that through the first and the last of those within reach."""
    unit = Fraction(1, 16 << len(thresholds).bit_length())
    inside = [k for k, t in enumerate(thresholds) if abs(t) < ACC_LIMIT]
    first, last = inside[0], inside[-1]
    slope = Fraction(thresholds[last] - thresholds[first], last - first) // unit * unit
    off = [thresholds[k] - slope * k for k in inside]
    farthest = min(off) if down else max(off)
    return [slope * k + farthest for k in range(len(thresholds))]


def reached(thresholds, a):
    return sum(t <= a for t in thresholds)


def least_on_steps(steps, c, m, l, u):
    """The lemma at the head of ``certify.steps``, for one unit."""
    lo, early, late = steps
    first, last = reached(late, l), reached(early, u)
    ends = [(l, first)] if m <= 0 else [(u, last)]
    if last - first > 2:
        early, late = on_a_line(early, down=True), on_a_line(late, down=False)
    steps_between = {first, last - 1} if last > first else set()
    ends += [(early[k], k + 1) if m <= 0 else (late[k] - 1, k) for k in steps_between]
    return min(c * (z + lo) - m * a for a, z in ends)


def least_on_table(op, c, m, l, u):
    return min(c * int(op.table[a - op.input_lo]) - m * a for a in range(l, u + 1))


def _wrapped(op, a):
    bits = op.accumulator_bits
    return a if bits is None else (a + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def _wraps(op, l, u):
    return isinstance(op, ops.Dense | ops.Conv2d) and (l != _wrapped(op, l) or u != _wrapped(op, u))


def ranges(net, lo, hi, limits, opaque=None):
    """(ranges of each tensor, of each operation's units, opaque operations), or None where the limits leave a unit no value."""
    tensors, accumulators, hidden = [], {}, set(opaque or ())
    first = _cut(list(zip(lo, hi, strict=True)), limits.get(INPUT))
    if first is None:
        return None
    tensors.append(first)
    for index, op in enumerate(net.network.ops):
        operands = [tensors[t] for t in net.sources(index)]
        if isinstance(op, ops.Concat | ops.Reshape | ops.Transpose):
            tensors.append([operands[k][j] for k, j in net.moved(index)])
            continue
        if isinstance(op, ops.AvgPool) and net.linear[index] is None:
            ends = (_evaluate(net, index, [[r[side] for r in o] for o in operands]) for side in (0, 1))
            tensors.append(list(zip(*ends, strict=True)))
            continue
        units = _cut(
            _max_units(net, index, operands[0]) if isinstance(op, ops.MaxPool) else _units(net, index, operands), limits.get(index)
        )
        if units is None:
            return None
        accumulators[index] = units
        if opaque is None and any(_wraps(op, l, u) for l, u in units):
            hidden.add(index)
        tensors.append(_result(net, index, operands, units))
    return tensors, accumulators, hidden


def _evaluate(net, index, operands):
    shaped = [np.array(v).reshape(1, *net.network.tensors[t].shape) for v, t in zip(operands, net.sources(index), strict=True)]
    return interpreter.evaluate(net.network.ops[index], shaped).ravel().tolist()


def _cut(held, limit):
    if limit is None:
        return held
    cut = [(max(l, int(a)), min(u, int(b))) for (l, u), a, b in zip(held, *limit, strict=True)]
    return None if any(l > u for l, u in cut) else cut


def _units(net, index, operands):
    found = []
    for weights, constant in net.linear[index]:
        ends = [sorted((w * operands[k][j][0], w * operands[k][j][1])) for (k, j), w in weights.items()]
        found.append((constant + sum(e[0] for e in ends), constant + sum(e[1] for e in ends)))
    return found


def _max_units(net, index, operand):
    least = net.network.tensors[net.sources(index)[0]].qtype.lo
    windows = [[(least, least) if p is None else operand[p] for p in places] for places in net.positions(index)]
    return [
        (window[k][0] - max(u for _, u in window[:k]), window[k][1] - max(l for l, _ in window[:k]))
        for k in range(1, len(windows[0]))
        for window in windows
    ]


def _result(net, index, operands, units):
    op = net.network.ops[index]
    if isinstance(op, ops.Lookup):
        values = [[int(op.table[a - op.input_lo]) for a in range(l, u + 1)] for l, u in units]
        return [(min(v), max(v)) for v in values]
    if isinstance(op, ops.MaxPool | ops.Add):
        plain = list(zip(*(_evaluate(net, index, [[r[side] for r in o] for o in operands]) for side in (0, 1)), strict=True))
        if isinstance(op, ops.MaxPool) or net.steps[index] is None:
            return plain
        cut = [(s[0] + reached(s[2], l), s[0] + reached(s[1], u)) for s, (l, u) in zip(net.steps[index], units, strict=True)]
        return [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(plain, cut, strict=True)]
    found = []
    for (lo, early, late), (l, u) in zip(net.steps[index], units, strict=True):
        if _wraps(op, l, u):
            at = lo + reached(early, _wrapped(op, l))
            found.append((at, at) if l == u else (lo, lo + len(early)))
        else:
            found.append((lo + reached(late, l), lo + reached(early, u)))
    return found


def lower(net, held, forms, multipliers):
    """Weak duality from the last operation to the first: ``forms`` {tensor: coefficients}, ``multipliers`` {operation: one a unit}."""
    tensors, accumulators, hidden = held
    forms = {t: list(map(Fraction, c)) for t, c in forms.items()}
    bound = Fraction(0)

    def give(tensor, element, weight):
        forms.setdefault(tensor, [Fraction(0)] * net.network.tensors[tensor].size)[element] += weight

    for index in reversed(range(len(net.network.ops))):
        op, c = net.network.ops[index], forms.pop(index + 1, None)
        if c is None:
            continue
        sources, units = net.sources(index), accumulators.get(index)
        if isinstance(op, ops.Concat | ops.Reshape | ops.Transpose):
            for weight, (k, j) in zip(c, net.moved(index), strict=True):
                give(sources[k], j, weight)
        elif isinstance(op, ops.MaxPool):
            places = net.positions(index)
            m = multipliers.get(index, [Fraction(0)] * len(units))
            least = net.network.tensors[sources[0]].qtype.lo
            for e, window in enumerate(places):
                weight = c[e]
                for k in range(len(window) - 1, -1, -1):
                    taken = weight
                    if k:
                        unit = (k - 1) * len(places) + e
                        bound += least_on_steps(net.steps[index][unit], weight, m[unit], *units[unit])
                        taken, weight = m[unit], weight - m[unit]
                    if window[k] is None:
                        bound += taken * least
                    else:
                        give(sources[0], window[k], taken)
        elif index in hidden or units is None or (net.steps[index] is None and not isinstance(op, ops.Lookup)):
            bound += sum(min(w * l, w * u) for w, (l, u) in zip(c, tensors[index + 1], strict=True))
        else:
            m = multipliers.get(index, [Fraction(0)] * len(units))
            for unit, (l, u) in enumerate(units):
                table = isinstance(op, ops.Lookup)
                bound += (
                    least_on_table(op, c[unit], m[unit], l, u) if table else least_on_steps(net.steps[index][unit], c[unit], m[unit], l, u)
                )
            # Without multipliers nothing is asked of what is below, and its multipliers count for nothing.
            for unit, (weights, constant) in enumerate(net.linear[index] if any(m) else ()):
                bound += m[unit] * constant
                for (k, j), w in weights.items():
                    give(sources[k], j, m[unit] * w)
    return bound + sum(min(w * l, w * u) for w, (l, u) in zip(forms.pop(0, []), tensors[0], strict=False))


def failing(net, query, forest, opaque):
    """The leaves of a forest that do not hold: [(node, Fraction bound or None for intervals)], in the forest's order."""
    found, rows = [], 0
    box = query.box.lo.ravel().tolist(), query.box.hi.ravel().tolist()
    nodes = iter(list(enumerate(forest.kind.tolist())))
    splits = iter(zip(forest.split_op.tolist(), forest.split_unit.tolist(), forest.split_value.tolist(), strict=True))

    def held(limits):
        given = {}
        for op, unit, lo, hi in limits:
            size = query.network.input.tensor.size if op == INPUT else len(net.linear[op] or net.steps[op])
            low, high = given.setdefault(op, ([-ACC_LIMIT * 4] * size, [ACC_LIMIT * 4] * size))
            low[unit], high[unit] = max(low[unit], lo), min(high[unit], hi)
        return ranges(net, *box, given, opaque)

    def tree(limits, conjunction):
        nonlocal rows
        node, kind = next(nodes)
        if kind == Kind.SPLIT:
            op, unit, value = next(splits)
            tree([*limits, (op, unit, -ACC_LIMIT * 4, value)], conjunction)
            tree([*limits, (op, unit, value + 1, ACC_LIMIT * 4)], conjunction)
            return
        row, rows = rows, rows + (kind == Kind.BOUND)
        part = held(limits) if kind != Kind.SOLVER else None
        if part is None:
            return
        y, x = part[0][query.network.output.tensor], part[0][0]
        if kind == Kind.INTERVAL:
            least = [_least(r.outputs, y) + (0 if r.inputs is None else _least(r.inputs, x)) for r in conjunction]
            if not any(value > r.bound for value, r in zip(least, conjunction, strict=True)):
                found.append((node, None))
            return
        weights = forest.weight[row].tolist()
        forms = {query.network.output.tensor: [0] * len(y), 0: [0] * len(x)}
        bound = 0
        for w, r in zip(weights, conjunction, strict=False):
            bound -= w * r.bound
            forms[query.network.output.tensor] = [
                a + w * int(b) for a, b in zip(forms[query.network.output.tensor], r.outputs, strict=True)
            ]
            if r.inputs is not None:
                forms[0] = [a + w * int(b) for a, b in zip(forms[0], r.inputs, strict=True)]
        given = forest.multipliers
        m = {op: [Fraction(int(v)) / Fraction(2) ** given.exponents[op] for v in values[row]] for op, values in given.values.items()}
        proved = bound + lower(net, part, forms, m)
        if proved <= 0:
            found.append((node, proved))

    for conjunction in query.property.violation:
        tree([], conjunction)
    return found


def _least(coefficients, held):
    return sum(min(int(w) * l, int(w) * u) for w, (l, u) in zip(coefficients, held, strict=True))
