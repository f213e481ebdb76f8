"""Linear quantisation in formulas with the numbers of one weight in them, and in words.

A formula is a list of pieces, each of which may stand on a line of its own: symbols, numbers, result. A piece is a list
of tokens: text (a name, a number, a sign; ``q_max`` has an index), or a fraction. The browser draws them as MathML: as
LaTeX they took it longer than the rest of the page, too long for a slider.
"""

from typing import TypeAlias

import numpy as np

from qfund.features.quantizer.request import linear
from qfund.features.quantizer.request.linear import (
    GRANULARITIES,
    LEAST_SCALE,
    Codes,
    Floats,
    Parameters,
    Scheme,
    extremes,
)

#: Text, or {"over": tokens, "under": tokens}.
Token: TypeAlias = "str | dict[str, list[Token]]"
Formula: TypeAlias = list[list[Token]]

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float) -> str:
    """Five significant digits, with a power of ten where zeros would take over: ``1.5·10⁻⁷``."""
    digits, _, power = f"{value:.5g}".replace("-", "−").partition("e")
    return f"{digits}·10{str(int(power.replace('−', '-'))).translate(_RAISED)}" if power else digits


def formulas(
    weight: Floats, codes: Codes, values: Floats, used: Parameters, scheme: Scheme, cell: tuple[int, int], own: bool
) -> list[Formula]:
    """Scale, zero-point, code, value and error of the weight at ``cell``.

    Args:
        used: the parameters; ``own`` says that somebody chose them, so that no rule is written.
    """
    place = linear.scale_index(*cell, weight.shape[1], scheme)
    scale, zero_point = float(used.scale[place]), int(used.zero_point[place])
    w, q, value = float(weight[cell]), int(codes[cell]), float(values[cell])
    s, z = number(scale), "" if scheme.symmetric else number(zero_point)
    if own:
        found = [_given("s", s), *([] if scheme.symmetric else [_given("z", z)])]
    else:
        found = _rule(part_of(weight, codes, scheme, cell)[0], s, zero_point, scheme)
    added: list[Token] = [] if scheme.symmetric else ["+", "z"]
    shifted: list[Token] = [] if scheme.symmetric else ["+", *_bracketed(z)]
    if scheme.convention == "course":
        symbols = _call("clamp", _call("round", [_over(["w"], ["s"]), *added]), "q_min", "q_max")
        numbers = _call("clamp", _call("round", [_over([number(w)], [s]), *shifted]), *_ends(scheme))
    else:
        symbols = _call("clamp", [*_call("round", [_over(["w"], ["s"])]), *added], "q_min", "q_max")
        numbers = _call("clamp", [*_call("round", [_over([number(w)], [s])]), *shifted], *_ends(scheme))
    found.append([["q", "=", *symbols], ["=", *numbers], ["=", number(q)]])
    if scheme.symmetric:
        found.append([["ŵ", "=", "q", "·", "s"], ["=", *_bracketed(number(q)), "·", s], ["=", number(value)]])
    else:
        back: list[Token] = ["=", "(", number(q), "−", *_bracketed(z), ")", "·", s]
        found.append([["ŵ", "=", "(", "q", "−", "z", ")", "·", "s"], back, ["=", number(value)]])
    error: list[Token] = ["=", number(value), "−", *_bracketed(number(w))]
    found.append([["ŵ", "−", "w"], error, ["=", number(value - w)]])
    return found


def _given(name: str, value: str) -> Formula:
    return [[name, "=", value], ["(yours)"]]


def _rule(part: Floats, s: str, zero_point: int, scheme: Scheme) -> list[Formula]:
    low, high = float(part.min()), float(part.max())
    course = scheme.convention == "course"
    if scheme.symmetric:
        steps = str(scheme.q_max) if course else number((scheme.q_max - scheme.q_min) / 2)
        under: list[Token] = ["q_max"] if course else ["(", "q_max", "−", "q_min", ")", "/", "2"]
        reach = number(max(-low, high))
        return [
            [["s", "=", _over(["max", "|", "w", "|"], under)], ["=", _over([reach], [steps])], ["=", s]],
            [["z = 0"]],
        ]
    if not course:
        low, high = min(low, 0.0), max(high, 0.0)
    least: list[Token] = ["min", "w"] if course else ["min", "(", "w", ",", "0", ")"]
    most: list[Token] = ["max", "w"] if course else ["max", "(", "w", ",", "0", ")"]
    bottom, top = _ends(scheme)
    spans = _over([number(high), "−", *_bracketed(number(low))], [top, "−", *_bracketed(bottom)])
    first: Formula = [["s", "=", _over([*most, "−", *least], ["q_max", "−", "q_min"])], ["=", spans], ["=", s]]
    symbols, numbers = _over(least, ["s"]), _over([number(low)], [s])
    if course:
        inside, worked = _call("round", ["q_min", "−", symbols]), _call("round", [bottom, "−", numbers])
    else:
        inside, worked = ["q_min", "−", *_call("round", [symbols])], [bottom, "−", *_call("round", [numbers])]
    second = [_call("clamp", inside, "q_min", "q_max"), _call("clamp", worked, bottom, top)]
    return [first, [["z", "=", *second[0]], ["=", *second[1]], ["=", number(zero_point)]]]


def _over(over: list[Token], under: list[Token]) -> Token:
    return {"over": over, "under": under}


def _call(name: str, *inside: list[Token] | str) -> list[Token]:
    """``name(a, b, c)``."""
    found: list[Token] = [name, "("]
    for place, part in enumerate(inside):
        found += [","] * (place > 0) + ([part] if isinstance(part, str) else part)
    return [*found, ")"]


def _ends(scheme: Scheme) -> tuple[str, str]:
    return number(scheme.q_min), number(scheme.q_max)


def _bracketed(value: str) -> list[Token]:
    return ["(", value, ")"] if value.startswith("−") else [value]


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


def notes(weight: Floats, parameters: Parameters, scheme: Scheme) -> list[str]:
    """Sentences on what is odd about this matrix or does not fit the scheme."""
    said = []
    columns = weight.shape[1]
    if (size := GRANULARITIES[scheme.granularity]) and columns % size:
        last = columns % size
        whole = f"the last group of every row has {last}" if columns > size else f"a row is one group of {last}"
        said.append(
            f"{columns:,} columns are no multiple of {size}: {whole}. torchao refuses such a shape; qfund does not."
        )
    low, high = extremes(weight, scheme)
    if weight.min() == weight.max():
        what = "zero, which every scale holds exactly" if weight.flat[0] == 0 else f"{weight.flat[0]:g}"
        said.append(f"Every weight here is {what}.")
    if scheme.convention == "course" and not scheme.symmetric:
        if flat := int(np.count_nonzero((low == high) & (low != 0))):
            said.append(
                f"{_parts(flat, scheme)} one value alone, so the range is empty and the course's scale would be 0: the "
                f"smallest one, {LEAST_SCALE:.3g}, stands in. torchao's range includes zero and has no such case."
            )
        if outside := int(np.count_nonzero(((low > 0) | (high < 0)) & (low != high))):
            said.append(
                f"{_parts(outside, scheme)} no zero between smallest and largest, so the zero-point that it needs is "
                "no code and was clamped: weights are clipped. torchao's range includes zero for this reason."
            )
    return said


def _parts(count: int, scheme: Scheme) -> str:
    if scheme.granularity == "tensor":
        return "The matrix has"
    name = "row" if scheme.granularity == "channel" else "group"
    return f"{count:,} {name}{'s have' if count > 1 else ' has'}"
