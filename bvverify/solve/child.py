"""The solver's process: a pickled question from our own parent on stdin, one JSON object on stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bvverify.solve import process


def main() -> None:
    """Encode, solve, answer."""
    query, bounds, seed, dump, part = process.receive()
    import z3

    from bvverify.encode.network import encode
    from bvverify.encode.smt2 import script, solver

    encoding = encode(query, bounds, part=part)
    if dump is not None:
        try:
            Path(dump).write_text(script(query, encoding))
        except OSError as error:
            process.refuse(f"{dump}: cannot be written: {error.strerror}")
    question: Any = solver(query, encoding)
    question.set("random_seed", seed % (1 << 31))
    outcome = question.check()
    answer: dict[str, Any] = {"status": str(outcome), "version": z3.get_version_string()}
    if outcome == z3.sat:
        model = question.model()
        inputs = [(i, value) for i, value in enumerate(encoding.tensors[0].flat) if not value.constant]
        answer["model"] = {i: model.eval(v.term, model_completion=True).as_signed_long() for i, v in inputs}
        # A variable that the violation does not depend on may come out anywhere; the box's constraints bind it all the same.
    elif outcome == z3.unknown:
        answer["reason"] = question.reason_unknown()
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
