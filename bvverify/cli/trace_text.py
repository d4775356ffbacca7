"""A calculation as lines for people: products, registers and the bits that each rounding drops, aligned at the point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from bvverify.explain.calculation import Accumulator, Calculation, Multiplier, Rounding, Step, Term

_TERMS = 8
"""Products that are shown one by one."""
_PLACES = 32
"""Bits behind the point that are shown."""
_RESET = "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Ink:
    """Colours where they are wanted: what is dropped, and what it becomes."""

    on: bool

    def dropped(self, text: str) -> str:
        """Bits behind the point."""
        return f"\x1b[33m{text}{_RESET}" if self.on and text else text

    def result(self, text: str) -> str:
        """What a rounding makes."""
        return f"\x1b[1m{text}{_RESET}" if self.on else text


def calculation(made: Calculation, ink: Ink, shown: Calculation | None = None) -> list[str]:
    """The whole calculation, its title first; what it has in common with one that is ``shown`` already is not repeated."""
    lines = [title(made)]
    if made.note:
        lines.append(_line("what", made.note))
    if shown is not None and (shown.terms, shown.accumulator) == (made.terms, made.accumulator):
        lines += [_line("accumulator", f"{made.accumulator.held}, of the same numbers")] if made.accumulator else []
    else:
        lines += _terms(made)
        lines += _accumulator(made.accumulator) if made.accumulator is not None else []
    if made.rounding is not None:
        lines += _rounding(made.rounding, ink)
    lines.append(_line("output", ink.result(str(made.output)) + _end(made.rounding)))
    return lines


def place(made: Calculation) -> str:
    """The tensor and the element."""
    return made.tensor + index(made.element)


def index(element: Sequence[int]) -> str:
    """A place in a tensor, one number an axis: ``[7, 0, 1]``."""
    return f"[{', '.join(map(str, element))}]"


def title(made: Calculation) -> str:
    """What is computed, and by which rule."""
    rule = f", {made.rounding.rule}" if made.rounding is not None else ""
    return f"{place(made)} = {made.output}   (layer {made.layer}, {made.operation}{rule})"


def number(value: Fraction) -> str:
    """A number for people: an integer as it is, others to twelve digits."""
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.12g}"


def beside_tie(distance: Fraction, tie: Fraction) -> str:
    """Where a number lies: ``on the tie 2.5``, or how far above or below it."""
    if not distance:
        return f"on the tie {number(tie)}"
    return f"{abs(float(distance)):.4g} {'above' if distance > 0 else 'below'} the tie {number(tie)}"


def _line(name: str, text: str) -> str:
    return f"  {name:<11} {text}"


def _terms(made: Calculation) -> list[str]:
    if not made.terms:
        return []
    zero = f" minus the zero point {made.input_zero_point}" if made.input_zero_point is not None else ""
    weighted = made.terms[0].weight is not None
    sources = " and ".join(dict.fromkeys(f"layer {t.tensor}" for t in made.terms))
    count = len(made.terms)
    lines = [_line("reads", f"{count} number{'s' if count != 1 else ''} of {sources}{zero}{', times weights' if weighted else ''}")]
    # A maximum or a copy has no products to put in order.
    ordered = sorted(made.terms, key=lambda t: -abs(t.product)) if made.accumulator is not None else list(made.terms)
    shown, rest = ordered[:_TERMS], ordered[_TERMS:]
    rows = [(index(t.element), _factors(t, made.input_zero_point), str(t.product)) for t in shown]
    if rest and made.accumulator is not None:
        rows.append((f"{len(rest)} others", "", str(sum(t.product for t in rest))))
    elif rest:
        rows.append((f"{len(rest)} others", "", ""))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    summed = made.accumulator is not None
    for at, left, product in rows:
        lines.append(f"    {at:<{widths[0]}}   {left:>{widths[1]}}" + (f" = {product:>{widths[2]}}" if summed else ""))
    return [line.rstrip() for line in lines]


def _factors(t: Term, zero_point: int | None) -> str:
    """What is multiplied: the number, its zero point taken off, and the weight, its own taken off."""
    left = f"{t.x}" if not zero_point else f"({t.x} {'-' if zero_point > 0 else '+'} {abs(zero_point)})"
    if t.weight is None:
        return left.strip("()")
    return f"{left} * {t.product // t.centred if t.centred else t.weight}"


def _accumulator(acc: Accumulator) -> list[str]:
    lines = [_line("sum", f"{acc.products} + bias {acc.bias} = {acc.total}")] if acc.bias else []
    lines.append(_line("accumulator", f"{acc.held} = 0x{acc.pattern:0{-(-acc.width // 4)}x}"))
    lines.append(_line("", _grouped(f"{acc.pattern:0{acc.width}b}")))
    if acc.bits is None:
        lines.append(_line("headroom", "its register is wide enough for every input"))
    elif acc.headroom is not None and acc.headroom < 0:
        lines.append(_line("headroom", f"none: the sum {acc.total} overflowed {acc.bits} bits and wrapped"))
    else:
        lines.append(_line("headroom", f"{acc.headroom} before {acc.bits} bits overflow"))
    return lines


def _rounding(r: Rounding, ink: Ink) -> list[str]:
    lines = [_line(name, _multiplier(m)) for name, m in r.constants]
    lines.append(_line("value", f"{number(r.value)}, {beside_tie(r.distance, r.tie)}"))
    if r.value.denominator != 1:
        lines.append(_line("", f"exactly {r.value.numerator}/{r.value.denominator}"))
    for step in r.steps:
        lines += [] if _unseen(step) else _step(step, ink)
    if r.zero_point:
        lines.append(_line("zero point", f"{r.rounded} {'+' if r.zero_point > 0 else '-'} {abs(r.zero_point)} = {r.unclamped}"))
    return lines


def _multiplier(m: Multiplier) -> str:
    real = number(m.real)
    match m.kind:
        case "shift":
            return f"2^{m.exponent} = {real}: a shift by {-m.exponent} bits"
        case "Q31":
            stored = f"mantissa {m.mantissa} (0x{m.mantissa:08x}), shift {m.exponent + 31}: {m.mantissa} * 2^{m.exponent}"
        case "rational":
            return f"{m.mantissa}/{m.divisor} = {real}"
        case "integer":
            return real
        case _:
            stored = f"{m.kind} {m.bits}: {m.mantissa} * 2^{m.exponent}"
    exact = m.real
    return f"{stored} = {exact.numerator}/{exact.denominator} = {real}" if exact.denominator != 1 else f"{stored} = {real}"


def _unseen(step: Step) -> bool:
    """A float rounding beyond every digit that is shown, and not one that lands on a tie of the integers: nothing to look at."""
    lands = (2 * step.result).denominator == 1 and step.result.denominator == 2
    return step.unit != 1 and step.exact != step.result and number(step.exact) == number(step.result) and not lands


def _step(step: Step, ink: Ink) -> list[str]:
    if step.exact == step.result:
        return [_line(step.name, f"{step.formula} = {number(step.result)}, exactly")]
    grid = "" if step.unit == 1 else f" to a multiple of {_power(step.unit)}"
    where = beside_tie(step.distance, step.tie)
    lines = [
        _line(
            step.name,
            f"{step.formula}: {number(step.exact)} before rounding{grid}, {step.rule}, is {ink.result(number(step.result))} ({where})",
        )
    ]
    exact, tie, result = (v / step.unit for v in (step.exact, step.tie, step.result))
    # One bit more than needed, so that the sign shows; in fours from the point.
    most = max(abs(v.numerator // v.denominator) for v in (exact, tie, result)).bit_length() + 1
    width = -(-most // 4) * 4
    for name, value in (("before", exact), ("tie", tie), ("after", result)):
        whole, fraction = _bits(value, width)
        unit = f"   in units of {_power(step.unit)}" if step.unit != 1 and name == "before" else ""
        lines.append(_line("", f"{name:<7}{whole}{' . ' if fraction else ''}{ink.dropped(fraction)}{unit}"))
    return lines


def _bits(value: Fraction, width: int) -> tuple[str, str]:
    """Two's complement before the point, in fours, and the bits behind it, as far as they are shown."""
    whole, rest = divmod(value.numerator, value.denominator)
    bits: list[str] = []
    while rest and len(bits) < _PLACES:
        bit, rest = divmod(2 * rest, value.denominator)
        bits.append(str(bit))
    return _grouped(f"{whole % (1 << width):0{width}b}"), _grouped("".join(bits)) + ("..." if rest else "")


def _grouped(bits: str) -> str:
    return " ".join(bits[i : i + 4] for i in range(0, len(bits), 4))


def _power(unit: Fraction) -> str:
    """A power of two."""
    return f"2^{unit.numerator.bit_length() - unit.denominator.bit_length()}"


def _end(r: Rounding | None) -> str:
    if r is None:
        return ""
    if r.saturated is None:
        return f", not saturated: within [{r.lo}, {r.hi}]"
    return f", saturated: {r.unclamped} is {'below' if r.saturated == 'low' else 'above'} [{r.lo}, {r.hi}]"
