"""The work behind ``bvverify demo``: a handful of questions about the bundled networks, told in plain words."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bvverify import examples, pipeline
from bvverify.cli import draw
from bvverify.cli.output import emit
from bvverify.cli.progress import ProgressLine
from bvverify.cli.question import Question, ask_robust
from bvverify.model.result import Result, Verdict
from bvverify.model.types import Int64Array

_SECONDS = 20.0
_QUESTIONS = (
    ("digits_mlp_qop.onnx", 0, 1),
    ("digits_mlp_qop.onnx", 5, 3),
    ("digits_mlp_qdq.onnx", 7, 2),
    ("digits_cnn_qop.onnx", 4, 1),
    ("digits_cnn_qop.onnx", 5, 1),
    ("digits_cnn_qdq.onnx", 5, 4),
)
_GREY = 16
"""The brightest pixel of the bundled images."""


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """One question of the tour with its answer."""

    model: str
    index: int
    radius: int
    question: Question
    result: Result


def run() -> int:
    """Ask, print what came out, and return the exit code 0."""
    started = time.monotonic()
    emit(_INTRODUCTION)
    answers = []
    with ProgressLine() as progress:
        for model, index, radius in _QUESTIONS:
            progress(f"{model}, image {index}, radius {radius}", "")
            answers.append(_ask(model, index, radius))
    emit("\n".join([_row("network", "image", "radius", "verdict", "decided by", "seconds"), *map(_as_row, answers), ""]))
    verified = [a for a in answers if a.result.verdict is Verdict.VERIFIED]
    falsified = [a for a in answers if a.result.witness is not None]
    if verified:
        emit("\n".join(_about_verified(max(verified, key=lambda a: a.radius))))
    if falsified:
        emit("\n".join(_about_falsified(min(falsified, key=lambda a: a.radius))))
    emit("\n".join(_about_accumulators()))
    emit(f"{len(answers)} questions in {time.monotonic() - started:.1f} s.")
    return 0


_INTRODUCTION = """\
bvverify decides properties of int8 networks on the integers that a device computes.

The two bundled networks, an MLP and a small CNN, read 8x8 images of digits with grey levels 0 to 16; each is there as QOperator (qop) and
as QDQ (qdq) ONNX. Every question below is: does the class stay the same when every pixel may move by up to
RADIUS grey levels, in every combination?
"""


def _about_accumulators() -> list[str]:
    folder = Path(examples.__file__).parent
    question = f"{folder / examples.BRIGHT} --input {folder / examples.BRIGHT_IMAGES}::0 --radius 10"
    return [
        "What holds on one CPU may fail on another. Those without VNNI saturate sums of two products; ask with and without --accumulator:",
        f"  bvverify robust {question} --accumulator saturating-pairs",
        "",
    ]


def _ask(model: str, index: int, radius: int) -> _Answer:
    source = f"{examples.path(examples.IMAGES)}::{index}"
    question = ask_robust(examples.path(model), source, radius, None, None, None)
    return _Answer(model, index, radius, question, pipeline.decide_all(question.queries, pipeline.Options(timeout=_SECONDS)))


def _row(*cells: str) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, (20, 5, 6, 9, 11, 7), strict=True)).rstrip()


def _as_row(answer: _Answer) -> str:
    result = answer.result
    return _row(answer.model, str(answer.index), str(answer.radius), str(result.verdict), result.stage, f"{result.seconds:.2f}")


def _about_verified(answer: _Answer) -> list[str]:
    query = answer.question.queries[0]
    widths = [int(hi) - int(lo) + 1 for lo, hi in zip(query.box.lo.ravel(), query.box.hi.ravel(), strict=True)]
    size = sum(np.log10(widths))
    return [
        f"Verified: image {answer.index} stays a {query.property.label} within radius {answer.radius}.",
        f"The box holds about 10^{size:.0f} images; none was tried out, the proof covers them all: {answer.result.reason}.",
        "",
        *_pictures(("the clean image", _picture(answer, query.nominal))),
        "",
        *_command(answer),
    ]


def _about_falsified(answer: _Answer) -> list[str]:
    query, witness = answer.question.queries[0], answer.result.witness
    assert witness is not None
    label, wrong = query.property.label, int(witness.output.argmax())
    clean, found = _picture(answer, query.nominal), _picture(answer, witness.input)
    replays = ["the exact interpreter", *(f"{r.runtime} {r.version}" for r in witness.replayed_by if r.agreed)]
    return [
        f"Falsified: within radius {answer.radius} of image {answer.index}, a {label}, there is one that the network calls a {wrong}.",
        f"It was replayed by {' and by '.join(replays)}; all outputs agree to the bit.",
        "",
        *_pictures((f"clean: {label}", clean), (f"adversarial: {wrong}", found), changes=found - clean),
        "",
        f"outputs of the adversarial image: {' '.join(map(str, witness.output.ravel().tolist()))}",
        "",
        *_command(answer),
    ]


def _picture(answer: _Answer, x: Int64Array | None) -> Int64Array:
    """The input as rows of pixels: the file's declared shape ends in height and width."""
    assert x is not None
    return x.reshape(answer.question.network.input.file_shape[-2:])


def _pictures(*named: tuple[str, Int64Array], changes: Int64Array | None = None) -> list[str]:
    blocks, colour = draw.unicode(), draw.colours()
    pictures = [
        (title, draw.image(grey, _GREY, blocks=blocks, colour=colour), draw.columns(grey, blocks=blocks, colour=colour))
        for title, grey in named
    ]
    if changes is not None:
        signed = draw.signed(changes)
        pictures.append(("  the change", signed, len(signed[0])))
    return ["  " + line for line in draw.beside(*pictures)]


def _command(answer: _Answer) -> list[str]:
    folder = Path(examples.__file__).parent
    source = folder / examples.IMAGES
    return [
        "The same question as a command:",
        f"  bvverify robust {folder / answer.model} --input {source}::{answer.index} --radius {answer.radius}",
        "",
    ]
