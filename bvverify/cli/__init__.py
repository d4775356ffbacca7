"""The command line: one file per command, parsing and printing only.

A command's file imports nothing heavy at its top, so that ``bvverify --help`` costs the interpreter and typer; what a command needs (NumPy,
ONNX, torch, rich) is imported when it runs. ``main`` is the whole program as a function: arguments in, exit code out.
"""

from bvverify.cli.app import main

__all__ = ["main"]
