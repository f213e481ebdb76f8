"""Linear quantisation in formulas with the numbers of one weight in them (LaTeX), and in words."""

import numpy as np

from qfund import linear_quantiser
from qfund.linear_quantiser import Codes, Floats, Parameters, Scheme


def number(value: float) -> str:
    """Five significant digits, in LaTeX and in words; a power of ten where zeros would take over."""
    text = f"{value:.5g}"
    if "e" not in text:
        return text
    digits, power = text.split("e")
    return f"{digits}\\cdot 10^{{{int(power)}}}"


def plain(value: float) -> str:
    """As ``number``, without LaTeX."""
    return f"{value:.5g}"


def formulas(
    weight: Floats, codes: Codes, values: Floats, used: Parameters, scheme: Scheme, cell: tuple[int, int], own: bool
) -> list[str]:
    """Scale, zero-point, code and value of the weight at ``cell``, each as a LaTeX formula.

    Args:
        used: the parameters; ``own`` says that somebody chose them, so that no rule is written.
    """
    place = linear_quantiser.place(*cell, weight.shape[1], scheme)
    scale, zero_point = float(used.scale[place]), int(used.zero_point[place])
    w, q, value = float(weight[cell]), int(codes[cell]), float(values[cell])
    lines = [] if own else _rule(part_of(weight, codes, scheme, cell)[0], scale, zero_point, scheme)
    if own:
        lines.append(f"s = {number(scale)}" + ("" if scheme.symmetric else f",\\quad z = {zero_point}"))
    bounds = f"{scheme.q_min},\\ {scheme.q_max}"
    shifted = "" if scheme.symmetric else f" {_signed(zero_point)}"
    fraction = f"\\frac{{{number(w)}}}{{{number(scale)}}}"
    if scheme.convention == "course":
        symbol, numbers = (r"\frac{w}{s}" + ("" if scheme.symmetric else " + z")), f"{fraction}{shifted}"
        lines.append(rf"q = \mathrm{{clamp}}\left(\mathrm{{round}}\left({symbol}\right)\right) = "
                     rf"\mathrm{{clamp}}\left(\mathrm{{round}}\left({numbers}\right),\ {bounds}\right) = {q}")  # fmt: skip
    else:
        symbol = r"\mathrm{round}\left(\frac{w}{s}\right)" + ("" if scheme.symmetric else " + z")
        numbers = rf"\mathrm{{round}}\left({fraction}\right){shifted}"
        lines.append(rf"q = \mathrm{{clamp}}\left({symbol}\right) = "
                     rf"\mathrm{{clamp}}\left({numbers},\ {bounds}\right) = {q}")  # fmt: skip
    back = rf"{_bracketed(q)} \cdot" if scheme.symmetric else rf"({q} {_signed(-zero_point)}) \cdot"
    symbol = r"q \cdot s" if scheme.symmetric else r"(q - z) \cdot s"
    lines.append(rf"\hat w = {symbol} = {back} {number(scale)} = {number(value)}")
    lines.append(rf"\hat w - w = {number(value)} {_signed(-w)} = {number(value - w)}")
    return lines


def _rule(part: Floats, scale: float, zero_point: int, scheme: Scheme) -> list[str]:
    low, high = float(part.min()), float(part.max())
    if scheme.symmetric:
        reach = max(-low, high)
        below = str(scheme.q_max) if scheme.convention == "course" else f"{(scheme.q_max - scheme.q_min) / 2:g}"
        name = r"q_{\max}" if scheme.convention == "course" else r"(q_{\max} - q_{\min}) / 2"
        return [rf"s = \frac{{\max |w|}}{{{name}}} = \frac{{{number(reach)}}}{{{below}}} = {number(scale)},\quad z = 0"]
    if scheme.convention == "torchao":
        low, high = min(low, 0.0), max(high, 0.0)
        top = r"\max(w, 0) - \min(w, 0)"
    else:
        top = r"\max w - \min w"
    steps = rf"{scheme.q_max} {_signed(-scheme.q_min)}"
    return [
        rf"s = \frac{{{top}}}{{q_{{\max}} - q_{{\min}}}} = \frac{{{number(high)} {_signed(-low)}}}{{{steps}}} = "
        rf"{number(scale)}",
        rf"z = \mathrm{{clamp}}\left(\mathrm{{round}}\left(q_{{\min}} - \frac{{\min w}}{{s}}\right)\right) = "
        rf"\mathrm{{clamp}}\left(\mathrm{{round}}\left({scheme.q_min} - \frac{{{number(low)}}}{{{number(scale)}}}"
        rf"\right)\right) = {zero_point}",
    ]


def part_of(weight: Floats, codes: Codes, scheme: Scheme, cell: tuple[int, int]) -> tuple[Floats, Codes, str]:
    """The weights that share the scale of the one at ``cell``, their codes, and what they are in words."""
    if scheme.granularity == "tensor":
        return weight, codes, f"All {weight.size:,} weights"
    size = scheme.size(weight.shape[1])
    start = cell[1] // size * size
    stop = min(start + size, weight.shape[1])
    rows = slice(cell[0], cell[0] + 1)
    name = f"Row {cell[0]:,}" if size == weight.shape[1] else f"Columns {start:,} to {stop - 1:,} of row {cell[0]:,}"
    found = weight[rows, start:stop], codes[rows, start:stop]
    return *found, f"{name}: {found[0].size:,} weights that share a scale"


def _signed(value: float) -> str:
    """A number that is added: ``+ 3.5`` or ``- 3.5``."""
    return f"- {number(-value)}" if value < 0 or (value == 0 and np.signbit(value)) else f"+ {number(value)}"


def _bracketed(value: int) -> str:
    return f"({value})" if value < 0 else str(value)
