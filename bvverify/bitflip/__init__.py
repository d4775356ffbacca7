"""Flipped bits in memory: which of a network's stored parameters change its answer when bits of theirs flip."""
