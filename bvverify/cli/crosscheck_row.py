"""One question of a crosscheck in a worker process: decided once, and every claim that was made about it judged."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bvverify import pipeline
from bvverify.cli import batch_row
from bvverify.cli.batch_row import Answer, Task
from bvverify.cli.output import write
from bvverify.cli.question import Question as Asked
from bvverify.cli.report import as_object, flat, save_certificates
from bvverify.crosscheck import apart
from bvverify.crosscheck.judge import Status, judge
from bvverify.crosscheck.witness import Check, check
from bvverify.errors import InputError
from bvverify.load.claims import Claim, Claimed
from bvverify.model.query import Query
from bvverify.model.result import Result, Verdict
from bvverify.run import replay


@dataclass(frozen=True, slots=True)
class Question:
    """A row with all claims about it and their numbers in the file (from 1).

    ``proofs`` is the folder for proofs of refutations; ``why``: say of an ILP's claim where the two part.
    """

    task: Task
    claims: tuple[Claim, ...]
    numbers: tuple[int, ...]
    proofs: Path | None = None
    why: bool = False


def echo(claim: Claim, task: Task) -> dict[str, str | None]:
    """What identifies a claim: its columns, exactly as its file gives them, and the semantics that are asked about."""
    return batch_row.echo(claim.instance) | claim.echo() | {"asked_semantics": claim.instance.semantics or task.semantics}


def lost(question: Question) -> list[Answer]:
    """The lines for a question whose process died twice."""
    return _lines(question, batch_row.lost(question.task), {})


def decide(question: Question) -> list[Answer]:
    """One line for each claim; whatever goes wrong is an answer, too."""
    started, task = time.monotonic(), question.task
    try:
        lines = _decide(question)
    # The outermost handler of this process: a bug that one question meets must not cost the others their answers.
    except Exception as error:
        lines = _lines(question, batch_row.failed(task, error), {})
    seconds = round(time.monotonic() - started, 6)
    return [line | {"seconds": seconds} for line in lines]


def _decide(question: Question) -> list[Answer]:
    task = question.task
    if task.instance.largest:
        raise InputError("a claim is about one radius: give it as a number")
    queries = batch_row.ask(task)
    checks = {c.witness: check(c.witness, queries) for c in question.claims if c.witness and queries}
    result = _result(queries, checks, batch_row.options(task))
    answer = batch_row.answer(task, result)
    other = batch_row.predicted(queries[0], task.instance.label) if queries else None
    if other is not None and result.verdict is Verdict.FALSIFIED:
        answer |= {"verdict": "misclassified", "reason": f"the clean input's class is {other}"}
    if result.witness is not None:
        answer |= {"class": int(result.witness.output.argmax()), "outputs": flat(result.witness.output)}
    lines = _lines(question, answer, checks)
    if question.why:
        differences = [_difference(claim, queries, result, checks.get(claim.witness)) for claim in question.claims]
        lines = [line | {"difference": d} for line, d in zip(lines, differences, strict=True)]
    if question.proofs is not None:
        lines = [
            line | {"proof": _save(question.proofs / f"row{line['row']}", task, queries, result)}
            if line["status"] == Status.REFUTED else line for line in lines
        ]  # fmt: skip
    return lines


def _result(queries: Sequence[Query], checks: dict[str, Check], options: pipeline.Options) -> Result:
    """The answer; a claimed witness that replays is all that it takes."""
    for found in checks.values():
        if found.replays and found.input is not None:
            shape = queries[0].network.input.tensor.shape
            x = np.array(found.input, np.int64).reshape(shape)
            query = next(q for q in queries if q.box.contains(x) and replay.violates(q, x[None])[0])
            return pipeline.suggested(query, x, options)
    return pipeline.decide_all(queries, options)


def _lines(question: Question, answer: Answer, checks: dict[str, Check]) -> list[Answer]:
    lines = []
    for number, claim in zip(question.numbers, question.claims, strict=True):
        found = checks.get(claim.witness)
        status = judge(claim.claimed, answer["verdict"], found)
        judged: dict[str, Any] = {
            "row": number,
            "claimed": str(claim.claimed),
            "status": str(status),
            "claimed_witness_check": None if found is None else asdict(found) | {"replays": found.replays},
            "proof": None,
            "difference": None,
        }
        lines.append(answer | echo(claim, question.task) | judged)
    return lines


def _difference(claim: Claim, queries: Sequence[Query], result: Result, found: Check | None) -> dict[str, Any] | None:
    """Where a claim's source names an ILP reading: what in its rows parts it from the device."""
    source, one = claim.instance.raw.get("source") or "", None
    if claim.claimed is Claimed.VERIFIED and result.witness is not None:
        x = result.witness.input
        one = apart.excluded(source, next(q for q in queries if replay.violates(q, x[None])[0]), x)
    elif claim.witness.endswith(".sol") and found is not None and found.input is not None and not (found.replays or found.outside):
        x = np.array(found.input, np.int64).reshape(queries[0].network.input.tensor.shape)
        one = apart.invented(source, next(q for q in queries if q.box.contains(x)), Path(claim.witness))
    if one is None or isinstance(one, str):
        return None if one is None else {"text": one}
    place = {"op": one.op, "tensor": one.layer, "index": one.index, "row": one.row, "excess": float(one.excess)}
    return {"text": one.text, "blame": str(one.blame)} | place


def _save(path: Path, task: Task, queries: Sequence[Query], result: Result) -> list[str]:
    """The result as ``bvverify replay``, ``explain`` and ``report`` take it, and the certificates, for ``check``."""
    row = task.instance
    files = save_certificates(path, result.certificates)
    given: dict[str, Any] = (
        {"model": str(row.model), "property": str(row.property)}
        if row.property is not None
        else {"model": str(row.model), "input": row.input, "radius": row.radius, "epsilon": None, "label": row.label}
    )
    command = "robust" if row.property is None else "verify"
    made = as_object(command, Asked(queries[0].network, tuple(queries), given), result) | {"certificate": [str(f) for f in files] or None}
    file = path.with_suffix(".json")
    write(file, json.dumps(made) + "\n")
    return [str(file), *map(str, files)]
