"""Keys against arithmetic written once more, in plain Python, and answers that are wrong."""

import itertools
import math
import re
from fractions import Fraction

import pytest

from bvverify.errors import UsageError
from bvverify.exercise.neuron import RULES, Rounding, decimal
from bvverify.exercise.question import KINDS, exercise
from bvverify.pipeline import Options, decide

SEEDS = range(200)
HALF = Fraction(1, 2)


def up(value):
    return math.floor(value + HALF)


def away(value):
    return up(value) if value >= 0 else -up(-value)


def even(value):
    return up(value) if value - math.floor(value) != HALF else 2 * up(value / 2)


def rounded(rounding, acc, lo=-128, hi=127):
    """The rule's own definition, over rationals."""
    real = acc * rounding.multiplier
    right = next(r for r in range(32) if rounding.multiplier * 2**r >= HALF)
    high = up(real * 2**right)  # what the first of two roundings leaves
    value = {
        "shift-half-up": lambda: up(real),
        "q31-double": lambda: away(Fraction(high, 2**right)),
        "q31-half-up": lambda: up(Fraction(high, 2**right)),
        "q31-single": lambda: up(real),
        "float32-half-even": lambda: even(real),
        "float64-away": lambda: away(real),
        "rational-half-up": lambda: up(real),
    }[rounding.rule]()
    return min(max(value + rounding.zero_point, lo), hi)


def neuron_output(neuron, x):
    acc = neuron.bias
    for value, weight in zip(x, neuron.weights, strict=True):
        acc += (value - neuron.input_zero_point) * weight
    return rounded(neuron.rounding, acc)


def questions(kind, seeds=SEEDS):
    return [exercise(seed, kind).question for seed in seeds]


def test_every_rule_by_its_definition():
    for rule in RULES:
        for m in (Fraction(1, 4), Fraction(1, 64), Fraction(3, 8), Fraction(5, 64)):
            if rule == "shift-half-up" and m.numerator != 1:
                continue
            rounding = Rounding(rule, m, 0 if rule == "shift-half-up" else -7)
            for acc in range(-150, 150):
                assert rounding.output(acc) == rounded(rounding, acc), (rounding, acc)


def test_bytes():
    rules, ties = set(), 0
    for q in questions("byte"):
        right = neuron_output(q.neuron, q.x)
        assert q.key() == str(right)
        assert q.accepts(str(right))
        assert q.accepts(f"0x{right & 255:02x}")
        assert not any(q.accepts(str(v)) for v in (-right, right - 1, right + 1, -128, 127) if v != right and -128 <= v < 128)
        rules.add(q.neuron.rounding.rule)
        ties += (q.neuron.accumulator(q.x) * q.neuron.rounding.multiplier) % 1 == HALF
    assert rules == set(RULES)
    assert 60 < ties < 160


def test_shifts():
    rounded_ones = negative = 0
    for q in questions("shift"):
        (shown, *_), places = re.findall(r"0x[0-9a-f]{2}", "\n".join(q.text())), int(re.search(r"right by (\d)", q.text()[2])[1])
        value = int(shown, 16) - (256 if int(shown, 16) > 127 else 0)
        added = re.search(r"- (\d+) is added", q.text()[2])
        right = up(Fraction(value, 2**places)) if added else math.floor(Fraction(value, 2**places))
        assert added is None or 2 * int(added[1]) == 2**places
        assert q.key() == str(right)
        assert q.accepts(f"0x{right & 255:02x}")
        assert not any(q.accepts(str(v)) for v in (right - 1, right + 1))
        rounded_ones, negative = rounded_ones + bool(added), negative + (value < 0)
    assert 60 < rounded_ones < 140
    assert negative > 100


def test_exactly_one_of_the_rules_offered_made_it():
    asked = set()
    for q in questions("rule"):
        seen = re.findall(r"- acc = (-?\d+) became (-?\d+)", "\n".join(q.text()))
        assert len(seen) == len(q.accumulators)
        fits = [
            rule
            for rule in q.offered
            if all(rounded(Rounding(rule, q.rounding.multiplier, q.rounding.zero_point), int(acc)) == int(out) for acc, out in seen)
        ]
        assert fits == [q.key()]
        assert len(set(q.offered)) == 3
        assert [rule for rule in q.offered if q.accepts(rule)] == fits
        asked.add(q.key())
    assert asked >= {"q31-double", "q31-half-up", "float32-half-even", "float64-away", "rational-half-up"}


def test_inputs_that_saturate():
    levels = set()
    for q in questions("saturate"):
        key = tuple(int(v) for v in q.key().split(","))
        levels.add(q.level)
        assert q.accepts(q.key())
        assert max(map(abs, key)) <= q.reach
        assert neuron_output(q.neuron, key) == q.level
        assert not q.accepts(",".join(str(-v) for v in key))
        beyond = [v * 2 if abs(v) == q.reach else v for v in key]
        first = next(i for i, v in enumerate(beyond) if abs(v) > q.reach)
        with pytest.raises(UsageError, match=rf"x{first} is from -{q.reach} to {q.reach}$"):
            q.accepts(",".join(map(str, beyond)))
    assert levels == {-128, 127}


def test_saturation_is_decided_input_by_input():
    for q in questions("saturate", range(8)):
        box = range(-q.reach, q.reach + 1)
        for x in itertools.product((*box[:3], 0, *box[-3:]), repeat=3):
            assert q.accepts(",".join(map(str, x))) == (neuron_output(q.neuron, x) == q.level)


def property_outputs(q):
    def clamped(acc, lo):
        return max(rounded(q.rounding, acc), lo)

    for x in itertools.product(*(range(a, b + 1) for a, b in zip(q.lo, q.hi, strict=True))):
        hidden = [clamped(w[0] * x[0] + w[1] * x[1] + b, 0) for w, b in zip(q.hidden, q.biases, strict=True)]
        yield x, clamped(q.last[0] * hidden[0] + q.last[1] * hidden[1], -128)


def test_properties():
    true = 0
    for q in questions("property"):
        outputs = dict(property_outputs(q))
        violating = {x for x, y in outputs.items() if y > q.bound}
        true += not violating
        assert q.accepts("true") == (not violating)
        for x in [*list(outputs)[::7], *violating]:
            assert q.accepts(f"{x[0]}, {x[1]}") == (x in violating)
        assert q.accepts(q.key())
        with pytest.raises(UsageError, match=f"x0 is from {q.lo[0]} to {q.hi[0]}$"):
            q.accepts(f"{q.hi[0] + 1},{q.lo[1]}")
    assert 60 < true < 140


@pytest.mark.parametrize("seed", range(8))
def test_the_verifier_says_the_same_of_a_property(seed):
    q = exercise(seed, "property").question
    verdict = str(decide(q.query(), Options(runtimes=False)).verdict)
    assert verdict == ("verified" if q.key() == "true" else "falsified")


@pytest.mark.parametrize(
    ("kind", "answer"),
    [("byte", "many"), ("byte", "128"), ("byte", "0x1ff"), ("rule", "fbgemm"), ("rule", ""), ("saturate", "1,2"), ("saturate", "1,2,x"),
     ("saturate", "1,2,300"), ("property", "false"), ("property", "1"), ("property", "1,2,3")],
)  # fmt: skip
def test_what_is_no_answer_is_refused_in_one_line(kind, answer):
    with pytest.raises(UsageError) as error:
        exercise(0, kind).question.accepts(answer)
    assert "\n" not in str(error.value)


def test_the_same_seed_asks_the_same_and_another_seed_another():
    for kind in KINDS:
        assert exercise(5, kind) == exercise(5, kind)
        assert len({"\n".join(exercise(seed, kind).question.text()) for seed in range(50)}) >= (45 if kind == "shift" else 50)


def test_a_seed_means_the_same_on_every_machine():
    assert [exercise(7, kind).question.key() for kind in KINDS] == ["56", "q31-double", "18, 18, -18", "true", "-26"]


def test_decimals_are_exact():
    assert [decimal(Fraction(*v)) for v in ((-225, 2), (11, 8), (4, 1), (-3, 16), (0, 1))] == ["-112.5", "1.375", "4", "-0.1875", "0"]
