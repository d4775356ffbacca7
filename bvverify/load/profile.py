"""Profiles: the names by which a user says whose arithmetic a network is read under.

``fixed-point:bits=B,input_bits=I``       the fixed-point networks of AAAI-21 and QVIP, B bits wide, I-bit inputs (8 where it is left out)
``onnxruntime``                           ONNX Runtime's CPU provider with its default session options
``onnxruntime:qdqisint8allowed=1``        the same with ``session.qdqisint8allowed`` switched on: signed QDQ operators are fused as they are
``onnxruntime, accumulator saturating-pairs``  the same on an x86 CPU without VNNI (``bvverify.model.saturating_pairs``)
``tflite-reference``                      LiteRT's reference kernels (BUILTIN_REF)
``tflite-optimised``                      LiteRT's built-in kernels without delegates (ruy)
``tflite-xnnpack``                        LiteRT's default: the XNNPACK delegate
``cmsis-nn``, ``cmsis-nn:single-rounding=1``  CMSIS-NN on a microcontroller, by default and with single rounding switched on
``pytorch-fbgemm``, ``pytorch-qnnpack``   PyTorch's eager quantised modules on either engine
``pytorch-fbgemm:input=1x28x28``          the same for a saved module that takes inputs of this shape, which its file does not say
``pytorch-fbgemm, accumulator saturating-pairs``  engine fbgemm on an x86 CPU without VNNI
``PROFILE+rational-half-up``              the ideal twin of any: its multipliers, rounded once and exactly (``bvverify.model.ideal``)

A verdict names the profile in its canonical spelling.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bvverify.errors import UsageError
from bvverify.model import saturating_pairs

_ACCUMULATOR = "accumulator "


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """Fixed-point networks: ``bits`` (2 to 16) for weights and activations, ``input_bits`` (2 to 16) for the input."""

    bits: int
    input_bits: int

    def __str__(self) -> str:
        return f"fixed-point:bits={self.bits},input_bits={self.input_bits}"


@dataclass(frozen=True, slots=True)
class OnnxRuntime:
    """ONNX Runtime; ``int8_allowed`` is its session option ``session.qdqisint8allowed``."""

    int8_allowed: bool = False
    saturating_pairs: bool = False
    """Whether its CPU has no VNNI, so that products are summed in saturating pairs."""

    def __str__(self) -> str:
        name = "onnxruntime:qdqisint8allowed=1" if self.int8_allowed else "onnxruntime"
        return f"{name}, {_ACCUMULATOR}{saturating_pairs.NAME}" if self.saturating_pairs else name


@dataclass(frozen=True, slots=True)
class TfLite:
    """LiteRT in one of its kernel modes: ``reference``, ``optimised`` or ``xnnpack``."""

    mode: str

    def __str__(self) -> str:
        return f"tflite-{self.mode}"


@dataclass(frozen=True, slots=True)
class CmsisNn:
    """CMSIS-NN, which runs the graphs of .tflite files on microcontrollers."""

    single_rounding: bool = False

    def __str__(self) -> str:
        return "cmsis-nn:single-rounding=1" if self.single_rounding else "cmsis-nn"


@dataclass(frozen=True, slots=True)
class PyTorch:
    """PyTorch's eager quantised modules; ``engine`` is ``fbgemm`` or ``qnnpack``, ``input_shape`` is without the batch axis, () unknown."""

    engine: str
    input_shape: tuple[int, ...] = ()
    saturating_pairs: bool = False
    """Of fbgemm, whether its CPU has no VNNI."""

    def __str__(self) -> str:
        name = f"pytorch-{self.engine}" + (f":input={'x'.join(map(str, self.input_shape))}" if self.input_shape else "")
        return f"{name}, {_ACCUMULATOR}{saturating_pairs.NAME}" if self.saturating_pairs else name


Profile = FixedPoint | OnnxRuntime | TfLite | CmsisNn | PyTorch
_OF_TFLITE: tuple[Profile, ...] = (TfLite("xnnpack"), TfLite("optimised"), TfLite("reference"), CmsisNn(), CmsisNn(True))
_OF_TORCH: tuple[Profile, ...] = (PyTorch("fbgemm"), PyTorch("qnnpack"))
_PLAIN = {str(p): p for p in (*_OF_TFLITE, *_OF_TORCH)}
_FIXED_POINT = ("fixed-point:bits=B,input_bits=I",)
KNOWN = {
    ".onnx": (str(OnnxRuntime()), str(OnnxRuntime(int8_allowed=True))),
    ".tflite": tuple(map(str, _OF_TFLITE)),
    ".h5": _FIXED_POINT,
    ".hdf5": _FIXED_POINT,
    ".pt": tuple(map(str, _OF_TORCH)),
    ".pth": tuple(map(str, _OF_TORCH)),
}
"""The profiles that suit a file, by its suffix."""
_EVERY = tuple(dict.fromkeys(name for names in KNOWN.values() for name in names))


def with_accumulator(text: str | None, accumulator: str) -> str | None:
    """The name ``text`` (None: what the file implies) with an accumulator, where it is not the exact one and not named already."""
    if accumulator == saturating_pairs.EXACT or _ACCUMULATOR in (text or ""):
        return text
    return ", ".join([*([text] if text else []), _ACCUMULATOR + accumulator])


def accumulator_of(text: str | None) -> str:
    """The accumulator that a name names."""
    return (text or "").partition(_ACCUMULATOR)[2] or saturating_pairs.EXACT


def parse(text: str, option: str = "--semantics", known: Sequence[str] = _EVERY) -> Profile:
    """The profile of that name; ``UsageError`` names the option that gave it and the profiles to choose from, ``known``.

    An accumulator alone is ONNX Runtime's.
    """
    said = f"{option} {text}"
    profile, accumulator = text.partition(_ACCUMULATOR)[0].removesuffix(", "), accumulator_of(text)
    chosen = OnnxRuntime() if _ACCUMULATOR in text and not profile else _parse(profile, said, known)
    if accumulator == saturating_pairs.EXACT:
        return chosen
    if accumulator != saturating_pairs.NAME:
        raise UsageError(f"{said}: an accumulator is {saturating_pairs.EXACT} or {saturating_pairs.NAME}")
    if not isinstance(chosen, OnnxRuntime | PyTorch) or not saturating_pairs.possible(str(chosen)):
        raise UsageError(
            f"{said}: {saturating_pairs.NAME} is a matter of {' and '.join(saturating_pairs.RUNTIMES)}; {profile} sums exactly on every CPU"
        )
    return replace(chosen, saturating_pairs=True)


def _parse(text: str, said: str, known: Sequence[str]) -> Profile:
    if text in _PLAIN:
        return _PLAIN[text]
    family, _, rest = text.partition(":")
    options = dict(part.partition("=")[::2] for part in rest.split(",")) if rest else {}
    if family == "fixed-point":
        unknown = set(options) - {"bits", "input_bits"}
        if "bits" not in options or unknown:
            raise UsageError(f"{said}: fixed-point takes bits=B and input_bits=I, as in fixed-point:bits=6,input_bits=8")
        return FixedPoint(_width(said, options["bits"]), _width(said, options.get("input_bits", "8")))
    if family == "onnxruntime" and set(options) <= {"qdqisint8allowed"}:
        value = options.get("qdqisint8allowed", "0")
        if value in ("0", "1"):
            return OnnxRuntime(value == "1")
    if family in ("pytorch-fbgemm", "pytorch-qnnpack") and set(options) == {"input"}:
        return PyTorch(family.removeprefix("pytorch-"), _shape(said, options["input"]))
    near = difflib.get_close_matches(text, known, 1)
    hint = f"did you mean {near[0]}? It" if near else "it"
    raise UsageError(f"{said}: there is no such profile; {hint} is one of {', '.join(known)}")


def _shape(said: str, value: str) -> tuple[int, ...]:
    sides = value.split("x")
    if not all(s.isascii() and s.isdigit() and 0 < int(s) < 1 << 16 for s in sides):
        raise UsageError(f"{said}: a shape is written as in input=1x28x28 or input=784, without the batch axis")
    return tuple(map(int, sides))


def _width(said: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 2 <= int(value) <= 16:
        raise UsageError(f"{said}: a width is 2 to 16 bits, not {value!r}")
    return int(value)
