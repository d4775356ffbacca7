"""What verifiers claim: our CSV, and the files in which tools and papers leave their answers.

Our CSV has the columns of ``batch`` and ``claim``, optionally ``claimed_witness``, ``claimed_seconds`` and ``source``. VNN-COMP's
``results.csv`` (``bvverify.load.vnncomp``) and the published tables of AAAI-21 and QVIP (``bvverify.load.published``) are
recognised by their first line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bvverify.errors import BvverifyError, InputError
from bvverify.load.instances import Instance, instances_below, read_table

HEADER = "model,input,label,radius,claim (or model,property,claim), and optionally timeout,semantics,claimed_witness,claimed_seconds,source"
COLUMNS = ("claim", "claimed_witness", "claimed_seconds", "source")
"""The columns that a claim adds to those of an instance."""


class Claimed(StrEnum):
    """What a claim says of the property; NOTHING: the tool ran out of something, or was not asked."""

    VERIFIED = "verified"
    FALSIFIED = "falsified"
    NOTHING = "nothing"


WORDS = {
    **dict.fromkeys(("verified", "robust", "unsat", "holds"), Claimed.VERIFIED),
    **dict.fromkeys(("falsified", "non-robust", "sat", "violated"), Claimed.FALSIFIED),
    **dict.fromkeys(("", "unknown", "none", "timeout", "misclassified", "error", "nothing"), Claimed.NOTHING),
}
"""What a tool may call its answer."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One row: the question, what is claimed of it, and where the claimed witness lies ("": none), paths resolved."""

    instance: Instance
    claimed: Claimed
    witness: str = ""

    def echo(self) -> dict[str, str | None]:
        """The claim's own columns, exactly as the file gives them."""
        return {name: self.instance.raw.get(name) for name in COLUMNS}


def read_claims(
    path: Path, *, instances: Path | None = None, counterexamples: Path | None = None, benchmarks: Path | None = None
) -> tuple[Claim, ...]:
    """The claims of a CSV in their order; ``InputError`` when it is no list of claims.

    ``instances`` and ``counterexamples`` go with VNN-COMP's results, ``benchmarks`` with published tables.
    """
    from bvverify.load import published, vnncomp

    rows = read_table(path)
    header = rows[0]
    if "model" in header:
        return _own(path, header, rows[1:])
    if published.recognises(header):
        return published.claims(path, header, rows[1:], benchmarks)
    if vnncomp.recognises(header):
        return vnncomp.claims(path, rows, instances, counterexamples)
    raise InputError(f"{path}: the first line is no header of claims; it is {HEADER}")


def word(where: str, text: str) -> Claimed:
    """The claim that a tool's word makes; ``InputError`` for a word that no tool is known to use."""
    found = WORDS.get(text.lower())
    if found is None:
        raise InputError(f"{where}: claim is {text!r}; it is one of {', '.join(w for w in WORDS if w)}, or empty")
    return found


def _own(path: Path, header: list[str], rows: Sequence[list[str]]) -> tuple[Claim, ...]:
    if "claim" not in header and "claimed_witness" not in header:
        raise InputError(f"{path}: has no column claim; the header is {HEADER}")
    return tuple(_claim(path, number, instance) for number, instance in enumerate(instances_below(path, header, list(rows)), 2))


def _claim(path: Path, number: int, instance: Instance) -> Claim:
    raw, where = instance.raw, f"{path}, row {number}"
    given = raw.get("claimed_witness", "")
    # A list of integers stands in the cell itself.
    witness = given if not given or given.startswith("[") else str(path.parent / given)
    try:
        claimed = word(where, raw.get("claim", ""))
        if raw.get("claim", "") == "" and witness:
            claimed = _implied(witness)
    except InputError as error:
        return Claim(_with_error(instance, str(error)), Claimed.NOTHING, witness)
    return Claim(instance, claimed, witness)


def _implied(witness: str) -> Claimed:
    """What a solver's file claims by what it holds; a witness alone claims that it violates the property."""
    from bvverify.load import claimed_witness

    try:
        return WORDS[claimed_witness.reported(witness)]
    except BvverifyError:
        # What is wrong with the file is said where it is replayed.
        return Claimed.FALSIFIED


def _with_error(instance: Instance, error: str) -> Instance:
    from dataclasses import replace

    return instance if instance.error is not None else replace(instance, error=error)
