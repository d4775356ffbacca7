"""Damaged files of every kind: what is read, or one line that refuses it. ``scripts/bench fuzz`` tries a hundred thousand."""

import gzip
import io
import zipfile

import corruption
import numpy as np
import pytest
from corruption import Edit
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bvverify.errors import InputError
from bvverify.load import arrays, certificate_file, instances, packed

SUBJECTS = corruption.subjects()
ANY = st.integers(0, (1 << 31) - 1)
EDITS = st.lists(st.builds(Edit, st.integers(0, corruption.KINDS - 1), ANY, ANY, ANY), min_size=1, max_size=4)


@pytest.fixture(scope="session")
def contents():
    return {name: subject.content() for name, subject in SUBJECTS.items()}


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_sound_file_is_read(contents, tmp_path, name):
    assert corruption.attempt(SUBJECTS[name], contents[name], tmp_path) == "read"


@pytest.mark.parametrize("name", SUBJECTS)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(edits=EDITS)
@example(edits=[Edit(2, 0, 0, 0)])
def test_a_damaged_file_is_read_or_refused_in_a_line(contents, tmp_path, name, edits):
    corruption.attempt(SUBJECTS[name], corruption.damaged(contents[name], edits), tmp_path)


def test_nothing_crashes_hangs_or_eats_memory():
    # In a process of its own: a crash of a C library is no exception, and memory is limited for whole processes.
    outcomes = corruption.children(list(SUBJECTS), 1_000_000, 25)
    assert {name: sum(counted.values()) for name, counted in outcomes.items()} == dict.fromkeys(SUBJECTS, 25)


def test_the_damage_is_damage(contents):
    # A measure that leaves the files as they are, or makes all of them unreadable at once, would test nothing.
    edits = [corruption.random_edits(np.random.default_rng(seed)) for seed in range(200)]
    data = contents["x.npy"]
    changed = [corruption.damaged(data, e) for e in edits]
    assert sum(c != data for c in changed) > 180
    assert sum(len(c) == len(data) for c in changed) > 20


@pytest.mark.parametrize("name", ["x.npy.gz", "p.vnnlib.gz"])
def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch, name):
    monkeypatch.setattr(packed, "MOST", 1 << 20)
    (tmp_path / name).write_bytes(gzip.compress(bytes(1 << 22)))
    from bvverify.load import property_file

    with pytest.raises(InputError, match="unpacks to more than 1 MiB"):
        property_file.text_of(tmp_path / name) if "vnnlib" in name else arrays.read(str(tmp_path / name))


@pytest.mark.parametrize(("name", "read"), [("x.npz", lambda p: arrays.read(str(p))), ("c.bvcert", certificate_file.read)])
def test_nor_is_one_of_arrays(tmp_path, monkeypatch, name, read):
    monkeypatch.setattr(packed, "MOST", 1 << 20)
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros(1 << 22, np.uint8))
    (tmp_path / "bomb.npz").rename(tmp_path / name)
    with pytest.raises(InputError, match="unpacks to more than 1 MiB"):
        read(tmp_path / name)


def test_a_picture_without_end_is_refused(tmp_path):
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    with pytest.raises(InputError, match=r"x\.png"):
        arrays.read(str(tmp_path / "x.png"))


def test_an_archive_that_lies_about_its_sizes_is_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(
            "x.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,), }" + b" " * 54 + b"\n"
        )
    (tmp_path / "x.npz").write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match=r"x\.npz"):
        arrays.read(str(tmp_path / "x.npz"))


def test_a_short_row_of_a_list_without_a_header_is_an_error_of_its_own(tmp_path):
    (tmp_path / "instances.csv").write_text("a.onnx,p.vnnlib,10\nb.onnx\n")
    good, bad = instances.read_instances(tmp_path / "instances.csv")
    assert good.error is None
    assert "row 2" in bad.error


@pytest.mark.parametrize("text", ["(assert (<= X_0 {}))", "(assert (<= X_0 {}.5))"])
def test_a_number_of_thousands_of_digits_is_refused(contents, tmp_path, text):
    (tmp_path / "version1.vnnlib").write_text(contents["version1.vnnlib"].decode() + text.format("9" * 5000))
    with pytest.raises(InputError, match=r"version1\.vnnlib: Exceeds the limit"):
        SUBJECTS["version1.vnnlib"].read(tmp_path / "version1.vnnlib")


def test_a_message_quotes_within_limits():
    assert len(str(InputError("x" * 10_000))) < 1600
