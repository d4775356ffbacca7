"""The command-line interface that the VNN-LIB 2 standard asks of a solver.

``verify`` prints ``sat`` and the assignment, ``unsat``, ``unknown`` or ``timed-out``; an error is a line on stderr and exit code 1.
``supports`` prints what can be asked.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
from pathlib import Path

from run_instance import LONG, answered, seconds, stop

CAPABILITIES = {
    "onnx-opset-versions": "10\n21",
    "onnx-element-types": "float32\nuint8\nint8\nreal",
    "vnnlib-versions": "2.0\n2.0",
    "hidden-node-theories": "NH",
    "multiple-input-output-theories": "SIO",
    "multiple-network-theories": "SNET",
    "multiple-node-comparison-theories": "SNC",
    "arithmetic-complexity-theories": "LIN",
    "optimised-disjunctive-reasoning": "false",
    "serialise-assignments": "false",
    "unsat-proofs": "false",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", action="store_true", help="print the solver's name")
    parser.add_argument("--version", action="store_true", help="print its version")
    commands = parser.add_subparsers(dest="command")
    verify = commands.add_parser("verify", help="decide a query")
    verify.add_argument("query", type=Path)
    verify.add_argument("--network", action="append", default=[], metavar="NAME=FILE")
    verify.add_argument("--timeout", type=seconds, default=float(LONG), metavar="SECONDS")
    supports = commands.add_parser("supports", help="print a capability")
    for name in (*CAPABILITIES, "onnx-operators"):
        supports.add_argument(f"--{name}", action="append_const", dest="wanted", const=name)
    arguments = parser.parse_args()
    if arguments.name or arguments.version:
        from bvverify import __version__

        print("bvverify" if arguments.name else __version__)
    elif arguments.command == "verify":
        return decide(arguments.query, arguments.network, arguments.timeout)
    elif arguments.command == "supports" and arguments.wanted:
        print("\n".join(operators() if name == "onnx-operators" else CAPABILITIES[name] for name in arguments.wanted))
    else:
        parser.error("name a command: verify, or supports with a capability")
    return 0


def operators() -> str:
    """The operators that the loader knows."""
    from bvverify.load.onnx_file import HANDLERS

    return "\n".join(sorted([*HANDLERS, "Constant"]))


def decide(query: Path, networks: list[str], limit: float) -> int:
    """Print the answer."""
    from bvverify.errors import BvverifyError

    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        answer = answered(model_of(query, networks), query, limit)
    except BvverifyError as error:
        print(f"vnnlib_solver: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        answer = "timeout"
    print("timed-out" if answer == "timeout" else answer)
    return 0


def model_of(query: Path, networks: list[str]) -> Path:
    """The file of the one network that the query declares."""
    from bvverify.errors import UsageError
    from bvverify.load.property_file import text_of

    declared = re.findall(r"\(\s*declare-network\s+([^\s()]+)", text_of(query))
    given = dict(network.partition("=")[::2] for network in networks)
    if len(declared) != 1 or len(networks) != 1 or list(given) != declared or not given[declared[0]]:
        raise UsageError(f"{query}: declares {' '.join(declared) or 'no network'}; give --network NAME=FILE for each (bvverify takes one)")
    return Path(given[declared[0]])


if __name__ == "__main__":
    sys.exit(main())
