"""Certificate files: a compressed container of plain arrays (NumPy's ``.npz``, nothing pickled), version 1.

===================================  =======================================================================================
entry                                holds
===================================  =======================================================================================
``format``                           the text ``bvverify certificate 1``
``statement``                        JSON: model_sha256, semantics, text, model_path, conjunctions (rows of each)
``box``                              int64 (2, *input shape): lo, hi
``rows``, ``bounds``, ``inputs``     the violation: int64 (rows, outputs), (rows,), (rows, inputs) or (rows, 0)
``t<k>/claims``                      tightening k: int64 (4, claims): operation, unit, 1 for an upper claim, the claim
``t<k>/m<op>``, ``t<k>/e``           its multipliers (claims, units), and (operation, exponent) pairs
``kind``                             uint8 (nodes,): the trees in preorder; 0 split, 1 interval, 2 bound, 3 solver
``split``                            int64 (3, splits): operation (-1: the input), unit, value
``weight``, ``m<op>``, ``e``         of the bound leaves: row weights, multipliers (leaves, units), (operation, exponent) pairs
``proofs``                           optional, of solver leaves: JSON, a list of [node, SHA-256 of the clauses]
``proof<k>``                         the k-th of them: a DRAT proof as text
===================================  =======================================================================================

Integers are stored in the narrowest type that holds them. ``bvverify.model.certificate`` says what they mean, ``bvverify.certify`` what
they prove.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.errors import InputError
from bvverify.load.packed import check_archive
from bvverify.load.sexpr import clipped
from bvverify.model.certificate import MOST_PROOF_BYTES, Certificate, Forest, Kind, LeafProof, Multipliers, Statement, Tightening
from bvverify.model.query import Conjunction, Linear
from bvverify.model.types import Int64Array

FORMAT = "bvverify certificate 1"
SUFFIX = ".bvcert"


def to_bytes(certificate: Certificate) -> bytes:
    """The certificate as the contents of a file."""
    stated = certificate.statement
    rows = [row for conjunction in stated.violation for row in conjunction]
    about = {
        "model_sha256": stated.model_sha256,
        "semantics": stated.semantics,
        "text": stated.text,
        "model_path": stated.model_path,
        "conjunctions": [len(c) for c in stated.violation],
    }
    nothing = np.zeros(stated.lo.size, np.int64)
    with_inputs = any(row.inputs is not None for row in rows)
    entries: dict[str, Any] = {
        "format": _text(FORMAT),
        "statement": _text(json.dumps(about)),
        "box": _narrow(np.stack([stated.lo, stated.hi])),
        "rows": _narrow(np.array([row.outputs for row in rows], np.int64).reshape(len(rows), -1)),
        "bounds": _narrow(np.array([row.bound for row in rows], np.int64)),
        "inputs": _narrow(np.array([nothing if row.inputs is None else row.inputs for row in rows] if with_inputs else [], np.int64)),
    }
    for k, t in enumerate(certificate.tightenings):
        entries[f"t{k}/claims"] = _narrow(np.stack([np.full_like(t.unit, t.op), t.unit, t.upper.astype(np.int64), t.claim]))
        _put_multipliers(entries, f"t{k}/", t.multipliers)
    forest = certificate.forest
    entries["kind"] = forest.kind.astype(np.uint8)
    entries["split"] = _narrow(np.stack([forest.split_op, forest.split_unit, forest.split_value]))
    entries["weight"] = _narrow(forest.weight)
    _put_multipliers(entries, "", forest.multipliers)
    if certificate.leaf_proofs:
        entries["proofs"] = _text(json.dumps([[p.node, p.clauses_sha256] for p in certificate.leaf_proofs]))
        entries |= {f"proof{k}": np.frombuffer(p.drat, np.uint8) for k, p in enumerate(certificate.leaf_proofs)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **entries)
    return buffer.getvalue()


def is_certificate(content: bytes) -> bool:
    """Whether a file that begins so may be a certificate: an archive of arrays."""
    return content.startswith(b"PK")


def read_other(path: Path) -> bytes:
    """The contents of a file that should be something else; ``InputError`` where it cannot be read or is a certificate."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if is_certificate(content):
        raise InputError(f"{path}: is a certificate; bvverify check reads it")
    return content


def read(path: Path) -> Certificate:
    """Read a certificate file; ``InputError`` names the file and what is wrong with it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'not a certificate file'}") from None
    return from_bytes(content, str(path))


def from_bytes(content: bytes, path: str) -> Certificate:
    """As ``read``, what a file holds; ``path`` is what errors call it."""
    try:
        if content and not is_certificate(content):
            wrong = content[:16].lstrip()[:1] == b"{"
            read_by = "a result, not a certificate; bvverify explain or replay reads it" if wrong else "no certificate"
            raise InputError(f"{path}: is {read_by}")
        check_archive(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as entries:
            sizes = {info.filename.removesuffix(".npy"): info.file_size for info in entries.zip.infolist()}
            if sum(size for name, size in sizes.items() if name.startswith("proof")) > MOST_PROOF_BYTES:
                raise ValueError(f"its proofs of leaves are larger than {MOST_PROOF_BYTES >> 20} MB together")
            return _certificate(entries)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, EOFError, zipfile.BadZipFile, OverflowError, MemoryError) as error:
        raise InputError(
            f"{path}: not a certificate file of version 1, or damaged ({type(error).__name__}: {clipped(str(error), 200)})"
        ) from None
    except InputError:
        raise
    # zlib and NumPy's header parser have exceptions of their own.
    except Exception as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}: {clipped(str(error), 200)})") from None


def _certificate(entries: Mapping[str, Any]) -> Certificate:
    if _as_text(entries["format"]) != FORMAT:
        raise ValueError(f"the format is {_as_text(entries['format'])!r}, not {FORMAT!r}")
    about = json.loads(_as_text(entries["statement"]))
    box, rows, bounds, over = (_wide(entries[name]) for name in ("box", "rows", "bounds", "inputs"))
    if sum(about["conjunctions"]) != len(rows) or len(bounds) != len(rows) or (over.size and len(over) != len(rows)):
        raise ValueError("the rows of the violation do not fit")
    violation: list[Conjunction] = []
    linear = [Linear(rows[i], int(bounds[i]), over[i] if over.size else None) for i in range(len(rows))]
    for count in about["conjunctions"]:
        violation.append(tuple(linear[:count]))
        linear = linear[count:]
    sha256, semantics = str(about["model_sha256"]), str(about["semantics"])
    statement = Statement(sha256, semantics, box[0], box[1], tuple(violation), str(about["text"]), str(about["model_path"]))
    tightenings: list[Tightening] = []
    while f"t{len(tightenings)}/claims" in entries:
        prefix = f"t{len(tightenings)}/"
        op, unit, upper, claim = _wide(entries[prefix + "claims"])
        if not len(op) or (op != op[0]).any():
            raise ValueError("a tightening is about one operation")
        tightenings.append(Tightening(int(op[0]), unit, upper != 0, claim, _multipliers(entries, prefix, len(unit))))
    split, weight = _wide(entries["split"]), _wide(entries["weight"])
    kind = _wide(entries["kind"])
    if kind.ndim != 1 or weight.ndim != 2 or split.ndim != 2 or len(split) != 3:
        raise ValueError("the trees' arrays do not fit")
    forest = Forest(kind, split[0], split[1], split[2], weight, _multipliers(entries, "", len(weight)))
    return Certificate(statement, tuple(tightenings), forest, _leaf_proofs(entries, kind))


def _leaf_proofs(entries: Mapping[str, Any], kind: Int64Array) -> tuple[LeafProof, ...]:
    if "proofs" not in entries:
        return ()
    listed = [(int(node), str(sha256)) for node, sha256 in json.loads(_as_text(entries["proofs"]))]
    nodes = [node for node, _ in listed]
    if nodes != sorted(set(nodes)) or any(not 0 <= node < len(kind) or kind[node] != Kind.SOLVER for node in nodes):
        raise ValueError("its proofs of leaves are not of leaves that a solver closed, in order")
    return tuple(LeafProof(node, sha256, _as_text(entries[f"proof{k}"]).encode()) for k, (node, sha256) in enumerate(listed))


def _put_multipliers(entries: dict[str, Any], prefix: str, multipliers: Multipliers) -> None:
    entries |= {f"{prefix}m{op}": _narrow(values) for op, values in multipliers.values.items()}
    pairs = [(op, multipliers.exponents[op]) for op in multipliers.values]
    entries[prefix + "e"] = np.array(pairs, np.int64).reshape(-1, 2)


def _multipliers(entries: Mapping[str, Any], prefix: str, rows: int) -> Multipliers:
    exponents = {int(op): int(exponent) for op, exponent in _wide(entries[prefix + "e"])}
    return Multipliers(rows, {op: _wide(entries[f"{prefix}m{op}"]) for op in exponents}, exponents)


def _narrow(values: Int64Array) -> Any:
    for kind in (np.int8, np.int16, np.int32):
        limits = np.iinfo(kind)
        if values.size == 0 or (limits.min <= values.min() and values.max() <= limits.max):
            return values.astype(kind)
    return values


def _wide(values: Any) -> Int64Array:
    if values.dtype.kind not in "iu":
        raise ValueError(f"an array of {values.dtype}, not of integers")
    return values.astype(np.int64)


def _text(text: str) -> Any:
    return np.frombuffer(text.encode(), np.uint8)


def _as_text(values: Any) -> str:
    return bytes(values.astype(np.uint8)).decode()
