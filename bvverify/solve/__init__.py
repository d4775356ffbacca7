"""Bit-vectors to sat, unsat or unknown, in child processes that can be killed at any moment."""

from bvverify.solve.ask import Solver, SolverAnswer, require, solve

__all__ = ["Solver", "SolverAnswer", "require", "solve"]
