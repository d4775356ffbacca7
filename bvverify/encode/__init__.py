"""Model to bit-vectors: one file per kind of operation; with ``bvverify.solve`` the only rooms that know z3."""
