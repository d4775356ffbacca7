"""A result as a few human lines and as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.bounds.pairs import Reach
from bvverify.cli import about_box
from bvverify.cli.output import SCHEMA_VERSION, check_writable, emit, settle, write
from bvverify.cli.question import Near, Question
from bvverify.errors import UsageError
from bvverify.model import saturating_pairs
from bvverify.model.certificate import Certificate
from bvverify.model.network import Network
from bvverify.model.query import Property, Query
from bvverify.model.result import CheckReport, Result, Verdict, Witness
from bvverify.model.types import AnyArray, Int64Array
from bvverify.run.interpreter import declared_output
from bvverify.run.replay import no_runtime

EXIT_CODES = {Verdict.VERIFIED: 0, Verdict.FALSIFIED: 10, Verdict.UNKNOWN: 5}
_SIDES = ("above", "below")
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
    """Print the result, save the witness or the certificate if there is one to save, and return the exit code.

    A file that cannot be written does not cost the answer: that is printed first, the complaint and the exit code of ``UsageError`` follow.
    """
    saved: list[Path] = []
    refused: UsageError | None = None
    report = as_object(command, question, result) | {"certificate": None}
    try:
        if certificate_file is not None:
            saved = save_certificates(certificate_file, result.certificates)
            report["certificate"] = [str(f) for f in saved] or None
        if result.witness is not None and witness_file is not None:
            save_witness(witness_file, result.witness, report)
    except UsageError as error:
        refused, witness_file = error, None
        report["not_saved"] = str(error)
    emit(json.dumps(report) if as_json else "\n".join(as_lines(question, result, witness_file, saved)))
    return settle(EXIT_CODES[result.verdict], refused)


def as_lines(question: Question, result: Result, witness_file: Path | None = None, certificates: Sequence[Path] = ()) -> list[str]:
    """The verdict, then what was asked, who decided it and what the verdict holds for."""
    network = question.network
    lines = [str(result.verdict), line("asked", asked(question, result))]
    boxes = [query.box for query in question.queries]
    lines += [line(*pair) for pair in about_box.lines(network, boxes, question.given, question.batch)]
    if result.witness is None and result.reason:
        lines.append(line("because", result.reason))
    lines.append(line("stage", f"{result.stage}, {result.seconds:.2f} s"))
    if result.witness is not None:
        lines += [line(*pair) for pair in about_witness(question, result, result.witness)]
        if witness_file is not None:
            lines.append(line("saved", str(witness_file)))
    if result.verdict is Verdict.VERIFIED:
        lines += [line(*pair) for pair in about_check(result.checked)]
        lines += [line("saved", str(file)) for file in certificates]
    lines.append(line("semantics", f"{result.semantics} ({', '.join(network.requantisations()) or 'no requantisation'})"))
    pairs = about_pairs(question)
    if pairs:
        lines.append(line("pairs", pairs))
    if network.output.stripped is not None:
        lines.append(line("outputs of", f"what the final {network.output.stripped} reads: the verdict is about the logits"))
    lines.append(line("model", f"{Path(network.provenance.path).name}, sha256 {result.model_sha256[:16]}"))
    return lines


def about_pairs(question: Question) -> str:
    """What CPUs with and without VNNI make of the question; nothing where they never differ."""
    network = question.network
    if saturating_pairs.assumed(network.semantics):
        return str(Reach.of(network, [q.box for q in question.queries]))
    if not saturating_pairs.possible(network.semantics) or saturating_pairs.never_matter(network):
        return ""
    feature = saturating_pairs.exact_with(network.semantics)
    return f"summed exactly, as CPUs with {feature} do; x86 without it may differ: --accumulator saturating-pairs"


def pairs_object(question: Question) -> dict[str, Any]:
    """``pairs``, where the accumulator saturates: how many can leave int16, on the boxes and on the whole input space."""
    if not saturating_pairs.assumed(question.network.semantics):
        return {}
    return {"pairs": asdict(Reach.of(question.network, [q.box for q in question.queries]))}


def about_check(checked: CheckReport | None) -> list[tuple[str, str]]:
    """What the kernel has accepted, and what rests on a solver's word alone, as named lines."""
    if checked is None:
        return [("checked", "no: the kernel was not asked (--no-check)")]
    c, lines = checked, list[tuple[str, str]]()
    if c.interval_leaves or c.bound_leaves or c.claims or not (c.solver_leaves or c.proved_leaves):
        leaves = f"{c.interval_leaves} interval and {c.bound_leaves} bound leaves, {c.claims} claims"
        lines.append(("checked", f"by the kernel, in exact integers: {leaves}"))
    if c.proved_leaves:
        proved = "1 leaf" if c.proved_leaves == 1 else f"{c.proved_leaves} leaves"
        lines.append(("proofs", f"{proved} that a solver closed, by a proof in clauses"))
    if c.solver_leaves:
        rest = "1 leaf rests" if c.solver_leaves == 1 else f"{c.solver_leaves} leaves rest"
        lines.append(("unchecked", f"{rest} on the solver's word" + ("" if lines else "; there was nothing for the kernel to check")))
    return lines


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


def certificate_fields(path: Path | None, certificates: Sequence[Certificate]) -> dict[str, Any]:
    """What a row of a batch says of its certificates: the files, and where the system refuses them, why. That does not cost the verdict."""
    try:
        files = [] if path is None else save_certificates(path, certificates)
    except UsageError as error:
        return {"certificate": None, "not_saved": str(error)}
    return {"certificate": [str(f) for f in files] or None}


def asked(question: Question, result: Result) -> str:
    """The property and the box in one line."""
    given = question.given
    if "property" in given:
        boxes = len(question.queries)
        return f"{given['property']}: {result.property_text}" + (f" ({boxes} boxes)" if boxes != 1 else "")
    return f"{result.property_text}, for {Near(given['input'], given['radius'], given['epsilon'], given['clip'])}"


def line(name: str, text: str) -> str:
    """One line below the verdict."""
    return f"  {name:<10} {text}"


def about_witness(question: Question, result: Result, witness: Witness) -> list[tuple[str, str]]:
    """A witness by name and text: what it violates, its outputs, who replayed it."""
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
    text = f"; {np.count_nonzero(moved)} of {moved.size} input values changed, by up to {int(moved.max())}"
    ends = f"largest, {query.nominal.max()}", f"smallest, {query.nominal.min()}"
    for where, count, end in zip(_SIDES, beyond_own(query.nominal, witness.input), ends, strict=True):
        text += f"; {count} value{'' if count == 1 else 's'} {where} the input's own {end}" if count else ""
    return text


def beyond_own(nominal: Int64Array, x: Int64Array) -> tuple[int, int]:
    """How many values of ``x`` lie above the largest of ``nominal``, and how many below its smallest.

    Counted at an end that several values of the input share: that is where pixels have their white or black, which may be narrower than
    the integer type. A single extreme value says nothing about the range of the others.
    """
    top, bottom = nominal.max(), nominal.min()
    above = int((x > top).sum()) if (nominal == top).sum() > 1 else 0
    below = int((x < bottom).sum()) if (nominal == bottom).sum() > 1 else 0
    return above, below


def query_of(question: Question, witness: Witness) -> Query:
    """The first query of the question that the witness answers."""
    x, y = witness.input.reshape(1, -1), witness.output.reshape(1, -1)
    return next(q for q in question.queries if q.box.contains(witness.input) and q.property.violated(x, y)[0])


def as_object(command: str, question: Question, result: Result) -> dict[str, Any]:
    """The result as JSON data; ``witness`` holds all that ``bvverify replay`` needs besides the model's file."""
    network = question.network
    return (
        {
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
        }
        | about_box.as_object(network, [q.box for q in question.queries], question.batch)
        | pairs_object(question)
    )


def witness_object(network: Network, query: Query, witness: Witness) -> dict[str, Any]:
    """A witness with the box and the violation that it answers, all integers flat in row-major order."""
    changed = None if query.nominal is None else int(np.count_nonzero(witness.input != query.nominal))
    return {
        "input": flat(witness.input),
        "output": flat(witness.output),
        "class": int(witness.output.argmax()),
        "changed": changed,
        "beyond_own": None if query.nominal is None else dict(zip(_SIDES, beyond_own(query.nominal, witness.input), strict=True)),
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
