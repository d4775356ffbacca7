"""Answers. *Falsified* holds a witness that replay built; *verified* says what proved it; *unknown* says what ran out.

Verdicts are ordered, falsified < unknown < verified: the answer to several questions of which one violation
suffices is their minimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum

from bvverify.model.certificate import Certificate
from bvverify.model.types import AnyArray, Int64Array


class Verdict(IntEnum):
    """Ordered: the verdict on a disjunction of violations is the minimum of the parts."""

    FALSIFIED = 0
    UNKNOWN = 1
    VERIFIED = 2

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Replay:
    """One runtime's answer to a witness: ``agreed`` says whether its outputs equal the interpreter's; None where it was not asked.

    A runtime is not asked where it computes another function on this machine than the network's semantics; ``detail`` says why.
    """

    runtime: str
    version: str
    agreed: bool | None
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.runtime} {self.version} " + (self.detail if self.agreed is None else "agrees" if self.agreed else "disagrees")


@dataclass(frozen=True, slots=True, eq=False)
class Witness:
    """An input of the box whose outputs violate the property; built by ``bvverify.run.replay`` alone.

    ``input`` and ``output`` are the integers (the tensors' shapes); ``file_input`` is the input as the model's file takes it: a
    float32 array where the graph begins in float, the integers otherwise, in the file's declared shape.
    """

    input: Int64Array
    output: Int64Array
    file_input: AnyArray
    replayed_by: tuple[Replay, ...] = ()


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage of the pipeline decided (None: nothing) and what it cost."""

    stage: str
    seconds: float
    verdict: Verdict | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Open:
    """What *unknown* leaves: ``violations`` of ``total`` not excluded, and what ran out or was missing.

    That is "time", "nodes", "solver", "proof" (of what a solver closed), "stages", or "interrupt".
    Where a search had begun: its open ``subproblems``, and the worst of their bounds, in output steps of the violation's rows (above 0
    would close them).
    """

    violations: int
    total: int
    ran_out: str
    subproblems: int | None = None
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was accepted: claims about accumulators, splits, and leaves by kind.

    ``proved_leaves`` were closed by a solver, and a checker of proofs accepted why; ``solver_leaves`` are a solver's word, unchecked.
    """

    claims: int = 0
    splits: int = 0
    interval_leaves: int = 0
    bound_leaves: int = 0
    solver_leaves: int = 0
    proved_leaves: int = 0

    @property
    def complete(self) -> bool:
        """Whether every leaf was checked."""
        return self.solver_leaves == 0

    @staticmethod
    def total(reports: Sequence[CheckReport]) -> CheckReport:
        """Of several certificates."""
        return CheckReport(*(sum(getattr(r, f.name) for r in reports) for f in fields(CheckReport)))


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A verdict with everything that is needed to believe it or to ask again."""

    verdict: Verdict
    stage: str
    reason: str
    semantics: str
    seconds: float
    stages: tuple[StageReport, ...]
    seed: int
    model_sha256: str
    property_sha256: str
    property_text: str
    witness: Witness | None = None
    versions: dict[str, str] = field(default_factory=dict)
    certificates: tuple[Certificate, ...] = ()
    """Of *verified*: one for each box of the question."""
    checked: CheckReport | None = None
    """What the kernel and the checker of proofs accepted; None where they were not asked."""
    trust_solver: bool = False
    """Whether a solver's word was to be taken without a proof."""
    nodes: int = 0
    """Subproblems that the search bounded."""
    open: Open | None = None
    """Of *unknown*."""
