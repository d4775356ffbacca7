"""A process for CaDiCaL, or for the checker of its proofs, never for both: a pickled job on stdin, a pickled answer on stdout."""

from __future__ import annotations

import contextlib
import pickle
import sys
from importlib import import_module, metadata
from typing import Any

from bvverify.process import end_with_parent, limit_memory


def main() -> None:
    """Do the one or the other."""
    end_with_parent()
    what, *job = pickle.load(sys.stdin.buffer)
    answer = _prove(*job) if what == "prove" else _check(*job)
    sys.stdout.buffer.write(pickle.dumps(answer))


def _prove(clauses: list[list[int]]) -> tuple[str, Any]:
    """A proof as text, or the true variables of an assignment."""
    from pysat.solvers import Cadical195

    limit_memory()
    solver = Cadical195(bootstrap_with=clauses, with_proof=True)
    if solver.solve():
        return "sat", {v for v in solver.get_model() if v > 0}
    return "proof", "".join(line + "\n" for line in solver.get_proof()).encode()


def _check(dimacs: str, proof: bytes) -> tuple[str, str, str]:
    """``accepted`` or ``refused``, why, and who says so."""
    dratify: Any = import_module("dratify")
    # An accelerator of the checker makes itself known when it is imported.
    with contextlib.suppress(ImportError):
        import cdclkit  # noqa: F401
    limit_memory()
    native = dratify.native_implementation()
    who = f"dratify {metadata.version('dratify')}" + ("" if native is None else f" with {native.__name__}")
    try:
        result = dratify.check_proof(dratify.parse_dimacs(dimacs), proof.decode("ascii"))
    except (ValueError, UnicodeDecodeError) as error:
        return "refused", str(error), who
    return "accepted" if result.ok and result.reached_empty else "refused", str(result.reason), who


if __name__ == "__main__":
    main()
