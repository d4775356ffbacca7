"""The work behind ``bvverify bitflip``: ask, try every flip with a live line, confirm, print, draw, list."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.bitflip import single
from bvverify.bitflip.single import BEYOND, Flips
from bvverify.bitflip.stored import KINDS, Kind, Stored, stored, with_flip
from bvverify.bitflip.written import written
from bvverify.cli import draw
from bvverify.cli.output import SCHEMA_VERSION, check_writable, emit, settle, write
from bvverify.cli.progress import ProgressLine
from bvverify.cli.question import read_input
from bvverify.errors import BvverifyError, InternalError, UnsupportedError, UsageError
from bvverify.load.load import load
from bvverify.model.network import Network
from bvverify.model.ops import Conv2d, Dense
from bvverify.model.types import AnyArray, Int64Array
from bvverify.run import replay

_MOST_BITS = 3
_WORST, _CONFIRMED = 10, 100
_ROWS, _COLUMNS = 16, 40
"""The largest picture of a layer, in characters: outputs down, inputs across (each two characters wide)."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What is asked, and in the user's own words (``given`` is echoed in JSON)."""

    network: Network
    x: Int64Array
    bits: int
    parts: list[Stored]
    given: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Flip:
    """One flip that changes the class: the parameter, the bits, both integers, the class that it makes."""

    layer: str
    kind: Kind
    index: list[int]
    bits: list[int]
    stored: int
    flipped: int
    to: int


def ask(
    model: Path, source: str, radius: int | None, bits: int, parameters: int, which: str, layers: list[str] | None, semantics: str | None
) -> Asked:
    """What the arguments ask."""
    if not 1 <= bits <= _MOST_BITS:
        raise UsageError(f"--bits {bits}: 1 to {_MOST_BITS} bits of a parameter are tried, in every combination")
    network = load(model, semantics)
    have = [op.name for op in network.ops if isinstance(op, Dense | Conv2d)]
    for name in layers or ():
        if name not in have:
            raise UsageError(f"--layer {name}: {model} has no layer of that name that holds parameters; it has {', '.join(have)}")
    kinds = {"both": KINDS, "weights": KINDS[:1], "biases": KINDS[1:]}[which]
    parts = stored(network, kinds, layers)
    if not parts:
        raise UsageError(f"--stored {which}: {model} stores none as integers")
    given = {
        "model": str(model), "input": source, "radius": radius or 0, "bits": bits, "hit": parameters, "stored": which, "layers": layers,
    }  # fmt: skip
    return Asked(network, read_input(network, source).x, bits, parts, given)


def answer(asked: Asked, *, as_json: bool, listing: Path | None, flipped_file: Path | None) -> int:
    """Try every flip, print what is found, save the list and the flipped model, and return the exit code."""
    check_writable(listing, ".csv")
    check_writable(flipped_file, Path(asked.given["model"]).suffix)
    begun = time.monotonic()
    label = single.predicted(asked.network, asked.x)
    with ProgressLine() as progress:
        found = [single.find(asked.network, asked.x, part, asked.bits, lambda line: progress("flips", line)) for part in asked.parts]
        worst = _worst(asked.network, found)
        _confirm(asked, found, worst, label)
    seconds = time.monotonic() - begun
    refused: BvverifyError | None = None
    replayed: list[str] | None = None
    try:
        if listing is not None:
            write(listing, _csv(asked.network, found))
        if flipped_file is not None and worst:
            replayed = _write_flipped(asked, found, worst[0][0], flipped_file)
    except (UsageError, UnsupportedError) as error:
        refused = error
    changing, beyond = sum(f.count for f in found), sum(int((f.outcome == BEYOND).sum()) for f in found)
    verdict, code = ("falsified", 10) if changing else ("unknown", 5) if beyond else ("verified", 0)
    described = _object(asked, found, worst, verdict, label, seconds) | ({} if refused is None else {"not_saved": str(refused)})
    if replayed is not None:
        described |= {"written": str(flipped_file), "replayed_by": replayed}
    lines = _lines(asked, found, described, None if refused else listing)
    emit(json.dumps(described) if as_json else "\n".join(lines))
    return settle(code, refused)


def _each(network: Network, flips: Flips) -> Iterator[Flip]:
    """The flips that change the class, by parameter and then by mask."""
    part, masks = flips.part, flips.masks.tolist()
    after = {k: part.flipped(mask) for k, mask in enumerate(masks)}
    for *place, k in np.argwhere(np.moveaxis(flips.outcome >= 0, 0, -1)).tolist():
        at = tuple(place)
        bits = [b for b in range(part.bits) if masks[k] >> b & 1]
        to = int(flips.outcome[k, *at])
        yield Flip(network.ops[part.op].name, part.kind, place, bits, int(part.values[at]), int(after[k][at]), to)


def _worst(network: Network, found: list[Flips]) -> list[tuple[Flip, int]]:
    """Of the parameters of which most flips change the class one flip each, of the fewest and lowest bits; and how many do."""
    ranked = []
    for number, flips in enumerate(found):
        counts = (flips.outcome >= 0).sum(axis=0)
        for flat in np.argsort(-counts, axis=None, kind="stable")[:_WORST].tolist():
            place = np.unravel_index(flat, counts.shape)
            if counts[place]:
                ranked.append((-int(counts[place]), number, tuple(int(i) for i in place)))
    out = []
    for count, number, place in sorted(ranked)[:_WORST]:
        flips = found[number]
        k = int(np.flatnonzero(np.moveaxis(flips.outcome, 0, -1)[place] >= 0)[0])
        bits = [b for b in range(flips.part.bits) if int(flips.masks[k]) >> b & 1]
        after, to = int(flips.part.flipped(int(flips.masks[k]))[place]), int(flips.outcome[k, *place])
        name = network.ops[flips.part.op].name
        out.append((Flip(name, flips.part.kind, list(place), bits, int(flips.part.values[place]), after, to), -count))
    return out


def _confirm(asked: Asked, found: list[Flips], worst: list[tuple[Flip, int]], label: int) -> None:
    """Run whole networks with single flips: the worst ones, and others of every kind of outcome drawn by a fixed seed."""
    rng, of_name = np.random.default_rng(0), {(asked.network.ops[f.part.op].name, f.part.kind): f for f in found}
    chosen = [(of_name[flip.layer, flip.kind], sum(1 << b for b in flip.bits), tuple(flip.index), flip.to) for flip, _ in worst]
    for flips in found:
        hits = np.flatnonzero(flips.outcome.reshape(-1) >= 0)
        some = rng.permutation(hits)[: _CONFIRMED // (2 * len(found)) + 1]
        others = rng.integers(0, flips.outcome.size, _CONFIRMED // (2 * len(found)) + 1)
        for flat in (*some.tolist(), *others.tolist()):
            k, *at = (int(i) for i in np.unravel_index(flat, flips.outcome.shape))
            to = int(flips.outcome[k, *at])
            if to != BEYOND:
                chosen.append((flips, int(flips.masks[k]), tuple(at), label if to < 0 else to))
    for flips, mask, place, to in chosen:
        if single.predicted(with_flip(asked.network, flips.part, place, mask), asked.x) != to:
            raise InternalError("a flipped network, run whole, has another class than its flip was found to give: please report this")


def _write_flipped(asked: Asked, found: list[Flips], flip: Flip, file: Path) -> list[str]:
    """Save the model with a flip in it, and have it run as it lies there: by the interpreter, and by the format's runtime."""
    part = next(f.part for f in found if (asked.network.ops[f.part.op].name, f.part.kind) == (flip.layer, flip.kind))
    content = written(Path(asked.given["model"]), asked.network, part, tuple(flip.index), sum(1 << b for b in flip.bits))
    write(file, content)
    read = replay.reading(load(file, asked.network.semantics), asked.x)
    if int(read.output.reshape(-1).argmax()) != flip.to:
        raise InternalError(f"{file}: the flipped file, run whole, has another class than its flip was found to give: please report this")
    return ["the interpreter", *(f"{r.runtime} {r.version}" for r in read.replayed_by if r.agreed)]


def _csv(network: Network, found: list[Flips]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["layer", "kind", "index", "bits", "stored", "flipped", "class"])
    for flips in found:
        for flip in _each(network, flips):
            place, bits = (" ".join(map(str, v)) for v in (flip.index, flip.bits))
            writer.writerow([flip.layer, flip.kind, place, bits, flip.stored, flip.flipped, flip.to])
    return out.getvalue().encode()


def _of_layer(network: Network, flips: Flips) -> dict[str, Any]:
    changes = flips.outcome >= 0
    by_mask = changes.reshape(len(changes), -1).sum(axis=1)
    return {
        "layer": network.ops[flips.part.op].name,
        "kind": flips.part.kind,
        "bits": flips.part.bits,
        "parameters": int(flips.part.values.size),
        "flips": int(changes.size),
        "changing": flips.count,
        "vulnerable": int(changes.any(axis=0).sum()),
        "beyond": int((flips.outcome == BEYOND).sum()),
        "by_bit": [int(by_mask[(flips.masks >> b & 1) == 1].sum()) for b in range(flips.part.bits)],
    }


def _object(asked: Asked, found: list[Flips], worst: list[tuple[Flip, int]], verdict: str, label: int, seconds: float) -> dict[str, Any]:
    layers = [_of_layer(asked.network, f) for f in found]
    total = {key: sum(layer[key] for layer in layers) for key in ("parameters", "flips", "changing", "vulnerable", "beyond")}
    ranked = [
        {
            "layer": flip.layer,
            "kind": flip.kind,
            "index": flip.index,
            "bits": flip.bits,
            "stored": flip.stored,
            "flipped": flip.flipped,
            "class": flip.to,
            "flips": count,
        }
        for flip, count in worst
    ]
    return {
        "schema": SCHEMA_VERSION,
        "command": "bitflip",
        "verdict": verdict,
        **asked.given,
        "label": label,
        "semantics": asked.network.semantics,
        "model_sha256": asked.network.provenance.sha256,
        **total,
        "by_layer": layers,
        "worst": ranked,
        "seconds": seconds,
    }


def _lines(asked: Asked, found: list[Flips], described: dict[str, Any], listing: Path | None) -> list[str]:
    given, label = asked.given, described["label"]
    bits = f"up to {asked.bits} flipped bits" if asked.bits > 1 else "one flipped bit"
    lines = [
        described["verdict"],
        f"  asked      the class of {given['input']} stays {label} with {bits} in any one stored parameter",
        f"  flips      {described['flips']:,} tried, in {described['parameters']:,} parameters, {described['seconds']:.2f} s",
    ]
    if described["changing"]:
        lines.append(f"  change     {described['changing']:,} of them change the class, in {described['vulnerable']:,} parameters")
    if described["beyond"]:
        lines.append(f"  beyond     {described['beyond']:,} drive an accumulator beyond what the runtime is modelled for: not decided")
    lines.append("  confirmed  by the interpreter on whole networks: the worst flips, and a sample of all")
    lines.append(f"  semantics  {described['semantics']}")
    lines.append(f"  model      {Path(given['model']).name}, sha256 {described['model_sha256'][:16]}")
    if listing is not None:
        lines.append(f"  saved      {listing}")
    if "written" in described:
        lines.append(f"  written    {described['written']}, with the worst flip: replayed by {', '.join(described['replayed_by'])}")
    lines += ["", *_table(described["by_layer"])]
    if described["worst"]:
        lines += ["", "worst parameters (flips that change the class, and one of them)"]
        for w in described["worst"]:
            bits = " and ".join(map(str, w["bits"]))
            lines.append(
                f"  {w['layer']} {w['kind']}{w['index']}: {w['flips']}; bit {bits} makes {w['flipped']} of {w['stored']}: {w['class']}"
            )
    for flips in found:
        if flips.part.kind == "weight" and flips.count:
            lines += ["", f"vulnerable weights of {asked.network.ops[flips.part.op].name} (outputs down, inputs across)", *_picture(flips)]
    return lines


def _table(layers: list[dict[str, Any]]) -> list[str]:
    """Flips that change the class by layer and bit; of biases, of which there are 32, by the byte."""
    width = max(len(f"{row['layer']} {row['kind']}") for row in layers)
    rows = [f"{'by bit':{width + 2}}{'':>10} {'parameters':>11}  " + "".join(f"{b:>8}" for b in range(8))]
    for row in layers:
        counts = row["by_bit"] if row["bits"] <= 8 else []
        cells = "".join(f"{count:>8}" for count in counts)
        if not counts:
            cells = "  bytes" + "".join(f"{sum(row['by_bit'][k : k + 8]):>8}" for k in range(0, row["bits"], 8))
        rows.append(f"  {row['layer'] + ' ' + row['kind']:{width}}{row['changing']:>10} {row['parameters']:>11}  {cells}")
    return rows


def _picture(flips: Flips) -> list[str]:
    counts = (flips.outcome >= 0).sum(axis=0).reshape(len(flips.part.values), -1)
    small = _largest(counts, _ROWS, _COLUMNS)
    return [f"  {line}" for line in draw.image(small, int(small.max()), blocks=draw.unicode(), colour=False)]


def _largest(counts: AnyArray, rows: int, columns: int) -> AnyArray:
    """A smaller grid: the largest count of each part."""
    for axis, most in ((0, rows), (1, columns)):
        size = counts.shape[axis]
        if size > most:
            counts = np.maximum.reduceat(counts, np.linspace(0, size, most, endpoint=False).astype(np.int64), axis=axis)
    return counts
