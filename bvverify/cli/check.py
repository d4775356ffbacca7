"""``bvverify check``: a certificate, by the trusted kernel alone."""

from __future__ import annotations

import json as json_module
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bvverify.cli import options as o

if TYPE_CHECKING:
    from bvverify.model.certificate import Certificate
    from bvverify.model.network import Network
    from bvverify.model.query import Conjunction, Query
    from bvverify.model.result import CheckReport

NAME = "check"
REJECTED = 6
ANOTHER_QUESTION = 2


def command(
    certificate: Annotated[Path, typer.Argument(metavar="CERTIFICATE", show_default=False, help="What --certificate saved.")],
    model: Annotated[
        Path | None, typer.Option("--model", metavar="MODEL", help="The network [default: the path it was made with].")
    ] = None,
    property_file: Annotated[
        Path | None, typer.Option("--property", metavar="PROPERTY.vnnlib", help="Require that it is about this property.")
    ] = None,
    source: o.MaybeInput = None,
    radius: o.Radius = None,
    epsilon: o.Epsilon = None,
    clip: o.Clip = None,
    label: o.Label = None,
    allow_pickle: o.AllowPickle = False,
    json: o.Json = False,
) -> int:
    """Check a certificate in exact integers.

    Reads the certificate and the model, and shows that no input of the certificate's box meets its violation: by a
    small kernel that uses NumPy and the exact interpreter and knows nothing of the search that made it. What has been
    shown is printed; with --property, or --input and --radius, the certificate has to be about exactly that question.

    Example: bvverify check proof.bvcert --model model.onnx --input test.npz::7 --radius 2

    Exit codes: 0 accepted, 6 rejected: its proof does not hold, 2 rejected: it is about another question, or an unreadable
    or unsupported input, 1 usage.
    """
    from bvverify.certify import kernel
    from bvverify.cli.output import SCHEMA_VERSION, emit
    from bvverify.load import certificate_file
    from bvverify.model.certificate import Statement

    read = certificate_file.read(certificate)
    network = _network(_model(certificate, read, model), read, named=property_file is not None or source is not None)
    queries = _queries(read, network, property_file, source, radius, epsilon, label, clip)
    begun, report, reason = time.monotonic(), None, ""
    differences = [read.statement.differs(Statement.of(query)) for query in queries]
    asked = [query for query, difference in zip(queries, differences, strict=True) if not difference]
    if not asked:
        reason = f"it is about {differences[0]}" if differences else "there is no box to ask about"
    for query in asked:
        try:
            report = kernel.check(read, query)
            break
        except kernel.Rejected as rejected:
            reason = str(rejected)
    seconds = time.monotonic() - begun
    if json:
        emit(json_module.dumps({"schema_version": SCHEMA_VERSION, "command": NAME} | _object(read, network, report, reason, seconds)))
    elif report is None:
        emit(f"rejected\n  because    {reason}")
    else:
        emit("\n".join(_lines(read, network, report, seconds)))
    if report is None:
        return REJECTED if asked else ANOTHER_QUESTION
    return 0


def _model(file: Path, certificate: Certificate, given: Path | None) -> Path:
    from bvverify.errors import UsageError

    recorded = Path(certificate.statement.model_path)
    for path in (given,) if given is not None else (recorded, file.parent / recorded.name):
        if path.is_file() or given is not None:
            return path
    raise UsageError(f"{file}: its model {recorded} is not here; name it with --model")


def _network(path: Path, certificate: Certificate, *, named: bool) -> Network:
    """The network that the statement is about: the model under its semantics, or two readings of it side by side (``compare``)."""
    from bvverify.compare.joint import AGAINST, join
    from bvverify.errors import InputError, UsageError
    from bvverify.load.load import load
    from bvverify.model.query import Box

    stated = certificate.statement
    if AGAINST not in stated.semantics:
        return load(path, stated.semantics)
    if named:
        raise UsageError("a certificate of compare is about two readings of the model: leave out --property and --input")
    a, b = (load(path, semantics) for semantics in stated.semantics.split(AGAINST, 1))
    _check_box(path, certificate, a)
    joint = join(a, b, Box.of(stated.lo, stated.hi))
    if joint.network is None:
        raise InputError(f"{path}: on the certificate's box {stated.semantics} agree by their thresholds alone; there is nothing to check")
    return joint.network


def _check_box(path: Path, certificate: Certificate, network: Network) -> None:
    from bvverify.errors import InputError

    stated, tensor = certificate.statement, network.input.tensor
    fits = stated.lo.shape == stated.hi.shape == tensor.shape and (stated.lo <= stated.hi).all()
    if not (fits and stated.lo.min() >= tensor.qtype.lo and stated.hi.max() <= tensor.qtype.hi):
        raise InputError(
            f"its statement does not fit the model {path}: a box of {stated.lo.shape} for inputs of {tensor.shape} {tensor.qtype}"
        )


def _queries(
    certificate: Certificate,
    network: Network,
    property_file: Path | None,
    source: str | None,
    radius: int | None,
    epsilon: str | None,
    label: int | None,
    clip: str | None,
) -> list[Query]:
    """The question that was named, one query a box; without one, the certificate's own statement."""
    from bvverify.cli import question
    from bvverify.errors import InputError
    from bvverify.model.query import Box, Property, Query

    path, stated = Path(network.provenance.path), certificate.statement
    if property_file is not None or source is not None:
        return list(question.ask(path, property_file, source, radius, epsilon, label, stated.semantics, clip).queries)
    outputs = network.output_tensor.size
    _check_box(path, certificate, network)
    rows = [row for conjunction in stated.violation for row in conjunction]
    small = all(abs(int(v)) < 1 << 31 for row in rows for v in (row.bound, *row.outputs, *(() if row.inputs is None else row.inputs)))
    if not small or any(row.outputs.shape != (outputs,) for row in rows):
        raise InputError(f"its statement does not fit the model {path}: rows that are not over its {outputs} outputs, or beyond 2^31")
    return [Query(network, Box.of(stated.lo, stated.hi), Property(stated.violation, ""))]


def _claim(certificate: Certificate, network: Network) -> str:
    """What is shown, said from the numbers and not from the certificate's own words."""
    from bvverify.model.query import Box, Property

    stated, outputs = certificate.statement, network.output_tensor.size
    where = f"every one of the inputs of a box ({Box.of(stated.lo, stated.hi)})"
    for label in range(outputs):
        if _same(stated.violation, Property.robustness(label, outputs).violation):
            return f"the class is {label} for {where}"
        if _same(stated.violation, Property.avoiding(label, outputs).violation):
            return f"the class is not {label} for {where}"
    rows = sum(len(c) for c in stated.violation)
    return f"none of {len(stated.violation)} conjunctions of {rows} linear constraints is met by {where}"


def _same(stated: tuple[Conjunction, ...], known: tuple[Conjunction, ...]) -> bool:
    """Whether two violations are the same rows, of which ``known`` has none over inputs."""
    return [len(c) for c in stated] == [len(c) for c in known] and all(
        row.bound == other.bound and (row.outputs == other.outputs).all() and (row.inputs is None or not row.inputs.any())
        for c, d in zip(stated, known, strict=True)
        for row, other in zip(c, d, strict=True)
    )


def _lines(certificate: Certificate, network: Network, report: CheckReport, seconds: float) -> list[str]:
    closed = f"{report.interval_leaves} interval leaves, {report.bound_leaves} bound leaves"
    lines = [
        "accepted" if report.complete else "accepted, but for what a solver closed",
        f"  shown      {_claim(certificate, network)}",
        f"  semantics  {network.semantics}",
        f"  model      {Path(network.provenance.path).name}, sha256 {network.provenance.sha256[:16]}",
        f"  checked    {report.claims} claims, {report.splits} splits, {closed}, {seconds:.2f} s",
    ]
    if not report.complete:
        lines.append(f"  unchecked  {report.solver_leaves} leaves that the bit-vector solver closed")
    joined = ", how compare puts two readings side by side" if network.provenance.format == "joint" else ""
    return [*lines, f"  trusted    the kernel (bvverify.certify), the model's loader, thresholds and interpreter, NumPy{joined}"]


def _object(certificate: Certificate, network: Network, report: CheckReport | None, reason: str, seconds: float) -> dict[str, Any]:
    if report is None:
        return {"accepted": False, "reason": reason, "seconds": round(seconds, 6)}
    return {
        "accepted": True,
        "complete": report.complete,
        "shown": _claim(certificate, network),
        "semantics": network.semantics,
        "model_sha256": network.provenance.sha256,
        **asdict(report),
        "seconds": round(seconds, 6),
        "trusted": [
            *["bvverify.certify", "bvverify.load", "bvverify.model", "bvverify.run", "numpy"],
            *(["bvverify.compare", "bvverify.bounds"] if network.provenance.format == "joint" else []),
        ],
    }
