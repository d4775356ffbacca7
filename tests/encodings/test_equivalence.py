"""The comparator tree that the solver gets (bvverify.encode.staircase) is the definition, for every int32 accumulator within reach.

The tree is built from thresholds that bisection over ``apply`` found, so that each proof is about ``apply`` as well.
"""

from fractions import Fraction

import bitwuzla
import definitions_in_z3 as defs
import numpy as np
import pytest
import z3

from bvverify.encode.staircase import requantise
from bvverify.encode.values import Value
from bvverify.model import requant as rq
from bvverify.model.staircase import Staircase


def q31(family, name, real, zero):
    mantissa, shift = rq.q31(real)
    return name, family(np.array([mantissa]), np.array([shift]), zero), {"mantissa": mantissa, "shift": shift, "zero-point": zero}


def single(family, name, real, zero):
    multiplier = np.float32(real)
    return name, family(np.array([multiplier]), zero), {"multiplier": multiplier, "zero-point": zero}


def fbgemm(real, bias, scale, per_channel, zero):
    made = rq.Fbgemm(np.array([real], np.float32), np.array([bias], np.float32), np.array([scale], np.float32), per_channel, zero)
    names = ["offset"] if per_channel else ["inverse"]
    values = {names[0]: made.offset[0], "bias": made.bias[0], "multiplier": made.multiplier[0], "zero-point": zero}
    return "fbgemm-per-channel" if per_channel else "fbgemm-per-tensor", made, values


CASES = [
    *[("shift-half-up", rq.ShiftHalfUp(s), {"shift": s}) for s in (0, 1, 7, 23)],
    *[q31(f, n, m, z)
      for f, n in ((rq.Q31Double, "q31-double"), (rq.Q31HalfUp, "q31-half-up"), (rq.Q31Single, "q31-single"))
      for m, z in ((2.0**-3, -3), (0.0371, 127), (1.7, -128), (2.0**-17, 0))],
    *[single(f, n, m, z)
      for f, n in ((rq.Float32HalfEven, "float32-half-even"), (rq.Qnnpack, "qnnpack"))
      for m, z in ((2.0**-3, -3), (0.0371, 77))],
    fbgemm(2.0**-3, 0.25, 2.0**-6, True, -3),
    fbgemm(2.0**-3, 0.25, 2.0**-6, False, -3),
    *[("float64-away", rq.Float64Away(np.array([m]), z), {"multiplier": m, "zero-point": z}) for m, z in ((2.0**-3, -3), (0.0371, 77))],
    *[("rational-half-up", rq.RationalHalfUp((m,), -2), {"numerator": m.numerator, "denominator": m.denominator, "zero-point": -2})
      for m in (Fraction(1, 8), Fraction(1, 3))],
]  # fmt: skip


def difference(name, requant, values, lo=-128, hi=127, bits=32, edit=lambda text: text):
    """A solver script: an accumulator of ``bits`` bits within reach on which definition and comparator tree differ."""
    definition = defs.requantisation(name.removesuffix("-per-channel").removesuffix("-per-tensor"), name, edit)
    reach = rq.reach(requant)
    end = (1 << (bits - 1)) - 1 if reach is None else min((1 << (bits - 1)) - 1, int(reach[0]))
    acc = z3.BitVec("accumulator", bits)
    tree = requantise(Staircase(requant, lo, hi), 0, Value(acc, -end, end))
    wide = acc if bits == 32 else z3.SignExt(32 - bits, acc)
    value = z3.substitute(definition.substituted(**values, lo=lo, hi=hi), (definition.terms["acc"], wide))
    solver = z3.SolverFor("QF_BVFP")
    solver.add(acc >= -end, acc <= end, value != z3.SignExt(32 - tree.term.size(), tree.term))
    return solver.to_smt2()


def decide(script):
    parser = bitwuzla.Parser(bitwuzla.TermManager(), bitwuzla.Options())
    parser.parse(script, parse_only=True, parse_file=False)
    return str(parser.bitwuzla().check_sat())


@pytest.mark.parametrize(("name", "requant", "values"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_the_comparator_tree_is_the_definition(name, requant, values):
    # Division is the one operation that is out of reach at 32 bits.
    assert decide(difference(name, requant, values, bits=16 if name == "rational-half-up" else 32)) == "unsat"


@pytest.mark.parametrize(
    ("index", "old", "new"),
    [
        (1, "(bvadd x (bvlshr (bvshl one s) one))", "x"),
        (16, "fp.to_sbv 32) RNE", "fp.to_sbv 32) RNA"),
        (-2, "(bvadd (twice (bvmul (exact acc) numerator)) denominator)", "(twice (bvmul (exact acc) numerator))"),
    ],
)
def test_a_wrong_definition_has_a_counterexample(index, old, new):
    name, requant, values = CASES[index]

    def edit(text):
        assert old in text
        return text.replace(old, new)

    assert decide(difference(name, requant, values, bits=16, edit=edit)) == "sat"


def reference(name, acc, mantissa, shift, q):
    """The three fixed-point rules with ``q`` fraction bits, over exact rationals; no clamp, no zero point."""
    if name == "q31-single":
        return (Fraction(acc * mantissa) / Fraction(2) ** (q - shift) + Fraction(1, 2)).__floor__()
    high = (Fraction(acc * mantissa * 2 ** max(shift, 0), 2**q) + Fraction(1, 2)).__floor__()
    exact = Fraction(high, 2 ** max(-shift, 0))
    if name == "q31-double" and exact < 0:
        return -(-exact + Fraction(1, 2)).__floor__()
    return (exact + Fraction(1, 2)).__floor__()


@pytest.mark.parametrize("name", ["q31-double", "q31-half-up", "q31-single"])
def test_every_accumulator_of_five_bits(name):
    """Five bits for 32, ten for 64, four fraction bits for 31; everything that does not overflow."""
    definition, tried = defs.requantisation(name, acc_bits=5), 0
    for mantissa in (8, 11, 15):
        for shift in (2, 1, 0, -1, -3):
            for acc in range(-16, 16):
                if not -16 <= acc * 2 ** max(shift, 0) < 16:
                    continue
                expected = min(max(reference(name, acc, mantissa, shift, 4) + 1, -7), 6)
                assert definition(acc, mantissa, shift, 1, -7, 6) == expected, (acc, mantissa, shift)
                tried += 1
    assert tried == 3 * (32 * 3 + 16 + 8)


def test_shifts_and_quotients_at_eight_bits():
    shift, rational = defs.requantisation("shift-half-up", acc_bits=8), defs.requantisation("rational-half-up", acc_bits=8)
    for acc in range(-128, 128):
        for s in (0, 1, 2, 5):
            expected = min(max((Fraction(acc, 2**s) + Fraction(1, 2)).__floor__(), -20), 19)
            assert shift(acc, s, -20, 19) == expected
            assert rational(acc, 1, 2**s, 0, -20, 19) == expected
        assert rational(acc, 3, 7, 2, -100, 100) == (acc * Fraction(3, 7) + Fraction(1, 2)).__floor__() + 2
