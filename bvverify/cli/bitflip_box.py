"""The work behind ``bvverify bitflip`` for a box of inputs, or for several parameters: search, check, print, save."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.bitflip import kernel, proof_file
from bvverify.bitflip.ask import Flip, Question, applied
from bvverify.bitflip.kernel import Report
from bvverify.bitflip.search import Found, search
from bvverify.bitflip.single import predicted
from bvverify.bitflip.written import all_written
from bvverify.cli.bitflip_report import Asked
from bvverify.cli.output import SCHEMA_VERSION, check_writable, emit, settle, write
from bvverify.cli.progress import ProgressLine
from bvverify.errors import BvverifyError, InternalError, UnsupportedError, UsageError
from bvverify.load.load import load
from bvverify.model.box import around
from bvverify.model.network import Network
from bvverify.pipeline import Options
from bvverify.run import replay

_CODES = {"verified": 0, "falsified": 10, "unknown": 5}
_SHOWN = 12


def question_of(asked: Asked, radius: int, parameters: int) -> Question:
    """What is asked, about every input within ``radius`` of the one that was given."""
    qtype = asked.network.input.tensor.qtype
    if not 0 <= radius <= qtype.hi - qtype.lo:
        raise UsageError(f"--radius {radius}: {qtype} has steps 0 to {qtype.hi - qtype.lo}")
    if parameters < 1:
        raise UsageError(f"--parameters {parameters}: at least one parameter is hit")
    kinds = tuple(dict.fromkeys(part.kind for part in asked.parts))
    layers = None if asked.given["layers"] is None else tuple(asked.given["layers"])
    label = predicted(asked.network, asked.x)
    return Question(asked.network, around(asked.x, radius, qtype), label, kinds, layers, asked.bits, parameters)


def answer(
    asked: Asked,
    question: Question,
    timeout: float | None,
    seed: int,
    *,
    as_json: bool,
    certificate: Path | None,
    witness: Path | None,
    flipped_file: Path | None,
) -> int:
    """Decide, check, print, save, and return the exit code."""
    check_writable(certificate, proof_file.SUFFIX)
    check_writable(witness, ".npy")
    check_writable(flipped_file, Path(asked.given["model"]).suffix)
    begun = time.monotonic()
    with ProgressLine() as progress:
        found = search(question, asked.x, timeout, Options(seed=seed), lambda line: progress("flips", line))
        seconds = time.monotonic() - begun
        report = _check(question, found, progress)
    described = _object(asked, question, found, report, seconds, time.monotonic() - begun - seconds)
    refused: BvverifyError | None = None
    try:
        if found.x is not None:
            described["replayed_by"] = _replay(asked, question, found, flipped_file)
            if flipped_file is not None:
                described["written"] = str(flipped_file)
            if witness is not None:
                with witness.open("wb") as file:
                    np.save(file, found.x)
        elif certificate is not None and found.verdict == "verified":
            write(certificate, proof_file.to_bytes(question, found.steps, found.certificates))
    except OSError as error:
        refused = UsageError(f"{witness}: cannot be written: {error.strerror}")
    except (UsageError, UnsupportedError) as error:
        refused = error
    if refused is not None:
        described["not_saved"] = str(refused)
    emit(json.dumps(described) if as_json else "\n".join(_lines(question, described)))
    return settle(_CODES[found.verdict], refused)


def check_proof(asked: Asked, question: Question, file: Path, *, as_json: bool) -> int:
    """Check a saved proof of what is asked."""
    steps, certificates = proof_file.read(file, question)
    begun = time.monotonic()
    about: dict[str, Any] = {"schema": SCHEMA_VERSION, "command": "bitflip", **asked.given, "semantics": asked.network.semantics}
    try:
        report = proof_file.checked(question, steps, certificates)
    except kernel.Rejected as why:
        emit(json.dumps(about | {"accepted": False, "reason": str(why)}) if as_json else f"rejected: {why}")
        return 6
    seconds = time.monotonic() - begun
    about |= {"accepted": True, "proof": _proof(report), "check_seconds": seconds}
    emit(json.dumps(about) if as_json else f"accepted: {_in_words(about['proof'])}, {seconds:.2f} s; {asked.network.semantics}")
    return 0


def _check(question: Question, found: Found, progress: ProgressLine) -> Report | None:
    if found.verdict != "verified":
        return None
    progress("check", f"the kernel checks {len(found.certificates)} certificates")
    try:
        return proof_file.checked(question, found.steps, found.certificates)
    except kernel.Rejected as why:
        raise InternalError(f"the kernel rejects our own proof: {why}; please report this") from None


def _flipped(question: Question, flips: tuple[Flip, ...]) -> Network:
    network = question.network
    for flip in flips:
        network = applied(network, question.parts(), flip)
    return network


def _replay(asked: Asked, question: Question, found: Found, file: Path | None) -> list[str]:
    """Who confirms the class that comes out: the interpreter, and the runtime on the flipped file, which is saved where asked for."""
    assert found.x is not None
    model, expected = Path(asked.given["model"]), question.violated(found.x, found.flips)
    try:
        content = all_written(model, asked.network, question.parts(), found.flips)
    except UnsupportedError:
        if file is not None:
            raise
        return ["the interpreter"]
    if file is not None:
        write(file, content)
    import tempfile

    with tempfile.TemporaryDirectory(prefix="bvverify-flips-") as folder:
        flipped = Path(folder) / f"flipped{model.suffix}"
        flipped.write_bytes(content)
        read = replay.reading(load(flipped, asked.network.semantics), found.x)
    if int(read.output.reshape(-1).argmax()) != expected:
        raise InternalError(f"{model}: the flipped file has another class than its flips were found to give: please report this")
    return ["the interpreter", *(f"{r.runtime} {r.version}" for r in read.replayed_by if r.agreed)]


def _proof(report: Report) -> dict[str, int]:
    certificates = report.certificates
    return {
        "choices": report.choices,
        "parts": report.leaves,
        "claims": certificates.claims,
        "leaves": certificates.interval_leaves + certificates.bound_leaves,
        "proved_leaves": certificates.proved_leaves,
    }


def _in_words(proof: dict[str, int]) -> str:
    proved = f", {proof['proved_leaves']} of them by proofs of a solver's" if proof["proved_leaves"] else ""
    return f"{proof['choices']:,} choices of units in {proof['parts']:,} parts, {proof['leaves'] + proof['proved_leaves']:,} leaves{proved}"


def _object(asked: Asked, question: Question, found: Found, report: Report | None, seconds: float, check_seconds: float) -> dict[str, Any]:
    described: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "command": "bitflip",
        "verdict": found.verdict,
        **asked.given,
        "label": question.label,
        "semantics": asked.network.semantics,
        "model_sha256": asked.network.provenance.sha256,
        "stored_parameters": sum(part.values.size for part in question.parts()),
        "stage": found.stage,
        "reason": found.reason,
        "nodes": found.nodes,
        "open": found.open_nodes,
        "seconds": seconds,
    }
    if report is not None:
        described |= {"proof": _proof(report), "check_seconds": check_seconds}
    if found.x is not None:
        parts = question.parts()
        moved = np.argwhere(found.x != asked.x)
        described |= {
            "class": question.violated(found.x, found.flips),
            "flips": [_described(asked.network, parts, flip) for flip in found.flips],
            "input_moved": [[place, int(asked.x[tuple(place)]), int(found.x[tuple(place)])] for place in moved.tolist()],
            "input_values": found.x.tolist(),
        }
    return described


def _described(network: Network, parts: list[Any], flip: Flip) -> dict[str, Any]:
    part = parts[flip.part]
    return {
        "layer": network.ops[part.op].name,
        "kind": part.kind,
        "index": list(flip.place),
        "bits": [b for b in range(part.bits) if flip.mask >> b & 1],
        "stored": int(part.values[flip.place]),
        "flipped": int(part.flipped(flip.mask)[flip.place]),
    }


def _lines(question: Question, described: dict[str, Any]) -> list[str]:
    bits = "one flipped bit" if question.bits == 1 else f"up to {question.bits} flipped bits"
    hit = "any one stored parameter" if question.parameters == 1 else f"each of up to {question.parameters} stored parameters"
    within = f" within radius {described['radius']}" if described["radius"] else ""
    lines = [
        described["verdict"],
        f"  asked      the class of {described['input']} stays {question.label}{within} with {bits} in {hit}",
    ]
    for flip in described.get("flips", ()):
        where = f"{flip['layer']} {flip['kind']}[{','.join(map(str, flip['index']))}]"
        lines.append(f"  flip       {where}, bit {' and '.join(map(str, flip['bits']))}: {flip['stored']} becomes {flip['flipped']}")
    if described["verdict"] == "falsified":
        if not described["flips"]:
            lines.append("  flip       none is needed: the network as it is violates the property in the box")
        moved = described["input_moved"]
        shown = ", ".join(f"{','.join(map(str, place))}: {a} to {b}" for place, a, b in moved[:_SHOWN])
        more = f" and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
        lines.append(f"  input      {f'moved at {shown}{more}' if moved else 'as it was given'}")
        lines.append(f"  class      {described['class']}")
        lines.append(f"  confirmed  by {', '.join(described.get('replayed_by', ['the interpreter']))}, on the flipped network")
    elif described["verdict"] == "verified":
        lines.append(f"  proof      {_in_words(described['proof'])}; checked by the kernel in {described['check_seconds']:.2f} s")
    else:
        lines.append(f"  why        {described['reason']}; {described['open']} parts are open, a longer --timeout may close them")
    lines.append(f"  decided    by {described['stage']}, {described['nodes']:,} questions, {described['seconds']:.2f} s")
    lines.append(f"  semantics  {described['semantics']}")
    lines.append(f"  model      {Path(described['model']).name}, sha256 {described['model_sha256'][:16]}")
    if "written" in described:
        lines.append(f"  written    {described['written']}, with the flips")
    return lines
