"""A crosscheck as one HTML page without scripts: the counts, and every refutation to be opened, seen and traced to the bit.

Nothing is fetched. Each refutation's question is asked again here, and its witness run again, so that what the page shows is what the
interpreter computes.
"""

from __future__ import annotations

import base64
import html
import io
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bvverify.cli import batch_row, crosscheck_run, crosscheck_table, trace_text
from bvverify.cli.batch_row import Task
from bvverify.crosscheck.judge import Status
from bvverify.crosscheck.summary import Summary
from bvverify.errors import BvverifyError, InputError
from bvverify.explain.neuron import Run, calculate
from bvverify.load.claims import Claim
from bvverify.load.instances import Instance
from bvverify.model.network import Network
from bvverify.model.ops import Concat, Reshape, Transpose
from bvverify.model.query import Query
from bvverify.model.types import AnyArray, Int64Array
from bvverify.run import replay

_OPENED = (Status.REFUTED, Status.NOT_REPLAYED, Status.ERROR)
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif } body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } th, td { padding: .15rem .7rem; text-align: right }
th { border-bottom: 1px solid; font-weight: 600 } td.text, th.text { text-align: left }
th, td.name { white-space: nowrap } .scroll { overflow-x: auto }
details { border-top: 1px solid #8886; padding: .35rem 0 } details details { margin-left: 1.2rem } summary { cursor: pointer }
figure { display: inline-block; margin: .5rem 1rem .5rem 0 } figcaption { font-size: .85rem }
img { width: 168px; image-rendering: pixelated; border: 1px solid #8886 } pre { overflow-x: auto; font-size: .85rem }
mark { background: #c03; color: #fff; padding: 0 .4rem; border-radius: .2rem }
"""


def page(claims: Sequence[Claim], lines: Sequence[Mapping[str, Any]], summary: Summary, task: crosscheck_run.MakeTask) -> str:
    """The page for judged claims; ``task`` asks a row's question as it was decided."""
    total = summary.total()
    body = [f"<h1>{total[Status.REFUTED]} of {len(lines)} claims refuted</h1>", _table(summary)]
    for status in _OPENED:
        rows = [line for line in lines if line["status"] == status]
        if rows:
            body.append(f"<h2>{html.escape(str(status).capitalize())}: {len(rows)}</h2>")
            body += [_entry(line, task(claims[line["row"] - 1].instance)) for line in rows]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>bvverify crosscheck</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _table(summary: Summary) -> str:
    header, *rows = crosscheck_table.rows(summary)
    left = [" class=text" if name in crosscheck_table.LEFT else "" for name in header]

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}{side}>{html.escape(cell)}</{tag}>" for side, cell in zip(left, cells, strict=True)) + "</tr>"

    note = "<p>claimed and ours: robust/non-robust. Seconds are ours, each question's once.</p>"
    return f'<div class="scroll"><table>{row(header, "th")}{"".join(row(cells, "td") for cells in rows)}</table></div>{note}'


def _entry(line: Mapping[str, Any], task: Task) -> str:
    asked = f"row {line['row']}: {crosscheck_run.question(line)}"
    inner = [f"<p>{html.escape(crosscheck_run.grounds(line))}</p>", _facts(line, task.instance)]
    if line["status"] != Status.ERROR:
        try:
            inner += _seen(batch_row.ask(task), line)
        except BvverifyError as error:
            inner.append(f"<p>It cannot be shown: {html.escape(str(error))}</p>")
    return f"<details><summary><mark>{html.escape(line['status'])}</mark> {html.escape(asked)}</summary>\n{''.join(inner)}</details>"


def _facts(line: Mapping[str, Any], instance: Instance) -> str:
    found = line.get("claimed_witness_check") or {}
    facts = {
        "source": line.get("source"),
        "claimed": line.get("claim"),
        "seconds claimed": line.get("claimed_seconds"),
        "the claimed witness": found.get("problem"),
        "of its file": found.get("note"),
        "decided by": f"{line['stage']}, {line['seconds']:.3f} s" if line["stage"] else None,
        "where the ILP and the device part": (line.get("difference") or {}).get("text"),
        "semantics": line["semantics"],
        "the kernel": crosscheck_run.about_check(line["checked"]) if line.get("checked") else None,
        "proof": " ".join(line.get("proof") or ()),
        "again": _command(line, instance),
    }
    rows = [f"<tr><td class='text name'>{k}</td><td class=text>{html.escape(str(v))}</td></tr>" for k, v in facts.items() if v]
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _command(line: Mapping[str, Any], instance: Instance) -> str:
    """The command that asks the same question alone."""
    if instance.property is not None:
        words = ["verify", str(instance.model), str(instance.property)]
    else:
        words = ["robust", str(instance.model), "--input", instance.input, "--radius", str(instance.radius)]
        words += [] if instance.label is None else ["--label", str(instance.label)]
    return shlex.join(["bvverify", *words, *(["--semantics", line["semantics"]] if line["semantics"] else [])])


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """An input (the input tensor's shape) with its name, and its run."""

    name: str
    x: Int64Array
    run: Run


def _seen(queries: Sequence[Query], line: Mapping[str, Any]) -> Iterator[str]:
    """The clean input, the claimed one and the witness beside each other, their outputs, and how those come about."""
    network, query = queries[0].network, queries[0]
    clean = query.nominal if query.nominal is not None else (query.box.lo + query.box.hi) >> 1
    inputs = {"the clean input" if query.nominal is not None else "the middle of the box": clean}
    claimed, witness = (line.get("claimed_witness_check") or {}).get("input"), line["witness"]
    if claimed is not None:
        inputs["the claimed input"] = np.array(claimed, np.int64).reshape(clean.shape)
    if witness is not None:
        x = np.array(witness, np.int64).reshape(clean.shape)
        if not any(replay.violates(q, x[None])[0] for q in queries):
            raise InputError(
                "the witness of its line does not replay: the model has changed since; delete the line to have it decided again"
            )
        if witness != claimed:
            inputs["the witness"] = x
    qtype = network.input.tensor.qtype
    shown = [
        _Shown(name, x, Run.of(network, replay.file_input(network, x)))
        for name, x in inputs.items()
        if qtype.lo <= x.min() and x.max() <= qtype.hi  # the device has no other inputs
    ]
    yield from _pictures(shown, query)
    yield _outputs(shown, query)
    told = _told(network, shown)
    for one in shown:
        yield f"<details><summary>trace of {one.name}</summary>{''.join(_trace(one.run, told))}</details>"


def _pictures(shown: Sequence[_Shown], query: Query) -> Iterator[str]:
    clean = shown[0]
    for one in shown:
        moved = np.abs(one.x - clean.x)
        about = f": {np.count_nonzero(moved)} of {moved.size} values differ, by up to {int(moved.max())}" if one is not clean else ""
        pictures = [(f"{one.name}{about}", _grey(one.x, query))]
        if one is not clean:
            pictures.append((f"{one.name}, difference (red: more, blue: less)", _change(one.x - clean.x)))
        for title, picture in pictures:
            if picture is not None:
                yield f'<figure><img alt="" src="{_png(picture)}"><figcaption>{title}</figcaption></figure>'
            elif about:
                yield f"<p>{title}.</p>"


def _outputs(shown: Sequence[_Shown], query: Query) -> str:
    """What is asked, and a row of outputs for each input, the largest marked."""
    head = "".join(f"<th>{i}</th>" for i in range(shown[0].run.output.size))
    rows = []
    for one in shown:
        winner = int(one.run.output.argmax())
        cells = "".join(f"<td><b>{v}</b></td>" if i == winner else f"<td>{v}</td>" for i, v in enumerate(one.run.output))
        rows.append(f"<tr><td class='text name'>{one.name}: class {winner}</td>{cells}</tr>")
    asked = f"<p>Asked: {html.escape(query.property.text)}.</p>"
    return f'{asked}<div class="scroll"><table><tr><th class=text>outputs</th>{head}</tr>{"".join(rows)}</table></div>'


def _told(network: Network, shown: Sequence[_Shown]) -> list[tuple[int, tuple[int, ...]]]:
    """The neurons whose calculations are shown: of each layer the one that moves furthest, and the winners of the output."""
    last = network.output.tensor
    told = []
    for index in range(1, last):
        if isinstance(network.ops[index - 1], Reshape | Transpose | Concat):
            continue  # numbers are moved, none is computed
        moved = np.abs(shown[-1].run.tensors[index] - shown[0].run.tensors[index])
        told.append((index, int(moved.argmax())))
    told += [(last, i) for i in dict.fromkeys(int(one.run.output.argmax()) for one in shown)]
    return [(index, tuple(int(i) for i in np.unravel_index(at, network.tensors[index].shape))) for index, at in told]


def _trace(run: Run, told: Sequence[tuple[int, tuple[int, ...]]]) -> Iterator[str]:
    for index, element in told:
        lines = trace_text.calculation(calculate(run, index, element), trace_text.Ink(False))
        yield f"<pre>{html.escape(chr(10).join(lines))}</pre>"


def _image(x: Int64Array) -> Int64Array | None:
    """(height, width) where a tensor is a grey picture: one channel, or flat and square."""
    if x.ndim == 3 and x.shape[0] == 1:
        return x[0]
    side = math.isqrt(x.size)
    return x.reshape(side, side) if x.ndim == 1 and side * side == x.size and side >= 4 else None


def _grey(x: Int64Array, query: Query) -> AnyArray | None:
    """Grey levels over the range that the input's type and its picture share."""
    picture, qtype = _image(x), query.network.input.tensor.qtype
    if picture is None:
        return None
    lo = max(qtype.lo, min(0, int(query.box.lo.min())))
    # Digits of 16 grey levels in an 8-bit type would all be black.
    hi = max(lo + 1, int(query.box.hi.max()))
    grey = np.clip((picture - lo) * 255 // (hi - lo), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _change(d: Int64Array) -> AnyArray | None:
    """Red where values rise, blue where they fall."""
    picture = _image(d)
    if picture is None:
        return None
    strength = np.abs(picture) * 255 // max(1, int(np.abs(picture).max()))
    fade = (255 - strength).astype(np.uint8)
    full = np.full_like(fade, 255)
    up = picture >= 0
    return np.stack([np.where(up, full, fade), fade, np.where(up, fade, full)], axis=2)


def _png(picture: AnyArray) -> str:
    """A data URI of an RGB picture (height, width, 3), uint8."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
