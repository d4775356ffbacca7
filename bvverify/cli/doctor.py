"""``bvverify doctor``: what is installed, and whether it works."""

from __future__ import annotations

from bvverify.cli import options as o

NAME = "doctor"


def command(json: o.Json = False) -> int:
    """Show what is installed, and test it.

    Versions, solvers, runtimes, the machine. The self-test proves a property of a bundled network and refutes
    another one, with the witness replayed in the runtime where it is installed.

    Example: bvverify doctor

    Exit codes: 0 all well, 6 a part of the self-test failed.
    """
    from bvverify.cli import self_test

    return self_test.run(as_json=json)
