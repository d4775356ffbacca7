"""Single requantisations on adversarially placed accumulators: ``apply`` and the thresholds against the runtime that computes them.

An accumulator is a step of the staircase or lies up to two units off it; some are zero, at the ends of the range or anywhere. What no
installed runtime computes (CMSIS-NN, fixed-point networks, rationals) is held against its formula in Python's integers. LiteRT's are
in ``_litert``, on whole files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import make_vectors as mv
import numpy as np

from bvverify.model import requant as rq
from bvverify.model.staircase import Staircase
from bvverify.model.types import Int64Array

_EACH = 4000
"""Accumulators of one draw."""
_FBGEMM_CHANNELS = 50
_INT32 = (1 << 31) - 64


@dataclass(frozen=True, slots=True)
class Draw:
    """What accumulators become: by ``apply``, by the thresholds, and by who is believed."""

    applied: Int64Array
    stepped: Int64Array
    expected: Int64Array


def _draw(staircase: Staircase, accs: Int64Array, expected: Int64Array) -> Draw:
    """Of a staircase of one channel."""
    return Draw(staircase.apply(accs[None])[0], staircase.at(accs[None])[0], expected)


def count(draw: Callable[[np.random.Generator], Draw], least: int) -> tuple[int, int]:
    """Mismatches, and accumulators, of which there are at least ``least``."""
    wrong, outputs, seed = 0, 0, 0
    while outputs < least:
        d = draw(np.random.default_rng(seed))
        wrong += int(((d.applied != d.expected) | (d.stepped != d.expected)).sum())
        outputs, seed = outputs + d.expected.size, seed + 1
    return wrong, outputs


def measure(names: Sequence[str], against: str, least: int) -> None:
    """Print the mismatches of each requantisation."""
    for name in names:
        started = time.time()
        wrong, outputs = count(DRAWS[name], least)
        seconds = time.time() - started
        print(f"{name}: {wrong} mismatches in {outputs} accumulators at steps, against {against}, {seconds:.0f} s", flush=True)


def formulas(least: int) -> None:
    measure(("shift-half-up", "q31-single", "rational-half-up"), "its formula in exact integers", least)


def onnxruntime(least: int) -> None:
    import onnxruntime

    measure(("float32-half-even",), f"onnxruntime {onnxruntime.__version__}, QGemm", least)


def pytorch(engines: Sequence[str], least: int) -> None:
    """An engine's requantisation has its name."""
    import torch

    measure(engines, f"torch {torch.__version__}, quantized::linear", least)


def _placed(rng: np.random.Generator, staircase: Staircase, limit: int, count: int = _EACH) -> Int64Array:
    """``count`` accumulators within ``limit`` of each channel's staircase: (channels * count,), channel by channel."""
    rows, reach = [], rq.reach(staircase.requant)
    for channel, steps in enumerate(staircase.thresholds):
        end = limit if reach is None else min(limit, int(reach[channel]))
        inside = steps[np.abs(steps) <= end]
        at = rng.choice(inside, count) + rng.integers(-2, 3, count) if len(inside) else rng.integers(-end, end + 1, count)
        anywhere = np.where(rng.integers(2, size=count) == 0, rng.integers(-end, end + 1, count), rng.choice([0, 1, -1, end, -end], count))
        rows.append(np.clip(np.where(rng.integers(16, size=count) == 0, anywhere, at), -end, end))
    return np.concatenate(rows)


def _real(rng: np.random.Generator) -> float:
    """A multiplier: a power of two, under which every level has a tie, or anything else."""
    return float(2.0 ** rng.integers(-12, 1)) if rng.integers(2) else float(np.exp(rng.uniform(-9, 0.5)))


def _half_up(accs: Int64Array, numerator: int, denominator: int, zero: int, lo: int, hi: int) -> Int64Array:
    """``floor(acc * numerator / denominator + 1/2) + zero``, clamped, in Python's integers."""
    rounded = ((2 * acc * numerator + denominator) // (2 * denominator) + zero for acc in accs.tolist())
    return np.array([min(max(v, lo), hi) for v in rounded], np.int64)


def _shift_half_up(rng: np.random.Generator) -> Draw:
    bits, shift = int(rng.integers(3, 17)), int(rng.integers(0, 31))
    lo, hi = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if rng.integers(2) else (0, (1 << bits) - 1)
    lo, hi = max(lo, -128), min(hi, 255)
    staircase = Staircase(rq.ShiftHalfUp(shift), lo, hi)
    accs = _placed(rng, staircase, 1 << 40)
    return _draw(staircase, accs, _half_up(accs, 1, 1 << shift, 0, lo, hi))


def _q31_single(rng: np.random.Generator) -> Draw:
    mantissa, shift = rq.q31(_real(rng))
    zero = _zero(rng, -128, 127)
    staircase = Staircase(rq.Q31Single(np.array([mantissa]), np.array([shift]), zero), -128, 127)
    accs = _placed(rng, staircase, _INT32)
    return _draw(staircase, accs, _half_up(accs, mantissa, 1 << (31 - shift), zero, -128, 127))


def _rational_half_up(rng: np.random.Generator) -> Draw:
    exact = Fraction(_real(rng)) if rng.integers(2) else Fraction(int(rng.integers(1, 400)), int(rng.integers(1, 100_000)))
    zero = _zero(rng, -128, 127)
    staircase = Staircase(rq.RationalHalfUp((exact,), zero), -128, 127)
    accs = _placed(rng, staircase, _INT32)
    return _draw(staircase, accs, _half_up(accs, exact.numerator, exact.denominator, zero, -128, 127))


def _float32_half_even(rng: np.random.Generator) -> Draw:
    signed = bool(rng.integers(2))
    lo, hi = (-128, 127) if signed else (0, 255)
    sx, sw = np.float32(0.5), np.float32(0.25)
    sy, zero = np.float32(float(sx * sw) / _real(rng)), _zero(rng, lo, hi)
    staircase = Staircase(rq.Float32HalfEven(np.atleast_1d(sx * sw / sy), zero), lo, hi)
    accs = _placed(rng, staircase, _INT32)
    return _draw(staircase, accs, mv.qgemm(accs, sx, sw, sy, zero, signed))


def _qnnpack(rng: np.random.Generator) -> Draw:
    sx = sw = np.float32(2.0**-6)
    sy, zero = np.float32(float(sx * sw) / _real(rng)), _zero(rng, 0, 255)
    staircase = Staircase(rq.Qnnpack(np.atleast_1d(sx * sw * (np.float32(1) / sy)), zero), 0, 255)
    # Below 2^24, so that the float bias acc * sx * sw is exact.
    accs = _placed(rng, staircase, (1 << 24) - 64)
    return _draw(staircase, accs, _qnnpack_outputs(accs, sx, sw, sy, zero))


def _qnnpack_outputs(accs: Int64Array, sx: Any, sw: Any, sy: Any, zero: int) -> Int64Array:
    import torch

    weight = torch._make_per_tensor_quantized_tensor(torch.full((len(accs), 1), 3, dtype=torch.int8), float(sw), 0)
    bias = torch.from_numpy(((accs - 6) * float(sx * sw)).astype(np.float32))
    return mv.torch_linear("qnnpack", np.array([102], np.uint8), 100, sx, weight, bias, sy, zero)


def _fbgemm(rng: np.random.Generator) -> Draw:
    """Channels with biases on half steps or anywhere, each of them many times, since an accumulator is a channel's."""
    per_channel, real = bool(rng.integers(2)), _real(rng)
    sx = np.float32(2.0**-5 if rng.integers(2) else rng.uniform(0.01, 0.1))
    sw = np.full(_FBGEMM_CHANNELS, 2.0**-6 if rng.integers(2) else rng.uniform(0.003, 0.03), np.float32)
    if per_channel:
        sw = (sw * np.exp2(rng.integers(-1, 2, len(sw)))).astype(np.float32)
    scale = sx * sw
    sy = np.float32(float(scale[0]) / real)
    steps = np.where(rng.integers(2, size=len(sw)) == 0, rng.integers(-4000, 4000, len(sw)) / 2, rng.uniform(-3e4, 3e4, len(sw)))
    bias, zero = (steps * scale).astype(np.float32), _zero(rng, 0, 255)
    staircase = Staircase(rq.Fbgemm(scale / sy, bias, scale, per_channel, zero), 0, 255)
    each = _EACH // len(sw)
    accs = _placed(rng, staircase, 63 * 127 * mv.FBGEMM_INPUTS, each)
    stepped = staircase.at(accs.reshape(len(sw), each).T).T.ravel()
    multiplier, bias, scale, sw = (np.repeat(v, each) for v in (scale / sy, bias, scale, sw))
    repeated = rq.Fbgemm(multiplier, bias, scale, per_channel, zero)
    return Draw(rq.apply(repeated, accs[None], 0, 255)[0], stepped, mv.fbgemm_outputs(repeated, accs, sx, sw, sy))


def _zero(rng: np.random.Generator, lo: int, hi: int) -> int:
    """A zero point: the ends and the middle as often as all others."""
    return int(rng.choice([lo, hi, (lo + hi) // 2, *rng.integers(lo, hi + 1, 2)]))


DRAWS = {
    "shift-half-up": _shift_half_up, "q31-single": _q31_single, "rational-half-up": _rational_half_up,
    "float32-half-even": _float32_half_even, "fbgemm": _fbgemm, "qnnpack": _qnnpack,
}  # fmt: skip
"""By name; each draws parameters and accumulators at random."""
