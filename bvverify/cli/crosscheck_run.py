"""The work behind ``bvverify crosscheck``: read the claims, decide each question once, judge, print and write."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bvverify.cli import crosscheck_row, crosscheck_table
from bvverify.cli.batch_file import ECHOED, AnswerFile
from bvverify.cli.batch_row import INTERNAL, Answer, Task
from bvverify.cli.batch_run import in_pool, processes
from bvverify.cli.crosscheck_row import Question, echo
from bvverify.cli.output import SCHEMA_VERSION, check_writable, emit, make_folder, write
from bvverify.crosscheck.judge import Status
from bvverify.crosscheck.summary import Summary, exit_code
from bvverify.errors import InternalError
from bvverify.load.claims import COLUMNS, Claim
from bvverify.load.instances import Instance

MakeTask = Callable[[Instance], Task]

IDENTITY = (*ECHOED, *COLUMNS, "asked_semantics")
"""What a claim and its line share."""
_SHOWN = 20
"""Claims that are listed one by one on stdout."""
_LISTED = (Status.REFUTED, Status.NOT_REPLAYED, Status.ERROR)
_CSV = (*ECHOED, *COLUMNS, "status", "verdict", "stage", "reason", "seconds", "class", "problem", "semantics", "proof")


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files that are asked for."""

    lines: Path | None = None
    csv: Path | None = None
    html: Path | None = None
    proofs: Path | None = None

    def check(self) -> None:
        """Refuse, before the work, what could not be written."""
        for path in (self.lines, self.csv, self.html):
            check_writable(path)
        if self.proofs is not None:
            make_folder(self.proofs)


def run(claims: Sequence[Claim], outputs: Outputs, jobs: int | None, task: MakeTask, *, as_json: bool) -> int:
    """Judge the claims that the file of lines has no line for, print the summary of all, and return the exit code.

    ``task`` makes a worker's task of a row, with the options that hold for all rows.
    """
    jobs = processes(jobs)
    outputs.check()
    started = time.monotonic()
    with ExitStack() as stack:
        path = outputs.lines or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "lines.jsonl"
        file = stack.enter_context(AnswerFile(path, IDENTITY, ("model", "verdict", "status"), "crosscheck"))
        missing, found = file.open_rows([echo(claim, task(claim.instance)) for claim in claims])
        # The file may have been written for a list in another order.
        there = sorted(set(range(len(claims))) - set(missing))
        lines = [line | {"row": i + 1} for i, line in zip(there, found, strict=True)]
        summary, earlier = Summary(lines), len(lines)
        with crosscheck_table.live(summary, len(claims)) as show:
            for judged in in_pool(_questions(claims, missing, task, outputs), crosscheck_row.decide, crosscheck_row.lost, jobs):
                for line in judged:
                    file.append(line)
                    lines.append(line)
                    summary.add(line)
                show()
    lines.sort(key=lambda line: int(line["row"]))
    if outputs.csv is not None:
        write(outputs.csv, _as_csv(lines))
    if outputs.html is not None:
        from bvverify.cli.crosscheck_html import page

        write(outputs.html, page(claims, lines, summary, task))
    seconds = time.monotonic() - started
    emit(json.dumps(_as_object(lines, summary, seconds)) if as_json else "\n".join(_as_lines(lines, summary, seconds, earlier)))
    if any(str(line["reason"]).startswith(INTERNAL) for line in lines):
        return InternalError.exit_code
    return exit_code(summary.total())


def _questions(claims: Sequence[Claim], missing: Sequence[int], task: MakeTask, outputs: Outputs) -> list[Question]:
    """Equal questions once, each with all claims about it, in the order in which they are first asked."""
    same: dict[tuple[str | None, ...], list[int]] = {}
    for i in missing:
        raw = claims[i].instance.raw
        same.setdefault(tuple(raw.get(name) for name in (*ECHOED, "timeout", "semantics")), []).append(i)
    why = outputs.html is not None or outputs.proofs is not None
    return [
        Question(task(claims[numbers[0]].instance), tuple(claims[i] for i in numbers), tuple(i + 1 for i in numbers), outputs.proofs, why)
        for numbers in same.values()
    ]


def _as_lines(lines: Sequence[Answer], summary: Summary, seconds: float, earlier: int) -> list[str]:
    total = summary.total()
    out = [f"{total[Status.REFUTED]} of {len(lines)} claims refuted", ""]
    out += [f"  {line}" for line in crosscheck_table.lines(summary)]
    told = [line for line in lines if line["status"] in _LISTED]
    if told:
        out.append("")
    out += [f"  row {line['row']}: {sentence(line)}" for line in told[:_SHOWN]]
    if len(told) > _SHOWN:
        out.append(f"  and {len(told) - _SHOWN} more: see --output, --csv or --html")
    again = f", {earlier} of them from an earlier run" if earlier else ""
    return [*out, "", f"  {len(lines)} claims in {seconds:.1f} s{again}; {', '.join(f'{n} {status}' for status, n in total.items())}"]


def sentence(line: Mapping[str, Any]) -> str:
    """What becomes of one claim, in a line: the question, the status, and what shows it."""
    return f"{question(line)}: {line['status']}: {grounds(line)}"


def question(line: Mapping[str, Any]) -> str:
    """The question in a few words."""
    return f"{Path(line['model']).name}, " + (line.get("property") or f"{line.get('input')} at radius {line.get('radius')}")


def grounds(line: Mapping[str, Any]) -> str:
    """What shows the status."""
    found, verdict = line.get("claimed_witness_check"), line["verdict"]
    said = f"claimed {line.get('claim') or line['claimed']}"
    if line["status"] == Status.ERROR:
        return str(line["reason"])
    shown = {
        "verified": "no input of the box violates the property; " + about_check(line.get("checked")),
        "falsified": f"an input of the box{_class(line)} violates the property; {line['reason'].partition('; ')[2] or 'replayed'}",
        "misclassified": f"{line['reason']}: it is itself a witness",
        "unknown": str(line["reason"]),
    }[verdict]
    if found is not None and found["problem"]:
        here = "not decided here" if verdict == "unknown" else "decided here"
        return f"{said}; the claimed witness is {found['problem']}; {here}: {shown}"
    return f"{said}; {shown}"


def _class(line: Mapping[str, Any]) -> str:
    return f" (class {line['class']})" if line.get("label") is not None and line.get("class") is not None else ""


def about_check(checked: Mapping[str, int] | None) -> str:
    """What the kernel has accepted."""
    if checked is None:
        return "the kernel was not asked"
    left = checked["solver_leaves"]
    return "the kernel has accepted the certificate" + (f"; leaves that rest on the solver's word: {left}" if left else "")


def _as_object(lines: Sequence[Answer], summary: Summary, seconds: float) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "crosscheck",
        "claims": len(lines),
        "counts": {str(status): summary.total()[status] for status in Status},
        "seconds": round(seconds, 6),
        "groups": [group.as_object() for group in summary.groups()],
        "lines": list(lines),
    }


def _as_csv(lines: Sequence[Answer]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_CSV)
    for line in lines:
        found = line.get("claimed_witness_check") or {}
        row = line | {"problem": found.get("problem"), "proof": " ".join(line.get("proof") or ())}
        writer.writerow(["" if row.get(name) is None else row.get(name) for name in _CSV])
    return text.getvalue()
