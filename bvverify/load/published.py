"""The published tables of two papers, as claims: AAAI-21 (``smt_aaai21`` and ``ilp_qvip`` beside each other) and QVIP's table 3.

Both lie in a folder with ``nets/``, ``images/`` and ``tasks/``. Their networks are fixed-point ones; the bit width is the number behind the
dash of a network's name, 6 for AAAI-21's. A verdict ``none`` is a time-out or a misclassified sample.

QVIP's rows of P1-6 and P3 do not fit their sample numbers (at radius 2 they contradict the authors' own page; the counts per block
fit): the source of such a claim says so, and the counts of its block are what can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from bvverify.errors import InputError
from bvverify.load import arrays
from bvverify.load.claims import Claim, word
from bvverify.load.instances import instance_of
from bvverify.model.types import AnyArray

_QVIP = {"network", "sample", "radius", "published_verdict"}
_AAAI21 = {"network", "dataset", "sample", "radius", "smt_aaai21", "ilp_qvip"}
_IMAGES = {"mnist": "mnist_t10k_images.idx3.gz", "fashion-mnist": "fashion_mnist_test_first400.npz"}
_LABELS = {"mnist": "mnist_t10k_labels.idx1.gz", "fashion-mnist": "fashion_mnist_test_first400.npz"}
_SHARED = {"P1-6": ("aaai21_mnist", 6), "aaai21_mnist": ("aaai21_mnist", 6), "aaai21_fashion": ("aaai21_fashion", 6)}
"""Networks whose file is not called after them."""


def recognises(header: Sequence[str]) -> bool:
    """Whether a CSV with this header is one of the tables."""
    return set(header) >= _QVIP or set(header) >= _AAAI21


def claims(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], benchmarks: Path | None) -> tuple[Claim, ...]:
    """The claims of a table; ``benchmarks`` None is the folder above the one in which the table lies."""
    folder = path.parent.parent if benchmarks is None else benchmarks
    read = _qvip if set(header) >= _QVIP else _aaai21
    made = []
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise InputError(f"{path}, row {number}: has {len(row)} cells, the header has {len(header)}")
        made += [_claim(path, number, folder, *given) for given in read(dict(zip(header, row, strict=True)))]
    return tuple(made)


def _qvip(row: dict[str, str]) -> Iterator[tuple[str, str, str, str, str, str, str]]:
    fits = ", of another sample of the block" if row["network"] == "P1-6" or row["network"].startswith("P3-") else ""
    seconds = row.get("published_seconds", "")
    yield row["network"], "mnist", row["sample"], row["radius"], row["published_verdict"], seconds, f"QVIP table 3{fits}"


def _aaai21(row: dict[str, str]) -> Iterator[tuple[str, str, str, str, str, str, str]]:
    for column, source in (("smt_aaai21", "AAAI-21 (bit-vector SMT)"), ("ilp_qvip", "QVIP (ILP)")):
        yield row["network"], row["dataset"], row["sample"], row["radius"], row[column], "", source


def _claim(
    path: Path, number: int, folder: Path, network: str, dataset: str, sample: str, radius: str, verdict: str, seconds: str, source: str
) -> Claim:
    where = f"{path}, row {number}"
    file, bits = _network(where, network)
    if dataset not in _IMAGES:
        raise InputError(f"{where}: dataset is {dataset!r}; it is {' or '.join(_IMAGES)}")
    labels = _labels(folder / "images" / _LABELS[dataset])
    if not sample.isascii() or not sample.isdigit() or int(sample) >= len(labels):
        raise InputError(f"{where}: sample is {sample!r}; {dataset} has 0 to {len(labels) - 1}")
    raw = {
        "model": str(folder / "nets" / f"{file}.h5"),
        "input": f"{folder / 'images' / _IMAGES[dataset]}::{sample}",
        "label": str(labels[int(sample)]),
        "radius": radius,
        "semantics": f"fixed-point:bits={bits},input_bits=8",
        "claim": verdict,
        "claimed_seconds": seconds,
        "source": source,
    }
    # The paths are whole already: nothing is relative to the table.
    return Claim(instance_of(Path(path.name), number, raw), word(where, verdict))


def _network(where: str, name: str) -> tuple[str, int]:
    if name in _SHARED:
        return _SHARED[name]
    bits = name.rpartition("-")[2]
    if not bits.isascii() or not bits.isdigit() or not 2 <= int(bits) <= 16:
        raise InputError(f"{where}: network is {name!r}; its bit width stands behind a dash, as in P1-8")
    return f"qvip_{name}", int(bits)


@cache
def _labels(path: Path) -> AnyArray:
    if path.suffix != ".npz":
        return arrays.read(str(path))
    try:
        return np.asarray(np.load(path, allow_pickle=False)["labels"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as labels: {getattr(error, 'strerror', None) or error}") from error
