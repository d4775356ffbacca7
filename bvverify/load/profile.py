"""Profiles: the names by which a user says whose arithmetic a network is read under.

``fixed-point:bits=B,input_bits=I``       the fixed-point networks of AAAI-21 and QVIP, B bits wide, I-bit inputs (8 where it is left out)
``onnxruntime``                           ONNX Runtime's CPU provider with its default session options
``onnxruntime:qdqisint8allowed=1``        the same with ``session.qdqisint8allowed`` switched on: signed QDQ operators are fused as they are
``tflite-reference``                      LiteRT's reference kernels (BUILTIN_REF)
``tflite-optimised``                      LiteRT's built-in kernels without delegates (ruy)
``tflite-xnnpack``                        LiteRT's default: the XNNPACK delegate
``cmsis-nn``, ``cmsis-nn:single-rounding=1``  CMSIS-NN on a microcontroller, by default and with single rounding switched on
``pytorch-fbgemm``, ``pytorch-qnnpack``   PyTorch's eager quantised modules on either engine
``PROFILE+rational-half-up``              the ideal twin of any: its multipliers, rounded once and exactly (``bvverify.model.ideal``)

A verdict names the profile in its canonical spelling.
"""

from __future__ import annotations

from dataclasses import dataclass

from bvverify.errors import UsageError


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

    def __str__(self) -> str:
        return "onnxruntime:qdqisint8allowed=1" if self.int8_allowed else "onnxruntime"


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
    """PyTorch's eager quantised modules; ``engine`` is ``fbgemm`` or ``qnnpack``."""

    engine: str

    def __str__(self) -> str:
        return f"pytorch-{self.engine}"


Profile = FixedPoint | OnnxRuntime | TfLite | CmsisNn | PyTorch
_NAMED: tuple[Profile, ...] = (
    TfLite("reference"), TfLite("optimised"), TfLite("xnnpack"), CmsisNn(), CmsisNn(True), PyTorch("fbgemm"), PyTorch("qnnpack")
)  # fmt: skip
_PLAIN = {str(p): p for p in _NAMED}
KNOWN = ", ".join(["onnxruntime, onnxruntime:qdqisint8allowed=1, fixed-point:bits=B,input_bits=I", *_PLAIN])


def parse(text: str) -> Profile:
    """The profile of that name; ``UsageError`` names those that exist."""
    if text in _PLAIN:
        return _PLAIN[text]
    family, _, rest = text.partition(":")
    options = dict(part.partition("=")[::2] for part in rest.split(",")) if rest else {}
    if family == "fixed-point":
        unknown = set(options) - {"bits", "input_bits"}
        if "bits" not in options or unknown:
            raise UsageError(f"--semantics {text}: fixed-point takes bits=B and input_bits=I, as in fixed-point:bits=6,input_bits=8")
        return FixedPoint(_width(text, options["bits"]), _width(text, options.get("input_bits", "8")))
    if family == "onnxruntime" and set(options) <= {"qdqisint8allowed"}:
        value = options.get("qdqisint8allowed", "0")
        if value in ("0", "1"):
            return OnnxRuntime(value == "1")
    raise UsageError(f"--semantics {text}: there is no such profile; bvverify has {KNOWN}")


def _width(text: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 2 <= int(value) <= 16:
        raise UsageError(f"--semantics {text}: a width is 2 to 16 bits, not {value!r}")
    return int(value)
