"""Model to numbers: the exact interpreter, replay, and the real runtimes as oracles."""
