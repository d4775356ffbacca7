"""Results as plain JSON data for the page: the verdict in words, inputs and every tensor that the interpreter makes of them, the proof."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.explain.page.networks import encode_array, network_data
from bvverify.explain.page.tree import tree_data
from bvverify.model.certificate import Certificate
from bvverify.model.network import Network
from bvverify.model.query import Query
from bvverify.model.types import Int64Array
from bvverify.run import interpreter

MOST_VALUES = 1 << 20
"""Values of one input's tensors that a page holds; tensors beyond it are named only."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What a page shows of one result.

    ``data`` is the object that ``--json`` printed. ``query`` is the question: the one that the witness answers, or the first of several.
    ``witness`` has been replayed by the interpreter, ``certificates`` (with the query of each) have been accepted by the kernel.
    """

    file: str
    data: dict[str, Any]
    network: Network
    query: Query
    witness: Int64Array | None = None
    certificates: tuple[tuple[Query, Certificate], ...] = ()


def page_data(results: list[Shown]) -> dict[str, Any]:
    """Everything that the page holds; a network that several results share is there once."""
    networks: dict[tuple[str, str], int] = {}
    described = []
    for shown in results:
        key = shown.network.provenance.sha256, shown.network.semantics
        if key not in networks:
            networks[key] = len(networks)
            described.append(network_data(shown.network))
    return {
        "networks": described,
        "results": [_result(s) | {"network": networks[s.network.provenance.sha256, s.network.semantics]} for s in results],
    }


def _result(shown: Shown) -> dict[str, Any]:
    data, query = shown.data, shown.query
    centre = query.nominal is None
    reference = (query.box.lo + query.box.hi) // 2 if query.nominal is None else query.nominal
    return {
        "verdict": data["verdict"],
        "sentence": sentence(shown),
        "holds_for": f"{data['semantics']} ({', '.join(shown.network.requantisations()) or 'no requantisation'})",
        "because": str(data.get("reason", "")),
        "facts": _facts(shown),
        "trust": _trust(shown),
        "stages": [
            {"stage": str(s["stage"]), "seconds": float(s["seconds"]), "verdict": s.get("verdict"), "detail": str(s.get("detail", ""))}
            for s in data["stages"]
        ],
        "seconds": float(data["seconds"]),
        "command": command(data),
        "label": query.property.label,
        "box": {"lo": encode_array(query.box.lo), "hi": encode_array(query.box.hi)},
        "reference": {"name": "centre of the box" if centre else "original"} | _reading(shown.network, reference),
        "witness": None if shown.witness is None else {"name": "adversarial"} | _reading(shown.network, shown.witness),
        "trees": [tree_data(q, c) for q, c in shown.certificates],
        "no_tree": _no_tree(shown),
    }


def _reading(network: Network, x: Int64Array) -> dict[str, Any]:
    """Every tensor of the interpreter for one input; None for those that are too large to show."""
    left, tensors = MOST_VALUES, []
    for tensor in interpreter.trace(network, x[None]):
        tensors.append(encode_array(tensor[0]) if tensor.size <= left else None)
        left -= tensor.size if tensor.size <= left else 0
    return {"tensors": tensors}


def sentence(shown: Shown) -> str:
    """The verdict, what it is about and for which inputs."""
    data, label = shown.data, shown.query.property.label
    text = shown.query.property.text if label is None else f"the class stays {label}"
    asked = data["asked"]
    if "property" in asked:
        where = f"in the box{'es' if len(shown.certificates) > 1 else ''} of {Path(str(asked['property'])).name}"
    else:
        radius = asked.get("radius")
        reach = f"{asked.get('epsilon')} (real)" if radius is None else f"{radius} integer step{'' if radius == 1 else 's'}"
        clip = "" if asked.get("clip") is None else f", values within [{asked.get('clip')}]"
        where = f"within {reach} of {Path(str(asked.get('input'))).name}{clip}"
    match data["verdict"]:
        case "verified":
            return f"{text[:1].upper() + text[1:]} for every input {where}."
        case "falsified" if label is not None and shown.witness is not None:
            found = int(interpreter.run(shown.network, shown.witness[None]).ravel().argmax())
            return f"An input {where} is class {found} instead of {label}."
        case "falsified":
            return f"An input {where} violates the property."
        case _:
            return f"Not decided: whether {text} for every input {where}."


def _facts(shown: Shown) -> list[list[str]]:
    data, network = shown.data, shown.network
    made = network.provenance
    facts = [["model", f"{Path(made.path).name}, sha256 {made.sha256[:16]}…"], ["property", shown.query.property.text]]
    facts.append(["box", str(shown.query.box)])
    if shown.witness is not None and shown.query.nominal is not None:
        moved = np.abs(shown.witness - shown.query.nominal)
        facts.append(["changed", f"{np.count_nonzero(moved)} of {moved.size} input values, by up to {int(moved.max())}"])
    if network.output.stripped is not None:
        facts.append(["outputs of", f"what the final {network.output.stripped} reads: the verdict is about the logits"])
    facts += [["subproblems", str(data.get("nodes", 0))], ["seed", str(data.get("seed", 0))]]
    versions = data.get("versions") or {}
    return [*facts, ["versions", ", ".join(f"{name} {version}" for name, version in versions.items())]]


def _trust(shown: Shown) -> list[str]:
    """What the verdict rests on, in plain sentences."""
    data = shown.data
    match data["verdict"]:
        case "falsified":
            witness = data.get("witness") or {}
            lines = ["The exact interpreter computed the outputs of the adversarial input again when this page was made."]
            for replay in witness.get("replays") or []:
                agreed = {True: "gave the same outputs", False: "gave other outputs"}.get(replay.get("agreed"), str(replay.get("detail")))
                lines.append(f"{replay.get('runtime')} {replay.get('version')}: {agreed}.")
            return lines
        case "verified":
            checked = data.get("checked")
            if checked is None:
                return ["The kernel was not asked to check this verdict (--no-check)."]
            leaves = f"{checked['interval_leaves']} interval leaves, {checked['bound_leaves']} bound leaves"
            counts = f"{checked['claims']} claims, {checked['splits']} splits, {leaves}"
            lines = [f"The kernel accepted the proof in exact integers: {counts}."]
            if shown.certificates:
                lines.append("It accepted the saved certificate again when this page was made.")
            if checked.get("proved_leaves"):
                lines.append(f"{checked['proved_leaves']} leaves that a solver closed have a proof in clauses, which was checked.")
            if checked["solver_leaves"]:
                lines.append(f"{checked['solver_leaves']} leaves rest on the bit-vector solver's word.")
            return [*lines, "Trusted: the kernel, the model's loader, its thresholds and the interpreter, NumPy."]
        case _:
            return ["Nothing was shown: an input that violates the property may exist or not."]


def _no_tree(shown: Shown) -> str:
    match shown.data["verdict"]:
        case "verified" if not shown.certificates:
            return "The result names no certificate; decide it with --certificate FILE to see the tree here."
        case "unknown":
            return "A result that decided nothing has no certificate, and its open subproblems are not stored."
        case _:
            return ""


def command(data: dict[str, Any]) -> str:
    """The command line that asks the same question again; limits of time, memory and nodes are not recorded in a result."""
    asked = data["asked"]
    words = ["bvverify", str(data["command"]), str(asked["model"])]
    if "property" in asked:
        words.append(str(asked["property"]))
    for name in ("input", "radius", "epsilon", "clip", "label"):
        if asked.get(name) is not None:
            words += [f"--{name}", str(asked[name])]
    words += ["--semantics", str(data["semantics"]), "--seed", str(data.get("seed", 0))]
    if str(asked["model"]).endswith((".pt", ".pth")):
        words.append("--allow-pickle")
    return shlex.join(words)
