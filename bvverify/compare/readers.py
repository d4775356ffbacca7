"""An operation on other tensors."""

from __future__ import annotations

from dataclasses import replace

from bvverify.model.ops import Add, Concat, Op


def moved(op: Op, reads: tuple[int, ...]) -> Op:
    """The operation, reading the tensors ``reads``."""
    match op:
        case Add():
            return replace(op, a=reads[0], b=reads[1])
        case Concat():
            return replace(op, xs=reads)
        case _:
            return replace(op, x=reads[0])
