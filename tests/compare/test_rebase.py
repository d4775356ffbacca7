"""A network on shifted integers is the same function of the real numbers; what is not is refused."""

from dataclasses import dataclass, replace

import numpy as np
import random_networks

from bvverify.compare.rebase import rebase
from bvverify.errors import UnsupportedError
from bvverify.model.types import QType, Quantisation
from bvverify.run import interpreter


@dataclass
class Like:
    """What ``rebase`` looks at in the network whose integers are wanted."""

    ops: tuple
    tensors: tuple


def test_every_tensor_moves_and_nothing_else_does():
    moved = refused = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        b = random_networks.network(rng)
        scale = Quantisation(1.0, 0)
        b = replace(b, input=replace(b.input, quantiser=scale), output=replace(b.output, dequantiser=scale))
        # Concatenations have 9 bits and stay.
        wanted = tuple(replace(t, qtype=QType(t.qtype.bits, not t.qtype.signed)) if t.qtype.bits != 9 else t for t in b.tensors)
        try:
            made = rebase(b, Like(b.ops, wanted))
        except UnsupportedError:
            refused += 1
            continue
        x = random_networks.points(random_networks.box(rng, b, 1 << 6))
        shifts = [w.qtype.lo - t.qtype.lo for w, t in zip(wanted, b.tensors, strict=True)]
        ours, theirs = interpreter.trace(made, x + shifts[0]), interpreter.trace(b, x)
        assert all(np.array_equal(s, t + k) for s, t, k in zip(ours, theirs, shifts, strict=True)), seed
        assert np.array_equal(interpreter.declared_output(made, ours[-1]), interpreter.declared_output(b, theirs[-1]))
        moved += 1
    assert min(moved, refused) > 10
