"""What a .tflite file must be to be read, and what is said of one that is not: one line that names file, operator and profile."""

import numpy as np
import pytest
import tflite_networks as t

from bvverify.errors import BvverifyError, InputError, UnsupportedError, UsageError
from bvverify.load.load import load
from bvverify.model.ops import Conv2d, Dense, Q31Add, ShiftAdd


def write(tmp_path, content):
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("semantics", "names"),
    [
        (None, ("float32-half-even",)),
        ("tflite-reference", ("float64-away", "q31-double")),
        ("tflite-optimised", ("q31-half-up",)),
        ("cmsis-nn", ("q31-double",)),
        ("cmsis-nn:single-rounding=1", ("q31-single",)),
    ],
)
def test_each_profile_names_its_requantisations(tmp_path, semantics, names):
    w = t.Writer()
    entry, middle, row, out = w.tensor((1, 4, 4, 1), 0.1), w.tensor((1, 4, 4, 2), 0.2), w.tensor((1, 32), 0.2), w.tensor((1, 3), 0.3)
    weight, bias = (
        w.tensor((2, 1, 1, 1), [0.1], 0, np.ones((2, 1, 1, 1), np.int8)),
        w.tensor((2,), data=np.zeros(2, np.int32), kind="INT32"),
    )
    w.operator("CONV_2D", (entry, weight, bias), middle, "Conv2DOptions", 3, padding=t.s.Padding.VALID, strideW=1, strideH=1)
    w.operator("RESHAPE", (middle,), row, "ReshapeOptions", newShape=[1, -1])
    weight, bias = w.tensor((3, 32), [0.1], 0, np.ones((3, 32), np.int8)), w.tensor((3,), data=np.zeros(3, np.int32), kind="INT32")
    network = load(
        write(tmp_path, w.content(entry, w.operator("FULLY_CONNECTED", (row, weight, bias), out, "FullyConnectedOptions", 4))), semantics
    )
    assert network.requantisations() == names
    assert network.semantics == (semantics or "tflite-xnnpack")
    assert [type(op) for op in network.ops if isinstance(op, Conv2d | Dense)] == [Conv2d, Dense]


def test_additions_by_profile(tmp_path):
    path = write(tmp_path, t.added((0.1, 0), (0.2, 3), (0.3, -4)))
    rules = {s: load(path, s).ops[-2].rule for s in ("tflite-xnnpack", "tflite-optimised", "cmsis-nn:single-rounding=1")}
    assert isinstance(rules["tflite-xnnpack"], ShiftAdd)
    assert isinstance(rules["tflite-optimised"], Q31Add)
    assert not rules["tflite-optimised"].single
    assert rules["cmsis-nn:single-rounding=1"].single


def test_broken_files_are_named(tmp_path):
    whole = t.model(3)[0]
    for content in (b"no model at all", whole[:40], whole[: len(whole) // 2], whole[:4] + b"TFL9" + whole[8:]):
        with pytest.raises(InputError, match=r"m\.tflite: is no (readable )?\.tflite file") as error:
            load(write(tmp_path, content))
        assert "\n" not in str(error.value)


def test_damaged_bytes_are_an_error_of_ours_or_a_network(tmp_path):
    rng, whole, errors = np.random.default_rng(0), t.model(5)[0], []
    for _ in range(150):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(damaged), 4):
            damaged[at] = rng.integers(256)
        try:
            load(write(tmp_path, bytes(damaged)), "tflite-reference")
        except BvverifyError as error:
            errors.append(error)
    assert len(errors) > 20
    assert all(e.exit_code == 2 and "\n" not in str(e) for e in errors)


def test_an_operator_without_a_reading_is_named(tmp_path):
    w = t.Writer()
    entry = w.tensor((1, 4), 0.1)
    content = w.content(entry, w.operator("SIN", (entry,), w.tensor((1, 4), 0.1)))
    with pytest.raises(UnsupportedError, match=r"m\.tflite: operator 0 \(SIN\): .*supported are .*CONV_2D.*read as tflite-xnnpack"):
        load(write(tmp_path, content))


def test_scales_that_xnnpack_would_leave_to_other_kernels(tmp_path):
    for content in (t.layer("CONV_2D", (1.0, 0), (1e-3, 0), [1.0], [0]), t.added((0.1, 0), (1e-5, 0), (0.1, 0))):
        path = write(tmp_path, content)
        with pytest.raises(InputError, match=r"operator \d \((CONV_2D|ADD)\): .*range of XNNPACK"):
            load(path)
        load(path, "tflite-optimised")


def test_an_accumulator_that_would_overflow_is_refused(tmp_path):
    content = t.layer("CONV_2D", (1.0, 0), (1e-3, 0), [1.0], [1 << 29])
    with pytest.raises(UnsupportedError, match=r"operator 0 \(CONV_2D\): an accumulator of channel 0 could pass"):
        load(write(tmp_path, content), "tflite-reference")


def test_a_profile_of_another_format_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match=r"is a \.tflite file"):
        load(write(tmp_path, t.model(3)[0]), "onnxruntime")


def test_a_float_model_is_refused(tmp_path):
    w = t.Writer()
    entry = w.tensor((1, 4), kind="FLOAT32")
    content = w.content(entry, w.operator("RELU", (entry,), w.tensor((1, 4), kind="FLOAT32")))
    with pytest.raises(UnsupportedError, match=r"float input is read by operator 0 \(RELU\)"):
        load(write(tmp_path, content))
