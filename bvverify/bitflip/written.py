"""A model's file with bits of one stored parameter flipped, so that its own runtime can run it.

The file is taken as bytes: the parameters' own bytes are looked for in it, in every order of their axes, and the bits are flipped there.
What comes out is believed only if the loader reads from it exactly the network that the flip makes. So it works for whatever
stores its tensors as they are (ONNX, TensorFlow Lite), and for nothing else: where the bytes are compressed or checked, it is refused.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np

from bvverify.bitflip.ask import Flip, applied, now
from bvverify.bitflip.stored import Stored, with_flip
from bvverify.errors import BvverifyError, UnsupportedError
from bvverify.load.load import load
from bvverify.model.network import Network
from bvverify.model.ops import Conv2d, Dense

_MOST = 64
"""Places in the file that are tried."""


def written(model: Path, network: Network, part: Stored, place: tuple[int, ...], mask: int) -> bytes:
    """The content of ``model`` with the bits of ``mask`` flipped in one parameter; ``UnsupportedError`` where that cannot be done."""
    content, expected = model.read_bytes(), with_flip(network, part, place, mask)
    with tempfile.TemporaryDirectory(prefix="bvverify-flip-") as folder:
        for number, changed in enumerate(_candidates(content, part, place, mask)):
            if number == _MOST:
                break
            candidate = Path(folder) / f"{number}{model.suffix}"
            candidate.write_bytes(changed)
            try:
                if _same(load(candidate, network.semantics), expected):
                    return changed
            except BvverifyError:
                continue
    raise UnsupportedError(f"{model}: its parameters are not stored as plain bytes, so that no flipped file can be written")


def all_written(model: Path, network: Network, parts: Sequence[Stored], flips: Sequence[Flip]) -> bytes:
    """The content of ``model`` with several flips, as ``written`` does one."""
    content = model.read_bytes()
    with tempfile.TemporaryDirectory(prefix="bvverify-flips-") as folder:
        for number, flip in enumerate(flips):
            so_far = Path(folder) / f"{number}{model.suffix}"
            so_far.write_bytes(content)
            content = written(so_far, network, now(network, parts[flip.part]), flip.place, flip.mask)
            network = applied(network, parts, flip)
    return content


def _candidates(content: bytes, part: Stored, place: tuple[int, ...], mask: int) -> Iterator[bytes]:
    """The file with the flip at each place at which the parameters' bytes lie, whatever the order of their axes."""
    width = -(-part.bits // 8)
    integers = (part.values & ((1 << part.bits) - 1)).astype(f"<u{width}")
    seen: set[bytes] = set()
    for axes in permutations(range(integers.ndim)):
        pattern = np.ascontiguousarray(integers.transpose(axes)).tobytes()
        if pattern in seen:
            continue
        seen.add(pattern)
        shape = tuple(integers.shape[a] for a in axes)
        offset = width * int(np.ravel_multi_index(tuple(place[a] for a in axes), shape))
        at = content.find(pattern)
        while at >= 0:
            word = int.from_bytes(content[at + offset : at + offset + width], "little") ^ mask
            yield content[: at + offset] + word.to_bytes(width, "little") + content[at + offset + width :]
            at = content.find(pattern, at + 1)


def _same(a: Network, b: Network) -> bool:
    """Whether two networks of one file hold the same integers."""
    if len(a.ops) != len(b.ops):
        return False
    for one, other in zip(a.ops, b.ops, strict=True):
        if isinstance(one, Dense | Conv2d):
            held = isinstance(other, Dense | Conv2d) and all(
                np.array_equal(x, y) for x, y in ((one.weight, other.weight), (one.bias, other.bias), (one.centred, other.centred))
            )
            if not held:
                return False
    return True
