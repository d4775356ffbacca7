"""``bvverify report``: results as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bvverify.cli import options as o

if TYPE_CHECKING:
    from bvverify.explain.page.results import Shown
    from bvverify.model.certificate import Certificate
    from bvverify.model.network import Network
    from bvverify.model.query import Query

NAME = "report"
_DECIDING = ("verify", "robust", "attack")


def command(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT.json",
            show_default=False,
            help="A result of robust, verify or attack: --json or --witness FILE.json.",
        ),
    ],
    html: Annotated[Path, typer.Option("--html", metavar="FILE", show_default=False, help="The page; - is stdout.")],
    model: Annotated[Path | None, typer.Option("--model", metavar="MODEL", help="The model, if it has moved since.")] = None,
    allow_pickle: o.AllowPickle = False,
    json: o.Json = False,
) -> int:
    """Make a page of results, down to the bits.

    One self-contained HTML file that needs no network: the verdict, the images, the layers, every neuron's
    calculation with a rounding rule, zero point and multiplier to change, the branch-and-bound tree of the
    certificate. Several results share a page. The model is read again and must have the recorded SHA-256; witnesses
    are replayed and certificates checked before they are shown.

    Example: bvverify report result.json --html result.html

    Exit codes: 0 done, 1 usage, 2 unreadable file.
    """
    import json as json_module

    from bvverify.cli.output import SCHEMA_VERSION, check_writable, emit, write
    from bvverify.errors import UsageError
    from bvverify.explain.page.document import document
    from bvverify.explain.page.results import page_data

    to_stdout = str(html) == "-"
    if to_stdout and json:
        raise UsageError("--html - and --json both print to stdout; name a file")
    check_writable(None if to_stdout else html)
    shown = [_shown(file, model) for file in results]
    title = f"bvverify: {shown[0].data['verdict']}" if len(shown) == 1 else f"bvverify: {len(shown)} results"
    page = document(page_data(shown), title)
    if to_stdout:
        emit(page.rstrip("\n"))
        return 0
    write(html, page)
    if json:
        verdicts = [{"file": s.file, "verdict": s.data["verdict"]} for s in shown]
        about = {"schema_version": SCHEMA_VERSION, "command": NAME, "html": str(html), "bytes": len(page.encode()), "results": verdicts}
        emit(json_module.dumps(about))
    else:
        emit(f"{html}: {len(shown)} result{'' if len(shown) == 1 else 's'}, {len(page.encode()) // 1024} KiB")
    return 0


def _shown(file: Path, model: Path | None) -> Shown:
    """A result with everything in it that is shown: the network, the question, the replayed witness, the checked certificates."""
    from bvverify.cli.claim import Claim
    from bvverify.cli.witness_file import replayed
    from bvverify.errors import InputError
    from bvverify.explain.page.results import Shown

    claim = Claim(file, "report")
    data = claim.data
    if data.get("command") not in _DECIDING or data.get("verdict") not in ("verified", "falsified", "unknown"):
        raise InputError(f"{file}: holds no result of {', '.join(_DECIDING)} (command is {data.get('command')!r})")
    _check_fields(file, data)
    network = claim.network(model)
    if data["verdict"] == "falsified":
        query, x = replayed(claim, network)
        return Shown(str(file), data, network, query, x)
    queries = _asked(file, data, network)
    return Shown(str(file), data, network, queries[0], None, _certificates(file, data, queries))


def _check_fields(file: Path, data: dict[str, Any]) -> None:
    """``InputError`` unless the fields that the page prints are of their types."""
    from bvverify.errors import InputError

    kinds = {"asked": dict, "property": dict, "stages": list, "seconds": int | float, "checked": dict | None, "versions": dict | None}
    for name, kind in kinds.items():
        if not isinstance(data.get(name), kind):
            raise InputError(f"{file}: {name} is missing or not what it should be")
    stages = all(isinstance(s, dict) and "stage" in s and isinstance(s.get("seconds"), int | float) for s in data["stages"])
    counts = ("claims", "splits", "interval_leaves", "bound_leaves", "solver_leaves")
    if not stages or not isinstance(data["asked"].get("model"), str):
        raise InputError(f"{file}: stages or asked.model is not what it should be")
    if data["checked"] is not None and not all(isinstance(data["checked"].get(name), int) for name in counts):
        raise InputError(f"{file}: checked does not count {', '.join(counts)}")


def _asked(file: Path, data: dict[str, Any], network: Network) -> tuple[Query, ...]:
    """The question of a result without a witness, asked again from the files that it names."""
    from bvverify.cli.question import ask
    from bvverify.errors import BvverifyError, InputError

    asked = data["asked"]
    prop, source, radius, epsilon, label, clip = (asked.get(n) for n in ("property", "input", "radius", "epsilon", "label", "clip"))
    texts = all(value is None or isinstance(value, str) for value in (prop, source, epsilon, clip))
    integers = all(value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in (radius, label))
    if not texts or not integers:
        raise InputError(f"{file}: asked is not what it should be")
    path = Path(network.provenance.path)
    try:
        queries = ask(path, None if prop is None else Path(prop), source, radius, epsilon, label, network.semantics, clip).queries
    except BvverifyError as error:
        raise InputError(f"{file}: its question cannot be asked again: {error}") from error
    if not queries or queries[0].property.text != data["property"].get("text"):
        raise InputError(f"{file}: its question has changed since: {data['property'].get('text')!r} was asked")
    return queries


def _certificates(file: Path, data: dict[str, Any], queries: tuple[Query, ...]) -> tuple[tuple[Query, Certificate], ...]:
    """The certificates that the result names, each with its question, accepted by the kernel; none where it names none."""
    from bvverify.certify import kernel
    from bvverify.errors import InputError
    from bvverify.load import certificate_file

    named = data.get("certificate") or []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise InputError(f"{file}: certificate is no list of files")
    if named and len(named) != len(queries):
        raise InputError(f"{file}: {len(named)} certificates for {len(queries)} boxes")
    found = []
    for name, query in zip(named, queries, strict=False):
        path = Path(name) if Path(name).is_file() else file.parent / Path(name).name
        certificate = certificate_file.read(path)
        try:
            kernel.check(certificate, query)
        except kernel.Rejected as rejected:
            raise InputError(f"{path}: not the certificate of {file}: the kernel rejects it: {rejected}") from None
        found.append((query, certificate))
    return tuple(found)
