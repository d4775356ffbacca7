"""Each definition says what its vectors say, and so does ``apply``; and each mutant of a definition is told apart by them."""

import definitions_in_z3 as defs
import numpy as np
import pytest

from bvverify.encode import definitions
from bvverify.model import requant as rq

NAMES = ("shift-half-up", "q31-double", "q31-half-up", "q31-single", "float32-half-even", "fbgemm", "qnnpack", "float64-away",
         "rational-half-up")  # fmt: skip

SIGNS = [
    ("sign_extend 32", "zero_extend 32"),
    ("(bvslt x (widen lo))", "(bvult x (widen lo))"),
    ("(bvsgt x (widen hi))", "(bvsge x (widen lo))"),
]
HALF = [
    ("(bvlshr (bvshl one s) one)", "(bvsub (bvlshr (bvshl one s) one) one)"),
    ("(bvlshr (bvshl one s) one)", "(bvadd (bvlshr (bvshl one s) one) one)"),
    ("(bvadd x (bvlshr (bvshl one s) one))", "x"),
    ("(bvashr (bvadd x", "(bvlshr (bvadd x"),
]
LEFT_RIGHT = [("(bvsgt (widen shift) zero) (widen shift) zero", "(bvsgt (widen shift) zero) zero zero"), ("(_ bv31 64)", "(_ bv30 64)")]
NEAREST = [("((_ fp.to_sbv 32) RNE x)", f"((_ fp.to_sbv 32) {mode} x)") for mode in ("RNA", "RTP", "RTN", "RTZ")]
PRODUCT = [(f"(fp.mul RNE {rest}", f"(fp.mul {mode} {rest}") for mode in ("RTP", "RTN") for rest in ("(to-float32 acc) multiplier",)]
ZERO_POINT = [("(widen zero-point)) lo hi)", "zero) lo hi)")]
MUTANTS = {
    "shift-half-up": [*HALF, *SIGNS, ("(shift-half-up (widen acc)", "(shift-half-away (widen acc)")],
    "q31-double": [
        *HALF, *SIGNS, *LEFT_RIGHT, *ZERO_POINT,
        ("(shift-half-away (high-half", "(shift-half-up (high-half"),
        ("(ite (bvslt x zero) (bvneg", "(ite (bvsgt x zero) (bvneg"),
        ("(shift-half-up (bvmul", "(shift-half-away (bvmul"),
    ],
    "q31-half-up": [
        *HALF, *SIGNS, *LEFT_RIGHT, *ZERO_POINT,
        ("(shift-half-up (high-half", "(shift-half-away (high-half"),
        ("(shift-half-up (high-half", "(bvashr (high-half"),
    ],
    "q31-single": [
        *SIGNS, *ZERO_POINT,
        ("(total-shift shift)) one) one)", "(total-shift shift)) zero) one)"),
        ("(total-shift shift)) one) one)", "(total-shift shift)) (_ bv2 64)) one)"),
        ("(bvashr (bvmul", "(bvlshr (bvmul"),
        ("(bvsub (bvsub q-bits (widen shift)) one)", "(bvsub (bvadd q-bits (widen shift)) one)"),
        ("(bvadd (bvashr (bvadd (bvashr (bvmul (widen acc) (widen mantissa)) (total-shift shift)) one) one)",
         "(bvadd (shift-half-away (bvmul (widen acc) (widen mantissa)) (bvadd (total-shift shift) one))"),
    ],
    "float32-half-even": [*NEAREST, *PRODUCT, ("    zero-point))", "    (bvneg zero-point)))"), ("(fp.lt x lo) lo", "(fp.lt x hi) lo")],
    "fbgemm": [
        *NEAREST, *ZERO_POINT,
        ("(fp.add RNE (to-float32 acc) offset)", "(to-float32 acc)"),
        ("(fp.add RNE (to-float32 acc) offset)", "(fp.add RTP (to-float32 acc) offset)"),
        ("(fp.fma RNE bias inverse (to-float32 acc))", "(fp.add RNE (fp.mul RNE bias inverse) (to-float32 acc))"),
        ("(fp.fma RNE bias", "(fp.fma RTN bias"),
        ("(_ bv32767 32)", "(_ bv127 32)"),
    ],
    "qnnpack": [*NEAREST, *PRODUCT, *ZERO_POINT, ("(_ bv32767 32)", "(_ bv127 32)")],
    "float64-away": [
        *((("((_ fp.to_sbv 32) RNA x)"), f"((_ fp.to_sbv 32) {mode} x)") for mode in ("RNE", "RTP", "RTN", "RTZ")),
        *ZERO_POINT,
        ("(fp.mul RNE (to-float64 acc) multiplier)",
         "((_ to_fp 11 53) RNE (fp.mul RNE (to-float32 acc) ((_ to_fp 8 24) RNE multiplier)))"),
    ],
    "rational-half-up": [
        ("exact-one exact-zero)))", "exact-zero exact-zero)))"),
        ("(bvadd (twice (bvmul (exact acc) numerator)) denominator)", "(twice (bvmul (exact acc) numerator))"),
        (" numerator)) denominator)", " numerator)) (bvsub denominator exact-one))"),
        ("(bvsdiv x by)", "(bvudiv x by)"),
        ("(exact zero-point))", "exact-zero)"),
    ],
}  # fmt: skip


def built(name, row):
    """The requantisation that a row is about, as the model has it."""
    zero = row.get("zero_point", 0)
    match name:
        case "shift-half-up":
            return rq.ShiftHalfUp(row["shift"])
        case "q31-double" | "q31-half-up" | "q31-single":
            family = {"q31-double": rq.Q31Double, "q31-half-up": rq.Q31HalfUp, "q31-single": rq.Q31Single}[name]
            return family(np.array([row["mantissa"]]), np.array([row["shift"]]), zero)
        case "float32-half-even" | "qnnpack":
            family = rq.Qnnpack if name == "qnnpack" else rq.Float32HalfEven
            return family(np.array([row["multiplier"]], np.float32), zero)
        case "fbgemm":
            multiplier, bias, scale = (np.array([row[k]], np.float32) for k in ("multiplier", "bias", "scale"))
            return rq.Fbgemm(multiplier, bias, scale, row["weights"] == "per-channel", zero)
        case "float64-away":
            return rq.Float64Away(np.array([row["multiplier"]]), zero)
        case "rational-half-up":
            return rq.RationalHalfUp((rq.Fraction(row["numerator"], row["denominator"]),), zero)
    raise AssertionError(name)


def mismatches(name, rows, edit=lambda text: text):
    """The rows, in turn, on which the (edited) definition differs."""
    functions = {}
    for row in rows:
        function, values = defs.arguments(name, row)
        if function not in functions:
            functions[function] = defs.requantisation(name, function, edit)
        if functions[function](*values) != row["out"]:
            yield row


@pytest.mark.parametrize("name", NAMES)
def test_the_definition_equals_its_vectors(name):
    rows, _ = defs.vectors(name)
    assert len(rows) >= 150
    assert list(mismatches(name, rows)) == []


@pytest.mark.parametrize("name", NAMES)
def test_apply_equals_the_vectors(name):
    rows, _ = defs.vectors(name)
    for row in rows:
        requant = built(name, row)
        assert rq.apply(requant, np.array([[row["acc"]]]), row["lo"], row["hi"]) == [[row["out"]]], row
        if name == "fbgemm":
            assert requant.offset == np.float32(row["offset"]), row


@pytest.mark.parametrize("name", NAMES)
def test_vectors_say_where_they_come_from(name):
    _, comments = defs.vectors(name)
    source = {"float32-half-even": "onnxruntime ", "fbgemm": "torch ", "qnnpack": "torch "}.get(name, "formula")
    source = "ai-edge-litert " if name in ("q31-double", "q31-half-up", "float64-away") else source
    assert f"{name}: outputs from {source}" in comments[0]
    assert "written 20" in comments[1]


@pytest.mark.parametrize(("name", "old", "new"), [(name, *mutant) for name in NAMES for mutant in MUTANTS[name]])
def test_every_mutant_is_caught(name, old, new):
    def edit(text):
        assert old in text, "the mutation does not apply"
        return text.replace(old, new)

    rows, _ = defs.vectors(name)
    assert next(mismatches(name, rows, edit), None) is not None


def test_every_requantisation_has_a_folder_with_all_three_files():
    folders = {p.name for p in definitions.root().joinpath("requantisations").iterdir()}
    assert folders == set(NAMES)
    for name in NAMES:
        assert all(definitions.read(f"requantisations/{name}/{file}") for file in ("definition.smt2", "README.md", "vectors.csv"))


def test_no_module_lives_among_the_definitions():
    assert not list(definitions.root().glob("**/*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_the_example_worked_by_hand(name):
    lines = [line.strip() for line in definitions.read(f"requantisations/{name}/README.md").splitlines()]
    examples = [line.removeprefix("example: ") for line in lines if line.startswith("example: ")]
    assert examples
    for example in examples:
        row = {k: defs.parsed(v) for k, v in (pair.split("=") for pair in example.split())}
        assert list(row) == list(defs.vectors(name)[0][0])
        assert list(mismatches(name, [row])) == []
