"""HDF5 files in a process of their own: what it reads is what the file holds, and its limits hold."""

import io
import time

import h5py
import numpy as np
import pytest

from bvverify.errors import InputError
from bvverify.load import hdf5


def _file(**data) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["layer_names"] = [b"d\xc3\xa4nse", b"flatten"]
        for name, value in data.items():
            file.create_dataset(f"dänse/{name}", data=value)
    return buffer.getvalue()


def test_names_and_numbers_come_back_bit_for_bit(tmp_path):
    kernel = np.array([[0.1, -0.0], [np.nextafter(np.float32(1), np.float32(2)), 3e-45]], np.float32)
    names, arrays = hdf5.read(tmp_path / "x.h5", _file(kernel=kernel, bias=np.arange(2.0), note="text"))
    assert names == ["dänse", "flatten"]
    assert arrays["dänse/kernel"].dtype == np.float32
    assert arrays["dänse/kernel"].tobytes() == kernel.tobytes()
    assert arrays["dänse/bias"].tolist() == [0.0, 1.0]
    assert arrays["dänse/note"].dtype == np.bool_


def test_a_reader_that_does_not_come_back_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "_SECONDS", 0.01)
    started = time.monotonic()
    with pytest.raises(InputError, match=r"x\.h5: .* still at it after 0\.01 s"):
        hdf5.read(tmp_path / "x.h5", _file(kernel=np.zeros((2, 2))))
    assert time.monotonic() - started < 2


def test_a_small_file_of_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "_MEMORY_MB", 600)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("dense/kernel", shape=(1 << 28,), dtype="f4", compression="gzip", chunks=(1 << 20,), fillvalue=1)
    assert len(buffer.getvalue()) < 1 << 20
    with pytest.raises(InputError, match=r"x\.h5: is no readable HDF5 file: .*(alloc|memory|MB)"):
        hdf5.read(tmp_path / "x.h5", buffer.getvalue())


def test_what_is_no_hdf5_file_is_refused_in_the_librarys_words(tmp_path):
    with pytest.raises(InputError, match=r"x\.h5: is no readable HDF5 file: .*signature"):
        hdf5.read(tmp_path / "x.h5", b"\x89HDFnothing of the kind")
