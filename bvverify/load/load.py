"""A file to a network: by its suffix to the loader that reads it, under the semantics that the file implies or the user names."""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path
from typing import Any

from bvverify.errors import InputError, UsageError
from bvverify.load import profile
from bvverify.load.profile import CmsisNn, FixedPoint, OnnxRuntime, PyTorch, TfLite
from bvverify.model import saturating_pairs
from bvverify.model.ideal import SUFFIX, ideal
from bvverify.model.network import Network
from bvverify.model.real import RealNetwork

PICKLE_ALLOWED: ContextVar[bool] = ContextVar("PICKLE_ALLOWED", default=False)
"""What the command line's --allow-pickle says, for all files that one command opens."""
_TORCH = (".pt", ".pth")


def load(path: Path | str, semantics: str | None = None, *, allow_pickle: bool = False, option: str = "--semantics") -> Network:
    """The network of a model file (.onnx, .tflite, .h5, .pt), read under ``semantics`` (None: what the file implies).

    A PyTorch file is a pickle, which can run any code: it is opened with ``allow_pickle`` (or ``PICKLE_ALLOWED``) only.

    ``+rational-half-up`` behind a profile gives that reading's ideal twin (``bvverify.model.ideal``), alone that of the file's own.

    ``option`` is what errors call the place that named the semantics.

    ``UsageError`` for a profile that does not exist or is not one for this format, ``InputError`` for a file that cannot be read,
    ``UnsupportedError`` naming the node where its arithmetic is not an exact integer function that bvverify models.
    """
    if semantics is not None and semantics.endswith(SUFFIX):
        return ideal(load(path, semantics.removesuffix(SUFFIX), allow_pickle=allow_pickle, option=option))
    if semantics == SUFFIX[1:]:
        return ideal(load(path, allow_pickle=allow_pickle))
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in profile.KNOWN:
        if not path.is_file():
            _read(path)
        raise InputError(
            f"{path}: a model's name ends in .onnx (ONNX), .tflite (LiteRT), .h5 (fixed-point network) or .pt (PyTorch),"
            f" not in {suffix or 'nothing'!r}"
        )
    chosen = None if semantics is None else profile.parse(semantics, option, profile.KNOWN[suffix])
    content = _read(path)
    if suffix in _TORCH:
        if not isinstance(chosen, PyTorch):
            raise UsageError(
                f"{path}: a PyTorch file does not say which engine runs it; say {option} pytorch-fbgemm or pytorch-qnnpack"
                + ("" if chosen is None else f" instead of {semantics}")
            )
        from bvverify.load.torch_file import load_file

        return load_file(path, content, chosen, allow_pickle=allow_pickle or PICKLE_ALLOWED.get())
    if suffix == ".onnx":
        if not isinstance(chosen, OnnxRuntime | None):
            raise UsageError(f"{option} {semantics}: {path} is an ONNX file; its semantics are onnxruntime")
        from bvverify.load.onnx_file import load_onnx

        return load_onnx(path, content, chosen or OnnxRuntime())
    if isinstance(chosen, OnnxRuntime) and chosen.saturating_pairs:
        raise UsageError(f"--accumulator {saturating_pairs.NAME}: {path} runs in neither ONNX Runtime nor PyTorch, whose accumulator it is")
    if suffix == ".tflite":
        if not isinstance(chosen, TfLite | CmsisNn | None):
            raise UsageError(
                f"{option} {semantics}: {path} is a .tflite file; its semantics are tflite-xnnpack, tflite-optimised,"
                " tflite-reference and cmsis-nn"
            )
        from bvverify.load.tflite_file import load_tflite

        return load_tflite(path, content, chosen or TfLite("xnnpack"))
    if not isinstance(chosen, FixedPoint):
        raise UsageError(
            f"{path}: an .h5 file does not say how wide its integers are; say {option} fixed-point:bits=B,input_bits=I"
            + ("" if chosen is None else f" instead of {semantics}")
        )
    from bvverify.load.fixed_point import load_fixed_point

    return load_fixed_point(path, content, chosen)


def load_object(module: Any, example_input: Any, semantics: str | None = None) -> Network:
    """The network of a PyTorch eager-quantised module; ``example_input`` is an input as it takes it, batch axis first.

    ``semantics`` None is the engine that PyTorch has selected. Errors as for ``load``.
    """
    chosen = None if semantics is None else profile.parse(semantics)
    if not isinstance(chosen, PyTorch | None):
        raise UsageError(f"semantics {semantics}: a PyTorch module runs under pytorch-fbgemm or pytorch-qnnpack")
    from bvverify.load import torch_module

    return torch_module.load_object(module, example_input, chosen)


def load_real(path: Path) -> RealNetwork:
    """The network over the reals that an ONNX file of floats holds; ``UnsupportedError`` names the node that has no place in one."""
    from bvverify.load.onnx_float import load_float

    return load_float(path, _read(path))


def is_float(path: Path) -> bool:
    """Whether a model file is an ONNX graph of floats, with nothing quantised in it."""
    if path.suffix.lower() != ".onnx":
        return False
    from bvverify.load.onnx_float import is_float

    return is_float(path, _read(path))


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if not content:
        raise InputError(f"{path}: is empty")
    return content
