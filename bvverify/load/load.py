"""A file to a network: by its suffix to the loader that reads it, under the semantics that the file implies or the user names."""

from __future__ import annotations

from pathlib import Path

from bvverify.errors import InputError, UsageError
from bvverify.load import profile
from bvverify.load.profile import FixedPoint, OnnxRuntime
from bvverify.model.ideal import SUFFIX, ideal
from bvverify.model.network import Network


def load(path: Path | str, semantics: str | None = None) -> Network:
    """The network of a model file (.onnx, .h5), read under ``semantics`` (None: what the file implies).

    ``+rational-half-up`` behind a profile gives that reading's ideal twin (``bvverify.model.ideal``), alone that of the file's own.

    ``UsageError`` for a profile that does not exist or is not one for this format, ``InputError`` for a file that cannot be read,
    ``UnsupportedError`` naming the node where its arithmetic is not an exact integer function that bvverify models.
    """
    if semantics is not None and semantics.endswith(SUFFIX):
        return ideal(load(path, semantics.removesuffix(SUFFIX)))
    if semantics == SUFFIX[1:]:
        return ideal(load(path))
    path = Path(path)
    chosen = None if semantics is None else profile.parse(semantics)
    suffix = path.suffix.lower()
    if suffix not in (".onnx", ".h5", ".hdf5"):
        if not path.is_file():
            _read(path)
        raise InputError(f"{path}: a model's name ends in .onnx (ONNX) or .h5 (fixed-point network), not in {suffix or 'nothing'!r}")
    content = _read(path)
    if suffix == ".onnx":
        if not isinstance(chosen, OnnxRuntime | None):
            raise UsageError(f"--semantics {semantics}: {path} is an ONNX file; its semantics are onnxruntime")
        from bvverify.load.onnx_file import load_onnx

        return load_onnx(path, content, chosen or OnnxRuntime())
    if not isinstance(chosen, FixedPoint):
        raise UsageError(
            f"{path}: an .h5 file does not say how wide its integers are; say --semantics fixed-point:bits=B,input_bits=I"
            + ("" if chosen is None else f" instead of {semantics}")
        )
    from bvverify.load.fixed_point import load_fixed_point

    return load_fixed_point(path, content, chosen)


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if not content:
        raise InputError(f"{path}: is empty")
    return content
