"""Bit-vectors to sat, unsat or unknown, in a child process that can be killed at any moment."""

from bvverify.solve.z3_process import SolverAnswer, solve

__all__ = ["SolverAnswer", "solve"]
