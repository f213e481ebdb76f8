"""Numbers of any size, exactly: as somebody types them, and as decimals."""

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import TypeAlias

from qfund.core.errors import InvalidInput

#: A number of any size, or what is none: ±inf, nan, and −0.0.
Number: TypeAlias = "Fraction | float"

#: The longest text of a typed number, and the furthest powers: exact arithmetic on longer ones would stop the page.
LONGEST, FURTHEST, FURTHEST_OF_TWO = 120, 1500, 5000
_PARTS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Fraction]], ...] = (
    (re.compile(r"([+-]?)(\d*\.?\d*)(?:e([+-]?\d+))?", re.ASCII), lambda found: _decimal(*found.groups())),
    (re.compile(r"([+-]?)2(?:\^|\*\*)\(?([+-]?\d+)\)?", re.ASCII), lambda found: _of_two(*found.groups())),
)


def parse(text: str) -> Number:
    """A number as somebody types it: ``66246``, ``-0.1``, ``1e-8``, ``1/3``, ``2^-24``, ``inf``, ``nan``; exactly.

    Raises:
        InvalidInput: it is none, or too long for exact arithmetic.
    """
    found = text.strip().lower().replace("−", "-").replace("_", "")
    if not found:
        raise InvalidInput("No number is typed.", "Type one, such as 1/3, 66246, 1e-8 or 2^-24.")
    if len(found) > LONGEST:
        raise InvalidInput(f"The number has {len(found):,} characters.", f"Type at most {LONGEST}.")
    if found.lstrip("+-") in ("inf", "infinity", "nan"):
        return float(found)
    over, slash, under = found.partition("/")
    number = _part(over.strip(), text)
    if slash:
        divisor = _part(under.strip(), text)
        if not divisor:
            raise InvalidInput(f"{text.strip()[:40]!r} divides by zero.", "Type inf to see what infinity looks like.")
        number /= divisor
    return -0.0 if not number and found.startswith("-") else number


def _part(text: str, whole: str) -> Fraction:
    for pattern, make in _PARTS:
        if match := pattern.fullmatch(text):
            return make(match)
    raise InvalidInput(
        f"{whole.strip()[:40]!r} is no number.",
        "Type one with a point for decimals: 0.1, 1/3, 66246, 1e-8, 2^-24, inf or nan.",
    )


def _decimal(sign: str, digits: str, exponent: str | None) -> Fraction:
    if not any(digit.isdigit() for digit in digits):
        raise InvalidInput(f"{sign}{digits or 'e'} is no number.", "Type digits, such as 0.1 or 1e-8.")
    number = Fraction(f"{digits}0" if digits.endswith(".") else digits)
    return (-number if sign == "-" else number) * Fraction(10) ** _exponent(exponent or "0", FURTHEST)


def _of_two(sign: str, exponent: str) -> Fraction:
    return (-1 if sign == "-" else 1) * Fraction(2) ** _exponent(exponent, FURTHEST_OF_TWO)


def _exponent(text: str, furthest: int) -> int:
    if len(text) > 8 or abs(int(text)) > furthest:
        raise InvalidInput(f"The exponent {text[:20]} is too far out.", f"Type one from −{furthest} to {furthest}.")
    return int(text)


def decimals(value: Number, places: int = 60) -> str:
    """As many decimals as ``f"{value:.60f}"`` writes, of a number of any size; rounded half to even."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value).replace("-", "−")
        value, sign = Fraction(value), "−" if math.copysign(1, value) < 0 else ""
    else:
        sign = "−" if value < 0 else ""
    whole, rest = divmod(round(abs(value) * 10**places), 10**places)
    return f"{sign}{whole}.{rest:0{places}d}" if places else f"{sign}{whole}"


def exact(value: Number, most: int = 60) -> str:
    """The whole decimal expansion where it has at most ``most`` significant digits, else its beginning and an ``…``; a
    power of ten where it is far from one."""
    if isinstance(value, float) and not (value == 0 or math.isfinite(value)):
        return str(value).replace("-", "−")
    if not value:
        return "−0" if isinstance(value, float) and math.copysign(1, value) < 0 else "0"
    number = abs(Fraction(value))
    sign = "−" if value < 0 else ""
    power = _floor_log10(number)
    scaled = number / Fraction(10) ** (power - most + 1)
    digits = str(int(scaled))
    more = "" if scaled.denominator == 1 else "…"
    kept = digits if more else digits.rstrip("0")
    if -5 <= power < 21:
        kept = kept.ljust(power + 1, "0")
        if power < 0:
            return f"{sign}0.{'0' * (-power - 1)}{kept}{more}"
        head, tail = kept[: power + 1], kept[power + 1 :]
        return f"{sign}{head}{'.' if tail else ''}{tail}{more}"
    return f"{sign}{kept[0]}{'.' if kept[1:] else ''}{kept[1:]}{more}e{power:+d}".replace("e-", "e−")


def short(value: Number, digits: int = 6) -> str:
    """A number of a format, rounded to so many significant digits."""
    text = f"{float(value):.{digits}g}".replace("-", "−")
    head, _, power = text.partition("e")
    return f"{head}e{power[0].replace('+', '')}{int(power[1:])}" if power else head


def _floor_log10(value: Fraction) -> int:
    guess = len(str(value.numerator)) - len(str(value.denominator))
    return guess if Fraction(10) ** guess <= value else guess - 1


def power_of_two(exponent: int) -> Fraction:
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def floor_log2(value: Fraction) -> int:
    """The largest whole k with 2^k ≤ value, which is positive."""
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if power_of_two(guess) <= value else guess - 1
