"""The define-funs of encodings/ as functions that z3 evaluates on constants, or as terms to prove things about."""

import csv
import re

import numpy as np
import z3

from bvverify.encode import definitions


class Definition:
    """One define-fun of a script; ``terms`` are its arguments as constants of their sorts, ``term`` is its value."""

    def __init__(self, script, name):
        signature = re.search(rf"\(define-fun {re.escape(name)}\s+\(((?:\(.*?\)\s*)*)\) (\w+)", script, re.DOTALL)
        self.sorts = dict(re.findall(r"\((\S+) (\w+)\)", signature[1]))
        consts = "".join(f"(declare-const {p} {s})\n" for p, s in self.sorts.items())
        result = f"(declare-const result {signature[2]})\n(assert (= result ({name} {' '.join(self.sorts)})))"
        parsed = z3.parse_smt2_string(f"{script}\n{consts}{result}")
        self.term = parsed[-1].arg(1)
        free = {str(t): t for t in _constants(parsed[-1])}
        self.terms = {p: free[p] for p in self.sorts if p in free}

    def substituted(self, **values):
        """The value with some arguments given: ints, or floats for floating-point sorts."""
        pairs = [(term, constant(term.sort(), values[p])) for p, term in self.terms.items() if p in values]
        return z3.substitute(self.term, *pairs)

    def __call__(self, *values):
        value = z3.simplify(self.substituted(**dict(zip(self.sorts, values, strict=True))))
        return z3.is_true(value) if z3.is_bool(value) else value.as_signed_long()


def constant(sort, value):
    match sort:
        case z3.BitVecSortRef():
            return z3.BitVecVal(value, sort.size())
        case z3.FPSortRef():
            single = sort.sbits() == 24
            bits = np.array(value, np.float32 if single else np.float64).view(np.uint32 if single else np.uint64)
            return z3.simplify(z3.fpBVToFP(z3.BitVecVal(int(bits), 32 if single else 64), sort))
    raise AssertionError(sort)


def requantisation(name, function=None, edit=lambda text: text, acc_bits=32):
    text = edit(definitions.prelude([definitions.requantisation(name)]))
    return Definition(definitions.at_width(text, acc_bits) if acc_bits != 32 else text, f"requantise-{function or name}")


def layer(name, function):
    return Definition(definitions.prelude([definitions.layer(name)]), function)


def vectors(name):
    """The rows of a requantisation's file as dicts, integers and floats parsed; and its comment lines."""
    lines = definitions.read(f"requantisations/{name}/vectors.csv").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    rows = [{k: parsed(v) for k, v in row.items()} for row in csv.DictReader(lines[len(comments) :])]
    return rows, comments


def arguments(name, row):
    """The function that a row is about, and its arguments in order (the columns stand in that order)."""
    if name != "fbgemm":
        return name, tuple(row.values())[:-1]
    tail = (row["multiplier"], row["zero_point"], row["lo"], row["hi"])
    if row["weights"] == "per-channel":
        return "fbgemm-per-channel", (row["acc"], row["offset"], *tail)
    return "fbgemm-per-tensor", (row["acc"], row["bias"], row["offset"], *tail)


def parsed(text):
    if "0x" in text:
        return float.fromhex(text)
    return int(text) if text.lstrip("-").isdigit() else text


def _constants(term):
    seen, todo = set(), [term]
    while todo:
        t = todo.pop()
        if t.get_id() in seen:
            continue
        seen.add(t.get_id())
        if z3.is_const(t) and t.decl().kind() == z3.Z3_OP_UNINTERPRETED:
            yield t
        todo += t.children()
