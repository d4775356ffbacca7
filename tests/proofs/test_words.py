"""Every construction on words, exhaustively at small widths: each value of its arguments gives the one true result."""

import itertools

import numpy as np
import pytest
from pysat.solvers import Solver

from bvverify.proofs import words as w
from bvverify.proofs.gates import Gates
from bvverify.proofs.words import Word

RANGES = [(-3, 4), (0, 5), (2, 2), (-6, -2)]


def values(gates, arguments, outs):
    """For all values of the arguments: (values, results); none are lost and every result is forced."""
    spans = [range(x.lo, x.hi + 1) for x in arguments]
    with Solver("g4", bootstrap_with=gates.lists()) as solver:
        for given in itertools.product(*spans):
            pins = []
            for x, value in zip(arguments, given, strict=True):
                pins += [bit if (value - x.base) >> i & 1 else -bit for i, bit in enumerate(x.bits)]
            assert solver.solve(assumptions=pins), given
            true = {v for v in solver.get_model() if v > 0}
            got = []
            for out in outs:
                bits = out.bits if isinstance(out, Word) else (out,)
                truth = [(abs(b) in true) == (b > 0) for b in bits]
                for bit, value in zip(bits, truth, strict=True):
                    assert not solver.solve(assumptions=[*pins, -bit if value else bit])
                got.append(out.value(true) if isinstance(out, Word) else truth[0])
                if isinstance(out, Word):
                    assert out.lo <= got[-1] <= out.hi
                    assert bool(out.bits) != out.constant
            yield given, tuple(got)


def exactly(arguments, gates, **outs):
    """Names and results against functions of the values."""
    made = {name: out for name, (out, _) in outs.items()}
    count = 0
    for given, got in values(gates, arguments, list(made.values())):
        for (name, (_, meaning)), result in zip(outs.items(), got, strict=True):
            assert result == meaning(*given), (name, given)
        count += 1
    assert count == np.prod([x.hi - x.lo + 1 for x in arguments])


def test_a_free_word_takes_the_values_of_its_range_and_no_other():
    for lo, hi in RANGES:
        gates = Gates()
        x = w.free(gates, lo, hi)
        exactly([x], gates, x=(x, lambda v: v))
        for outside in (lo - 1, hi + 1):
            if 0 <= outside - x.base < 1 << len(x.bits):
                with Solver("g4", bootstrap_with=gates.lists()) as solver:
                    assert not solver.solve(assumptions=[b if (outside - x.base) >> i & 1 else -b for i, b in enumerate(x.bits)])


@pytest.mark.parametrize("a", RANGES)
@pytest.mark.parametrize("b", RANGES)
def test_two_words(a, b):
    gates = Gates()
    x, y = w.free(gates, *a), w.free(gates, *b)
    sums = {
        f"{p} x + {q} y + {r}": (w.total(gates, [(p, x), (q, y)], r), lambda u, v, p=p, q=q, r=r: p * u + q * v + r)
        for p, q, r in itertools.product((-7, -1, 0, 3), (-2, 1, 5), (-4, 9))
    }
    wrapped = Word(-4, w.modulo(gates, [(3, x), (-1, y)], 4, 3), -4, 3)
    exactly(
        [x, y],
        gates,
        **sums,
        largest=(w.maximum(gates, [x, y]), max),
        chosen=(w.choose(gates, w.at_least(gates, x, 1), x, y), lambda u, v: u if u >= 1 else v),
        wrapped=(wrapped, lambda u, v: (3 * u - v + 4) % 8 - 4),
        same=(w.total(gates, [(2, x), (-1, x)], 0), lambda u, _: u),
        above=(w.total(gates, [(1, x)], 0, x.lo - 5), lambda u, _: u),
    )


@pytest.mark.parametrize("span", RANGES)
def test_one_word(span):
    gates = Gates()
    x = w.free(gates, *span)
    ends = range(-8, 8)
    outs = {f">= {t}": (w.at_least(gates, x, t), lambda v, t=t: v >= t) for t in ends}
    outs |= {
        f"{lo}..{hi}": (w.clamp(gates, x, lo, hi), lambda v, lo=lo, hi=hi: min(max(v, lo), hi)) for lo in ends for hi in ends if lo <= hi
    }
    exactly([x], gates, **outs)


@pytest.mark.parametrize("span", [*RANGES, (-20, 19)])
def test_step_functions(span):
    """Evenly spaced by powers of two (bits that stand there already) and not, with levels that are skipped or out of reach."""
    gates, rng = Gates(), np.random.default_rng(1)
    x = w.free(gates, *span)
    lists = [
        list(range(start, start + stride * count, stride)) for start in (-9, -2, 0, 3) for stride in (1, 2, 3, 4, 8) for count in (1, 4)
    ]
    lists += [sorted(rng.integers(-10, 10, n).tolist()) for n in range(8) for _ in range(3)]
    outs = {str(t): (w.steps(gates, x, -3, t), lambda v, t=t: -3 + sum(k <= v for k in t)) for t in lists}
    borders = [-4, -1, 0, 3]
    for k in range(6):
        table = rng.integers(-6, 7, 5).tolist()
        outs[f"table {k}"] = (w.piecewise(gates, x, borders, table), lambda v, table=table: table[sum(b <= v for b in borders)])
    exactly([x], gates, **outs)


def test_a_restriction_loses_nothing_inside_and_all_outside():
    for lo, hi in [(-1, 2), (0, 0), (-9, 9), (5, 9), (3, -3)]:
        gates = Gates()
        x = w.free(gates, -3, 4)
        y = w.restrict(gates, x, lo, hi)
        with Solver("g4", bootstrap_with=gates.lists()) as solver:
            for value in range(-3, 5):
                pins = [b if (value + 3) >> i & 1 else -b for i, b in enumerate(x.bits)]
                assert solver.solve(assumptions=pins) == (lo <= value <= hi)
                if lo <= value <= hi:
                    assert y.value({v for v in solver.get_model() if v > 0}) == value
