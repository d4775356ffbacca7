"""What ``verify``, ``robust`` and ``attack`` share: check the options, ask, decide with a live line, print."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bvverify import pipeline
from bvverify.cli import options, report
from bvverify.cli.output import check_writable, cores
from bvverify.cli.progress import ProgressLine
from bvverify.cli.question import Question
from bvverify.errors import InputError
from bvverify.model.result import Result


def decide(
    command: str,
    ask: Callable[[], Question],
    engine: options.Engine,
    timeout: float | None,
    memory: int,
    seed: int,
    dump: Path | None,
    witness_file: Path | None,
    *,
    as_json: bool,
    attack: bool = False,
    certificate: Path | None = None,
    check: bool = True,
    nodes: int | None = None,
    solver: options.Solver = options.Solver.Z3,
    trust_solver: bool = False,
) -> int:
    """Decide the question that ``ask`` reads, print the result, and return the exit code."""
    report.check_witness_path(witness_file)
    check_writable(dump)
    check_writable(certificate)
    settings = options.build(
        engine, timeout, memory, seed, dump, check=check, nodes=nodes, threads=cores(), solver=solver, trust_solver=trust_solver
    )
    question = ask()
    try:
        with ProgressLine() as progress:
            result = _attack(question, settings, progress) if attack else pipeline.decide_all(question.queries, settings, progress)
    except pipeline.Interrupted as stop:
        report.finish(command, question, stop.result, as_json=as_json, witness_file=None)
        raise
    return report.finish(command, question, result, as_json=as_json, witness_file=witness_file, certificate_file=certificate)


def _attack(question: Question, settings: pipeline.Options, progress: pipeline.Progress) -> Result:
    """The attack on every box in turn, within one time limit; the first witness ends it."""
    if not question.queries:
        raise InputError(f"{question.given['property']}: every box in it is empty, so there is no input to attack")
    started, results = time.monotonic(), []
    for query in question.queries:
        left = None if settings.timeout is None else max(settings.timeout - (time.monotonic() - started), 1e-3)
        results.append(pipeline.attack_only(query, replace(settings, timeout=left), progress))
        if results[-1].witness is not None:
            break
    return min(results, key=lambda result: result.verdict)
