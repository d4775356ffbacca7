"""``bvverify check``: a certificate, by the trusted kernel, and the proofs of what a solver closed by a checker of proofs."""

from __future__ import annotations

import json as json_module
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bvverify.cli import options as o

if TYPE_CHECKING:
    from bvverify.model.certificate import Certificate
    from bvverify.model.network import Network
    from bvverify.model.query import Conjunction, Query
    from bvverify.model.result import CheckReport
    from bvverify.proofs.leaves import LeafReport

NAME = "check"
REJECTED, UNCHECKED, ANOTHER_QUESTION = 6, 5, 2


def command(
    certificate: Annotated[Path, typer.Argument(metavar="CERTIFICATE", show_default=False, help="What --certificate saved.")],
    model: Annotated[
        Path | None, typer.Option("--model", metavar="MODEL", help="The network [default: the path it was made with].")
    ] = None,
    against_model: o.AgainstModel = None,
    property_file: Annotated[
        Path | None, typer.Option("--property", metavar="PROPERTY.vnnlib", help="Require that it is about this property.")
    ] = None,
    source: o.MaybeInput = None,
    radius: o.Radius = None,
    epsilon: o.Epsilon = None,
    clip: o.Clip = None,
    label: o.Label = None,
    trust_solver: o.TrustSolver = False,
    memory: o.Memory = 4096,
    allow_pickle: o.AllowPickle = False,
    json: o.Json = False,
) -> int:
    """Check a certificate in exact integers.

    Reads the certificate and the model, and shows that no input of the certificate's box meets its violation: by a
    small kernel that uses NumPy and the exact interpreter and knows nothing of the search that made it. Parts that a
    solver closed are checked by their proofs, without a solver; one that has none, or that cannot be checked here, leaves
    the whole unchecked, unless --trust-solver. What has been shown is printed; with --property, or --input and --radius,
    the certificate has to be about exactly that question.

    Example: bvverify check proof.bvcert --model model.onnx --input test.npz::7 --radius 2

    Exit codes: 0 accepted, 5 parts unchecked, 6 rejected: its proof does not hold, 2 rejected: it is about another
    question, or an unreadable or unsupported input, 1 usage.
    """
    from bvverify.certify import kernel
    from bvverify.cli.output import SCHEMA_VERSION, emit
    from bvverify.load import certificate_file
    from bvverify.model.certificate import Statement

    read = certificate_file.read(certificate)
    models = _models(certificate, read, model, against_model)
    network = _network(models, read, named=property_file is not None or source is not None)
    queries = _queries(read, network, property_file, source, radius, epsilon, label, clip)
    begun, found, reason = time.monotonic(), None, ""
    differences = [read.statement.differs(Statement.of(query)) for query in queries]
    asked = [query for query, difference in zip(queries, differences, strict=True) if not difference]
    if not asked:
        reason = f"it is about {differences[0]}" if differences else "there is no box to ask about"
    for query in asked:
        try:
            found = _checked(read, query, memory)
            break
        except kernel.Rejected as rejected:
            reason = str(rejected)
    outcome = Outcome(found, reason, trust_solver, time.monotonic() - begun, bool(asked))
    if json:
        emit(json_module.dumps({"schema_version": SCHEMA_VERSION, "command": NAME} | _object(read, network, outcome)))
    else:
        emit("\n".join(_lines(read, network, outcome)))
    return outcome.code


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the kernel and the checker of proofs said; ``found`` None: rejected, and ``reason`` says why."""

    found: tuple[CheckReport, LeafReport] | None
    reason: str
    trust_solver: bool
    seconds: float
    asked: bool
    """Whether the certificate is about what was asked at all."""

    @property
    def code(self) -> int:
        """The exit code."""
        if self.found is None:
            return REJECTED if self.asked else ANOTHER_QUESTION
        return 0 if self.found[0].complete or self.trust_solver else UNCHECKED


def _checked(certificate: Certificate, query: Query, memory_mb: int) -> tuple[CheckReport, LeafReport]:
    from bvverify.certify import kernel
    from bvverify.proofs import leaves

    report = kernel.check(certificate, query)
    found = leaves.check(certificate, query, memory_mb=memory_mb) if not report.complete else leaves.LeafReport(0, (), "")
    return found.added_to(report), found


def _models(file: Path, certificate: Certificate, given: Path | None, second: Path | None) -> tuple[Path, Path]:
    """The model's file twice, or where ``compare`` held two files against each other, both."""
    from bvverify.errors import UsageError
    from bvverify.model.certificate import AGAINST

    stated = certificate.statement
    if AGAINST not in stated.model_sha256:
        if second is not None:
            raise UsageError(f"--against-model: {file} is about one model")
        return (_model(file, stated.model_path, given),) * 2
    one, _, other = stated.model_path.partition(AGAINST)
    return _model(file, one, given), _model(file, other, second, "--against-model")


def _model(file: Path, stated: str, given: Path | None, option: str = "--model") -> Path:
    from bvverify.errors import UsageError

    recorded = Path(stated)
    for path in (given,) if given is not None else (recorded, file.parent / recorded.name):
        if path.is_file() or given is not None:
            return path
    raise UsageError(f"{file}: its model {recorded} is not here; name it with {option}")


def _network(paths: tuple[Path, Path], certificate: Certificate, *, named: bool) -> Network:
    """The network that the statement is about: the model under its semantics, or two of ``compare`` side by side."""
    from bvverify.errors import InputError, UsageError
    from bvverify.load.load import load
    from bvverify.model.certificate import AGAINST, REALS
    from bvverify.model.query import Box

    stated = certificate.statement
    if AGAINST not in stated.semantics:
        return load(paths[0], stated.semantics)
    if named:
        raise UsageError("a certificate of compare is about two readings side by side: leave out --property and --input")
    from bvverify.compare.align import align
    from bvverify.compare.joint import join

    one, other = stated.semantics.split(AGAINST, 1)
    if other == REALS:
        return _against_reals(paths, one, certificate)
    a, b = (load(path, semantics) for path, semantics in zip(paths, stated.semantics.split(AGAINST, 1), strict=True))
    _check_box(paths[0], certificate, align(a, b)[0])
    joint = join(a, b, Box.of(stated.lo, stated.hi))
    if joint.network is None:
        raise InputError(
            f"{paths[0]}: on the certificate's box {stated.semantics} agree by their thresholds alone; there is nothing to check"
        )
    return joint.network


def _against_reals(paths: tuple[Path, Path], semantics: str, certificate: Certificate) -> Network:
    """A network beside the integers that stand for its float original on the certificate's box."""
    from bvverify.compare.approximate import approximate
    from bvverify.compare.original import joint
    from bvverify.load.load import load, load_real
    from bvverify.model.query import Box

    a, stated = load(paths[0], semantics), certificate.statement
    _check_box(paths[0], certificate, a)
    return joint(a, approximate(a, load_real(paths[1]), Box.of(stated.lo, stated.hi)).network)


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

    if property_file is not None or source is not None:
        path, semantics = Path(network.provenance.path), certificate.statement.semantics
        return list(question.ask(path, property_file, source, radius, epsilon, label, semantics, clip).queries)
    return [stated(certificate, network)]


def stated(certificate: Certificate, network: Network) -> Query:
    """The question that a certificate says it is about; ``InputError`` where that does not fit the model."""
    from bvverify.errors import InputError
    from bvverify.model.query import Box, Property, Query

    path, statement, outputs = Path(network.provenance.path), certificate.statement, network.output_tensor.size
    _check_box(path, certificate, network)
    rows = [row for conjunction in statement.violation for row in conjunction]
    small = all(abs(int(v)) < 1 << 31 for row in rows for v in (row.bound, *row.outputs, *(() if row.inputs is None else row.inputs)))
    if not small or any(row.outputs.shape != (outputs,) for row in rows):
        raise InputError(f"its statement does not fit the model {path}: rows that are not over its {outputs} outputs, or beyond 2^31")
    return Query(network, Box.of(statement.lo, statement.hi), Property(statement.violation, ""))


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


def _lines(certificate: Certificate, network: Network, outcome: Outcome) -> list[str]:
    if outcome.found is None:
        return ["rejected", f"  because    {outcome.reason}"]
    report, leaves = outcome.found
    closed = f"{report.interval_leaves} interval leaves, {report.bound_leaves} bound leaves"
    proved = [f"  proofs     {report.proved_leaves} leaves that a solver closed, by {leaves.checker}"] if report.proved_leaves else []
    first = "accepted" if report.complete else "accepted, but for what a solver closed" if outcome.trust_solver else "unchecked"
    unchecked = [f"  unchecked  node {node}, which a solver closed: {why}" for node, _, why in leaves.left]
    if unchecked:
        unchecked.append(
            "  trusted    the solver's word for these (--trust-solver)"
            if outcome.trust_solver
            else "  because    nothing shows what a solver said of these; --trust-solver takes its word"
        )
    return [
        first,
        f"  {'shown' if outcome.code == 0 else 'claimed':<10} {_claim(certificate, network)}",
        f"  semantics  {network.semantics}",
        f"  model      {_models_named(network)}",
        f"  checked    {report.claims} claims, {report.splits} splits, {closed}, {outcome.seconds:.2f} s",
        *proved,
        *unchecked,
        f"  trusted    the kernel (bvverify.certify), the model's loader, thresholds and interpreter, NumPy{_besides(network, leaves)}",
    ]


def _models_named(network: Network) -> str:
    """The model's file, or both of ``compare``."""
    from bvverify.model.certificate import AGAINST

    made = network.provenance
    paths, digests = (made.path.split(AGAINST), made.sha256.split(AGAINST)) if AGAINST in made.sha256 else ([made.path], [made.sha256])
    return AGAINST.join(f"{Path(p).name}, sha256 {s[:16]}" for p, s in zip(paths, digests, strict=True))


def _besides(network: Network, leaves: LeafReport) -> str:
    from bvverify.model.certificate import AGAINST, REALS
    from bvverify.proofs.leaves import TRUSTED

    joined = ", how compare puts two readings side by side" if network.provenance.format == "joint" else ""
    if network.semantics.endswith(AGAINST + REALS):
        joined += ", and the error of the integers that stand for a float network (bvverify.compare.approximate)"
    return joined + (f", {TRUSTED}, {leaves.checker}" if leaves.proved else "")


def _object(certificate: Certificate, network: Network, outcome: Outcome) -> dict[str, Any]:
    if outcome.found is None:
        return {"accepted": False, "reason": outcome.reason, "seconds": round(outcome.seconds, 6)}
    report, leaves = outcome.found
    return {
        "accepted": outcome.code == 0,
        "complete": report.complete,
        "shown" if outcome.code == 0 else "claimed": _claim(certificate, network),
        "semantics": network.semantics,
        "model_sha256": network.provenance.sha256,
        **asdict(report),
        "unchecked": [{"node": node, "conjunction": conjunction, "reason": why} for node, conjunction, why in leaves.left],
        "proof_checker": leaves.checker or None,
        "trust_solver": outcome.trust_solver,
        "seconds": round(outcome.seconds, 6),
        "trusted": [
            *["bvverify.certify", "bvverify.load", "bvverify.model", "bvverify.run", "numpy"],
            *(["bvverify.proofs", leaves.checker] if leaves.proved else []),
            *(["bvverify.compare", "bvverify.bounds"] if network.provenance.format == "joint" else []),
        ],
    }
