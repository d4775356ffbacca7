"""Exercises: questions about int8 arithmetic from a seed, and the judgement of an answer, by the interpreter's own arithmetic.

One file for each kind of question; ``question`` puts them together, ``sheet`` writes many for a class. A question is the same for the same
kind and seed on every machine.
"""
