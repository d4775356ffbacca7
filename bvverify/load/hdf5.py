"""The arrays of an HDF5 file, read in a process that can be killed: on a damaged file libhdf5 can loop for ever, or crash.

The child gets the file's bytes on its stdin and answers with an .npz archive, which its parent reads without pickles.
"""

from __future__ import annotations

import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bvverify.errors import InputError, InternalError, UsageError
from bvverify.load.packed import MOST
from bvverify.model.types import AnyArray
from bvverify.process import Child, end_with_parent, limit_memory, refuse

_SECONDS = 15.0
_MEMORY_MB = 2 * MOST >> 20
"""Address space: the arrays, and once more for the answer."""
_NAMES = "names"


def read(path: Path, content: bytes) -> tuple[list[str], dict[str, AnyArray]]:
    """Keras' ``layer_names`` (empty where there are none), and every data set by its path within the file.

    ``InputError`` for what is no HDF5 file, or takes the library more than 15 s or 4 GB.
    """
    wrong = f"{path}: is no readable HDF5 file"
    try:
        ended = Child("bvverify.load.hdf5", content, _MEMORY_MB).wait(_SECONDS)
    except UsageError as refused:
        raise InputError(f"{wrong}: {refused}") from None
    except InternalError as failure:
        raise InputError(f"{wrong}: {failure}") from failure
    match ended.how:
        case "done":
            return _unpacked(ended.out)
        case "time":
            raise InputError(f"{wrong}: the HDF5 library was still at it after {_SECONDS:g} s")
        case _:
            raise InputError(f"{wrong}: the HDF5 library crashed, or wanted more than {_MEMORY_MB} MB")


def main() -> None:
    """The child: read, answer."""
    end_with_parent()
    content: bytes = pickle.load(sys.stdin.buffer)
    import h5py  # noqa: F401  (libraries are loaded before memory is limited)

    limit_memory()
    try:
        answer = _packed(*_read(content))
    # h5py raises whatever its C library and its own decoding come upon; none of it says more than "not this format".
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        refuse(" ".join(str(error).split()) or type(error).__name__)
    else:
        sys.stdout.buffer.write(answer)


def _read(content: bytes) -> tuple[list[str], dict[str, AnyArray]]:
    import h5py

    arrays: dict[str, AnyArray] = {}

    def keep(name: Any, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            array = np.array(item)
            # Only numbers can be weights, and only they can be saved without a pickle.
            arrays[_text(name)] = array if array.dtype.kind in "fiub" else np.zeros(array.shape, np.bool_)

    with h5py.File(io.BytesIO(content), "r") as file:
        root = file.get("model_weights", file)
        root.visititems(keep)
        return [_text(name) for name in root.attrs.get("layer_names", [])], arrays


def _packed(names: list[str], arrays: dict[str, AnyArray]) -> bytes:
    """Arrays are called 0, 1, ... in the archive: their own names can hold anything."""
    buffer = io.BytesIO()
    listed = np.frombuffer(json.dumps([names, list(arrays)]).encode(), np.uint8)
    np.savez(buffer, **{_NAMES: listed}, **{str(i): array for i, array in enumerate(arrays.values())})  # type: ignore[arg-type]
    return buffer.getvalue()


def _unpacked(answer: bytes) -> tuple[list[str], dict[str, AnyArray]]:
    with np.load(io.BytesIO(answer), allow_pickle=False) as archive:
        names, keys = json.loads(archive[_NAMES].tobytes())
        return names, {key: archive[str(i)] for i, key in enumerate(keys)}


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


if __name__ == "__main__":
    main()
