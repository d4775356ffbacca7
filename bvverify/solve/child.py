"""A solver's process: a pickled question from our own parent on stdin, one JSON object on stdout."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bvverify.process import end_with_parent, limit_memory, refuse

if TYPE_CHECKING:
    from bvverify.encode.network import Encoding
    from bvverify.model.query import Query
    from bvverify.solve.ask import Job


def main() -> None:
    """Encode, solve, answer."""
    end_with_parent()
    job: Job = pickle.load(sys.stdin.buffer)
    from bvverify.encode.network import encode
    from bvverify.encode.smt2 import script

    limit_memory()
    encoding = encode(job.query, job.bounds, part=job.part)
    if job.dump is not None:
        try:
            Path(job.dump).write_text(script(job.query, encoding))
        except OSError as error:
            refuse(f"{job.dump}: cannot be written: {error.strerror}")
    answer = _ask_z3(job.query, encoding, job.seed) if job.solver == "z3" else _ask_bitwuzla(job.query, encoding, job.seed)
    sys.stdout.write(json.dumps(answer))


def _ask_z3(query: Query, encoding: Encoding, seed: int) -> dict[str, Any]:
    import z3

    from bvverify.encode.smt2 import solver

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
    return answer


def _ask_bitwuzla(query: Query, encoding: Encoding, seed: int) -> dict[str, Any]:
    """Through its own reader of SMT-LIB 2, so that nothing of Z3's terms is taken on trust but their printed form."""
    from importlib import metadata

    import bitwuzla

    from bvverify.encode.smt2 import script

    options = bitwuzla.Options()
    options.set(bitwuzla.Option.PRODUCE_MODELS, True)
    options.set(bitwuzla.Option.SEED, seed % (1 << 31))
    parser = bitwuzla.Parser(bitwuzla.TermManager(), options)
    parser.parse(script(query, encoding), parse_only=True, parse_file=False)
    solver = parser.bitwuzla()
    outcome = solver.check_sat()
    answer: dict[str, Any] = {"status": str(outcome), "version": metadata.version("bitwuzla")}
    if outcome == bitwuzla.Result.SAT:
        answer["model"] = {int(v.symbol()[2:]): _signed(solver.get_value(v)) for v in parser.get_declared_funs()}
    elif outcome == bitwuzla.Result.UNKNOWN:
        answer["reason"] = "Bitwuzla gave up"
    return answer


def _signed(term: Any) -> int:
    value, bits = int(term.value(10)), term.sort().bv_size()
    return value - (1 << bits) if value >> (bits - 1) else value


if __name__ == "__main__":
    main()
