"""Files of proofs about flipped bits: an archive (zip) of ``proof.json`` and of certificates, ``0.bvcert`` and so on, one for each leaf.

``proof.json`` holds ``format`` (``bvverify flips proof 1``), ``about`` (``Question.sha256``), ``steps`` (``bitflip.kernel``) and the number
of ``certificates``, each a file as ``bvverify.load.certificate_file`` describes it.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bvverify.bitflip.ask import Question
from bvverify.bitflip.kernel import Report, check
from bvverify.certify import kernel
from bvverify.errors import InputError
from bvverify.load import certificate_file
from bvverify.load.packed import check_archive
from bvverify.load.sexpr import clipped
from bvverify.model.certificate import Certificate
from bvverify.model.query import Query
from bvverify.model.result import CheckReport
from bvverify.proofs import leaves

SUFFIX = ".bvflips"
_FORMAT = "bvverify flips proof 1"


def to_bytes(question: Question, steps: Sequence[Any], certificates: Sequence[Certificate]) -> bytes:
    """The proof as the contents of a file."""
    buffer = io.BytesIO()
    about = {"format": _FORMAT, "about": question.sha256, "steps": list(steps), "certificates": len(certificates)}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("proof.json", json.dumps(about))
        for number, certificate in enumerate(certificates):
            archive.writestr(f"{number}.bvcert", certificate_file.to_bytes(certificate))
    return buffer.getvalue()


def read(path: Path, question: Question) -> tuple[list[Any], list[Certificate]]:
    """Steps and certificates of a file about ``question``; ``InputError`` names the file and what is wrong with it."""
    try:
        content = path.read_bytes()
        check_archive(content)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            about = json.loads(archive.read("proof.json"))
            if not isinstance(about, dict) or about.get("format") != _FORMAT:
                raise ValueError(f"its format is not {_FORMAT!r}")
            if about.get("about") != question.sha256:
                raise InputError(f"{path}: is about another network, input or question than the arguments give")
            steps, count = about.get("steps"), about.get("certificates")
            if not isinstance(steps, list) or not isinstance(count, int):
                raise ValueError("it holds no steps and certificates")
            held = [archive.read(f"{number}.bvcert") for number in range(count)]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except InputError:
        raise
    # Archives, zlib and JSON have exceptions of many kinds.
    except Exception as error:
        raise InputError(f"{path}: no proof about flipped bits, or damaged ({type(error).__name__}: {clipped(str(error), 200)})") from None
    return steps, [certificate_file.from_bytes(one, f"{path}, {number}.bvcert") for number, one in enumerate(held)]


def checked(question: Question, steps: Sequence[Any], certificates: Sequence[Certificate]) -> Report:
    """What the kernel says of a proof (``bitflip.kernel.Rejected``); parts that a solver closed have to be proved as well."""
    return check(question, steps, certificates, _leaf)


def _leaf(certificate: Certificate, query: Query) -> CheckReport:
    report = kernel.check(certificate, query)
    if not report.complete:
        report = leaves.check(certificate, query).added_to(report)
    if not report.complete:
        raise kernel.Rejected("a solver closed a part of it, and there is no proof that can be checked here")
    return report
