"""Proofs that clauses cannot be satisfied: CaDiCaL writes them (DRAT), dratify, which knows nothing of it, checks them.

Each works in a child process with limits; a solver's *unsatisfiable* counts for nothing without its proof.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from importlib import util
from typing import Literal

from bvverify.process import Child, ran_out
from bvverify.proofs.gates import Gates

_CHILD = "bvverify.proofs.child"
MISSING = "pip install 'bvverify[proofs]'"


@dataclass(frozen=True, slots=True)
class Proof:
    """``drat`` is the text of a proof; or else ``satisfied`` the true variables of an assignment; or else ``reason`` says what ran out."""

    drat: bytes | None = None
    satisfied: frozenset[int] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checker (``by``: name and version) says of a proof; ``unfinished`` when it could not say."""

    outcome: Literal["accepted", "refused", "unfinished"]
    reason: str = ""
    by: str = ""


def can_prove() -> bool:
    """Whether CaDiCaL is installed."""
    return util.find_spec("pysat") is not None


def can_check() -> bool:
    """Whether the checker is installed."""
    return util.find_spec("dratify") is not None


def prove(gates: Gates, timeout: float | None, memory_mb: int) -> Proof:
    """Ask CaDiCaL for a proof."""
    if not can_prove():
        return Proof(reason=f"python-sat is not installed ({MISSING})")
    ended = Child(_CHILD, ("prove", gates.lists()), memory_mb).wait(timeout)
    if ended.how != "done":
        return Proof(reason=f"CaDiCaL: {ran_out(ended.how, timeout, memory_mb)}")
    what, found = pickle.loads(ended.out)
    return Proof(drat=found) if what == "proof" else Proof(satisfied=frozenset(found))


def check(gates: Gates, proof: bytes, timeout: float | None, memory_mb: int) -> Checked:
    """Have a proof checked."""
    if not can_check():
        return Checked("unfinished", f"no checker of proofs is installed ({MISSING})")
    ended = Child(_CHILD, ("check", gates.dimacs(), proof), memory_mb).wait(timeout)
    if ended.how != "done":
        return Checked("unfinished", f"the checker: {ran_out(ended.how, timeout, memory_mb)}")
    return Checked(*pickle.loads(ended.out))
