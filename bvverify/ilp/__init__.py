"""The ILP readings of a network, for cross-checking: what such a program answers is a claim, never a verdict of bvverify."""
