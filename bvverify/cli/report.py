"""A result as a few human lines and as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.bounds.pairs import Reach
from bvverify.cli.output import SCHEMA_VERSION, check_writable, emit, write
from bvverify.cli.question import Question
from bvverify.model import saturating_pairs
from bvverify.model.certificate import Certificate
from bvverify.model.network import Network
from bvverify.model.query import Property, Query
from bvverify.model.result import CheckReport, Result, Verdict, Witness
from bvverify.model.types import AnyArray, Int64Array
from bvverify.run.interpreter import declared_output
from bvverify.run.replay import no_runtime

EXIT_CODES = {Verdict.VERIFIED: 0, Verdict.FALSIFIED: 10, Verdict.UNKNOWN: 5}
WITNESS_SUFFIXES = (".npy", ".json")


def check_witness_path(path: Path | None) -> None:
    """Refuse, before anything is decided, a witness file that could not be written."""
    check_writable(path, *WITNESS_SUFFIXES)


def finish(
    command: str,
    question: Question,
    result: Result,
    *,
    as_json: bool,
    witness_file: Path | None,
    certificate_file: Path | None = None,
) -> int:
    """Print the result, save the witness or the certificate if there is one to save, and return the exit code."""
    saved = [] if certificate_file is None else save_certificates(certificate_file, result.certificates)
    report = as_object(command, question, result) | {"certificate": [str(f) for f in saved] or None}
    if result.witness is not None and witness_file is not None:
        save_witness(witness_file, result.witness, report)
    emit(json.dumps(report) if as_json else "\n".join(as_lines(question, result, witness_file, saved)))
    return EXIT_CODES[result.verdict]


def as_lines(question: Question, result: Result, witness_file: Path | None = None, certificates: Sequence[Path] = ()) -> list[str]:
    """The verdict, then what was asked, who decided it and what the verdict holds for."""
    network = question.network
    lines = [str(result.verdict), _line("asked", asked(question, result))]
    if result.witness is None and result.reason:
        lines.append(_line("because", result.reason))
    lines.append(_line("stage", f"{result.stage}, {result.seconds:.2f} s"))
    if result.witness is not None:
        lines += [_line(*pair) for pair in _about_witness(question, result, result.witness)]
        if witness_file is not None:
            lines.append(_line("saved", str(witness_file)))
    if result.verdict is Verdict.VERIFIED:
        lines.append(_line("checked", _about_check(result)))
        lines += [_line("saved", str(file)) for file in certificates]
    lines.append(_line("semantics", f"{result.semantics} ({', '.join(network.requantisations()) or 'no requantisation'})"))
    pairs = _about_pairs(question)
    if pairs:
        lines.append(_line("pairs", pairs))
    if network.output.stripped is not None:
        lines.append(_line("outputs of", f"what the final {network.output.stripped} reads: the verdict is about the logits"))
    lines.append(_line("model", f"{Path(network.provenance.path).name}, sha256 {result.model_sha256[:16]}"))
    return lines


def _about_pairs(question: Question) -> str:
    """What CPUs with and without VNNI make of the question; nothing where they never differ."""
    network = question.network
    if saturating_pairs.assumed(network.semantics):
        return str(Reach.of(network, [q.box for q in question.queries]))
    if not saturating_pairs.possible(network.semantics) or saturating_pairs.never_matter(network):
        return ""
    feature = saturating_pairs.exact_with(network.semantics)
    return f"summed exactly, as CPUs with {feature} do; x86 without it may differ: --accumulator saturating-pairs"


def _pairs_object(question: Question) -> dict[str, Any]:
    """``pairs``, where the accumulator saturates: how many can leave int16, on the boxes and on the whole input space."""
    if not saturating_pairs.assumed(question.network.semantics):
        return {}
    return {"pairs": asdict(Reach.of(question.network, [q.box for q in question.queries]))}


def _about_check(result: Result) -> str:
    if result.checked is None:
        return "no: the kernel was not asked (--no-check)"
    c = result.checked
    leaves = f"{c.interval_leaves} interval and {c.bound_leaves} bound leaves, {c.claims} claims"
    return f"by the kernel, in exact integers: {leaves}{about_solver(c)}"


def about_solver(c: CheckReport) -> str:
    """What became of the leaves that a solver closed; nothing where there are none."""
    proved = f"; {c.proved_leaves} leaves by a proof in clauses" if c.proved_leaves else ""
    return proved + (f"; {c.solver_leaves} leaves rest on the solver's word" if c.solver_leaves else "")


def checked_object(result: Result) -> dict[str, int] | None:
    """What the kernel accepted, as JSON data; None where it was not asked."""
    return None if result.checked is None else asdict(result.checked)


def open_object(result: Result) -> dict[str, Any] | None:
    """What *unknown* leaves open, as JSON data; None for the other verdicts."""
    return None if result.open is None else asdict(result.open)


def save_certificates(path: Path, certificates: Sequence[Certificate]) -> list[Path]:
    """Write certificates: one to ``path``, several to ``path`` with a number before its suffix. Returns the files."""
    from bvverify.load import certificate_file

    if not certificates:
        return []
    path = path if path.suffix else path.with_suffix(certificate_file.SUFFIX)
    paths = [path] if len(certificates) == 1 else [path.with_suffix(f".{k + 1}{path.suffix}") for k in range(len(certificates))]
    for file, certificate in zip(paths, certificates, strict=True):
        write(file, certificate_file.to_bytes(certificate))
    return paths


def asked(question: Question, result: Result) -> str:
    """The property and the box in one line."""
    given = question.given
    if "property" in given:
        boxes = len(question.queries)
        return f"{given['property']}: {result.property_text}" + (f" ({boxes} boxes)" if boxes != 1 else "")
    step = "step" if given["radius"] == 1 else "steps"
    reach = f"{given['radius']} integer {step}" if given["epsilon"] is None else f"{given['epsilon']} (real)"
    return f"{result.property_text}, for every input within {reach} of {given['input']}"


def _line(name: str, text: str) -> str:
    return f"  {name:<10} {text}"


def _about_witness(question: Question, result: Result, witness: Witness) -> list[tuple[str, str]]:
    query = query_of(question, witness)
    output = witness.output.ravel()
    about = []
    if query.property.label is not None:
        about.append(("witness", f"class {int(output.argmax())} instead of {query.property.label}{distance(query, witness)}"))
    else:
        about.append(("witness", f"an input of {witness.input.size} values that violates the property{distance(query, witness)}"))
    about.append(("outputs", " ".join(map(str, output.tolist()))))
    replayed = [str(r) for r in witness.replayed_by] or [no_runtime(question.network)]
    about.append(("replayed", "; ".join(["interpreter", *replayed])))
    return about


def distance(query: Query, witness: Witness) -> str:
    """How far the witness is from the input that the box was built around; nothing where there is none."""
    if query.nominal is None:
        return ""
    moved = np.abs(witness.input - query.nominal)
    if not moved.any():
        return "; it is the clean input itself"
    return f"; {np.count_nonzero(moved)} of {moved.size} input values changed, by up to {int(moved.max())}"


def query_of(question: Question, witness: Witness) -> Query:
    """The first query of the question that the witness answers."""
    x, y = witness.input.reshape(1, -1), witness.output.reshape(1, -1)
    return next(q for q in question.queries if q.box.contains(witness.input) and q.property.violated(x, y)[0])


def as_object(command: str, question: Question, result: Result) -> dict[str, Any]:
    """The result as JSON data; ``witness`` holds all that ``bvverify replay`` needs besides the model's file."""
    network = question.network
    return {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "verdict": str(result.verdict),
        "stage": result.stage,
        "reason": result.reason,
        "seconds": round(result.seconds, 6),
        "asked": question.given,
        "model": {"path": network.provenance.path, "format": network.provenance.format, "sha256": result.model_sha256},
        "semantics": result.semantics,
        "requantisations": list(network.requantisations()),
        "stripped": network.output.stripped,
        "property": {"text": result.property_text, "sha256": result.property_sha256},
        "seed": result.seed,
        "stages": [
            {
                "stage": s.stage,
                "seconds": round(s.seconds, 6),
                "verdict": None if s.verdict is None else str(s.verdict),
                "detail": s.detail,
            }
            for s in result.stages
        ],
        "checked": checked_object(result),
        "trust_solver": result.trust_solver,
        "nodes": result.nodes,
        "open": open_object(result),
        "witness": None if result.witness is None else witness_object(network, query_of(question, result.witness), result.witness),
        "versions": dict(sorted(result.versions.items())),
    } | _pairs_object(question)


def witness_object(network: Network, query: Query, witness: Witness) -> dict[str, Any]:
    """A witness with the box and the violation that it answers, all integers flat in row-major order."""
    changed = None if query.nominal is None else int(np.count_nonzero(witness.input != query.nominal))
    return {
        "input": flat(witness.input),
        "output": flat(witness.output),
        "class": int(witness.output.argmax()),
        "changed": changed,
        "nominal": None if query.nominal is None else flat(query.nominal),
        "file_input": array_object(witness.file_input),
        "file_output": array_object(declared_output(network, witness.output[None])),
        "box": {"lo": flat(query.box.lo), "hi": flat(query.box.hi)},
        "violation": violation_object(query.property),
        "label": query.property.label,
        "replays": [{"runtime": r.runtime, "version": r.version, "agreed": r.agreed, "detail": r.detail} for r in witness.replayed_by],
    }


def violation_object(prop: Property) -> list[list[dict[str, Any]]]:
    """The violation's disjunction of conjunctions of ``outputs . y + inputs . x <= bound``."""
    return [
        [
            {"outputs": flat(row.outputs), "inputs": None if row.inputs is None else flat(row.inputs), "bound": int(row.bound)}
            for row in conjunction
        ]
        for conjunction in prop.violation
    ]


def flat(values: Int64Array) -> list[int]:
    """An integer array as a flat list."""
    return [int(v) for v in values.ravel()]


def array_object(values: AnyArray) -> dict[str, Any]:
    """An array with its type and shape; float32 prints exactly, as the shortest decimal of its value in float64."""
    return {"dtype": str(values.dtype), "shape": list(values.shape), "data": values.ravel().tolist()}


def save_witness(path: Path, witness: Witness, report: dict[str, Any]) -> None:
    """``.npy``: the input as the model's file takes it; ``.json``: the whole report, for ``bvverify replay``."""
    if path.suffix == ".json":
        write(path, json.dumps(report) + "\n")
        return
    import io

    buffer = io.BytesIO()
    np.save(buffer, witness.file_input)
    write(path, buffer.getvalue())
