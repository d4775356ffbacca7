"""``bvverify explain``: what a saved result means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bvverify.cli import options as o

NAME = "explain"


def command(
    result: Annotated[str, typer.Argument(metavar="RESULT.json[::LINE]", show_default=False, help="What --json or batch wrote.")],
    model: Annotated[Path | None, typer.Option("--model", metavar="MODEL", help="The network, if it has moved since.")] = None,
    allow_pickle: o.AllowPickle = False,
    json: o.Json = False,
) -> int:
    """Explain a saved result in plain sentences.

    Which stage decided, and what each cost; the margin at each output; how many neurons of each layer are
    constant, saturated, linear or undecided on the box; the tree of subproblems; which input elements a witness
    changes; what was checked and what is trusted. For unknown: what was open, how far the bound had come, and what
    may help. Takes what --json printed for robust, verify or attack, or one line of batch's answers, and reads the
    model, the input and the certificate that it names.

    Examples:
      bvverify robust model.onnx --input test.npz::7 --radius 2 --json > result.json; bvverify explain result.json
      bvverify explain answers.jsonl::12

    Exit codes: 0 done, 1 usage, 2 unreadable input, 6 internal error.
    """
    from bvverify.cli import explain_report

    return explain_report.explain_file(result, model, as_json=json)
