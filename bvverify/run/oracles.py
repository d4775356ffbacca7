"""Which real runtimes can be asked here: what is installed, for which profiles, and how to get what is missing."""

from __future__ import annotations

from dataclasses import dataclass

from bvverify.run import oracle, oracle_litert

ENGINES = ("fbgemm", "qnnpack")
"""The engines of PyTorch whose arithmetic bvverify reads."""


@dataclass(frozen=True, slots=True)
class Oracle:
    """A runtime: its ``version`` (None: absent), the ``profiles`` whose witnesses it replays, and what is ``missing``, with the mend."""

    name: str
    version: str | None
    profiles: tuple[str, ...]
    missing: str = ""


def oracles() -> tuple[Oracle, ...]:
    """Every runtime that bvverify knows to ask, installed or not. Imports torch, which takes a second."""
    versions = oracle.installed()
    return (
        _installable("onnxruntime", versions.get("onnxruntime"), ("onnxruntime", "onnxruntime:qdqisint8allowed=1")),
        _installable("litert", versions.get("litert"), oracle_litert.PROFILES),
        _pytorch(),
    )


def _installable(name: str, version: str | None, profiles: tuple[str, ...]) -> Oracle:
    return Oracle(name, version, profiles if version else (), "" if version else f"pip install 'bvverify[{name}]'")


def _pytorch() -> Oracle:
    import torch

    built = torch.backends.quantized.supported_engines
    lacks = [e for e in ENGINES if e not in built]
    missing = f"this build has no engine {' and no engine '.join(lacks)}; PyTorch's own wheels for x86-64 have both" if lacks else ""
    return Oracle("pytorch", str(torch.__version__), tuple(f"pytorch-{e}" for e in ENGINES if e in built), missing)
