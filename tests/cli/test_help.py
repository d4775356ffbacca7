"""Help, version, and how long they take."""

import os
import subprocess
import sys

import pytest

from bvverify import __version__

COMMANDS = [
    "verify",
    "robust",
    "radius",
    "attack",
    "compare",
    "bitflip",
    "spikes",
    "run",
    "trace",
    "explain",
    "check",
    "replay",
    "report",
    "export",
    "batch",
    "crosscheck",
    "exercise",
    "doctor",
    "demo",
]


def test_help_lists_every_command_and_the_exit_codes(cli):
    outcome = cli("--help")
    assert (outcome.code, outcome.err) == (0, "")
    listed = [line.split()[0] for line in outcome.out.partition("Commands:")[2].splitlines() if line.strip()]
    assert listed == COMMANDS
    for words in ("0 verified", "10 falsified", "5 unknown", "1 wrong usage", "6 internal"):
        assert words in outcome.out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_an_example_and_exit_codes(cli, command):
    outcome = cli(command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    text = " ".join(outcome.out.split())
    assert f"Usage: bvverify {command}" in text
    assert f"bvverify {command}" in text.partition("Example")[2]
    assert "Exit codes: " in text
    whole = outcome.out
    for repeated in ("[OPTIONS]...", "{RESULT.json}...", "[[MODEL_B] [PROPERTY.vnnlib]]..."):
        whole = whole.replace(repeated, "")
    assert "..." not in whole


def test_no_short_help_is_cut_off(cli):
    assert "..." not in cli("--help").out.partition("Commands:")[2]


def test_version(cli):
    assert cli("--version").out == f"bvverify {__version__}\n"


def test_help_imports_nothing_heavy():
    heavy = "numpy torch onnx onnxruntime z3 rich h5py PIL vnnlib"
    program = (
        "import sys; from bvverify.cli import main; code = main(['robust', '--help']); "
        f"print([m for m in '{heavy}'.split() if m in sys.modules], code)"
    )
    before = os.times()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"
    after = os.times()
    # Of the processor: on a loaded machine a second of it takes many by the clock.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1
