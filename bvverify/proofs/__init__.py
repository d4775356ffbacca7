"""Proofs of what a solver closed: a leaf's question as clauses, a DRAT proof of them, and its check by a program that is not the solver.

``gates`` and ``words`` make clauses of integer arithmetic, ``clauses`` of a leaf's question; ``drat`` asks CaDiCaL for a proof and has it
checked, ``leaves`` goes through a certificate. No solver of bit-vectors takes part, so that a check needs none.
"""
