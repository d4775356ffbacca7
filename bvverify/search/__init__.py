"""Branch and bound over step functions, and the proofs that it leaves behind."""
