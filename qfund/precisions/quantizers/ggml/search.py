"""The searches for scales that ggml's block formats share, each over many blocks at once.

All of them take blocks as columns, [weights of a block, blocks] float32, so that a sum over a block is a sum over the
first axis. NumPy adds that up row by row, in the order in which ggml's reference code adds up the weights of a block,
and each operation is rounded to float32 by itself, as there: so that equal weights give equal bytes. What is tried,
and in which order, is the format's definition as llama.cpp ships it (``ggml-quants.c``); a scale that is less than the
best by a rounding error decides which of two codes is written.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
#: Blocks whose largest magnitude is below this count as zeros.
NOTHING = np.float32(1e-15)


@dataclass(frozen=True, slots=True)
class Affine:
    """``scale`` and ``minimum`` (≤ 0) of each block, and the ``inverse`` scale and ``origin`` that gave the codes which
    they were fitted to: code = round(inverse · (x − origin))."""

    scale: Floats
    minimum: Floats
    inverse: Floats
    origin: Floats


def total(terms: Floats) -> Floats:
    """[n, blocks] → [blocks], added up in order."""
    found: Floats = np.add.reduce(terms, axis=0)
    return found


def furthest(x: Floats) -> Floats:
    """The value of the largest magnitude of each block, with its sign; the first of those that are equal."""
    place = np.abs(x).argmax(axis=0)
    found: Floats = np.take_along_axis(x, place[None], 0)[0]
    return found


def affine(x: Floats, weights: Floats, top: int, first: float, step: float, steps: int, absolute: bool) -> Affine:
    """x ≈ scale · code + minimum with codes 0 … ``top``, from the smallest to the largest weight of each block at
    first.

    Then ``steps`` + 1 other numbers of levels are tried: ``top`` + ``first``, and so on in ``step``s. Each gives
    codes, these give scale and minimum by weighted least squares (a minimum above zero becomes zero), and those are
    kept where the weighted squared (or ``absolute``) error falls. A new minimum is where the codes of the next try
    begin.
    """
    low = np.minimum(x.min(axis=0), np.float32(0))
    high = x.max(axis=0)
    sum_w, sum_x = total(weights), total(weights * x)
    levels = np.float32(top)
    start = low
    inverse = levels / (high - low)
    scale = 1 / inverse
    codes, term, wl = (np.empty_like(x) for _ in range(3))

    def encode(by: Floats) -> None:
        np.subtract(x, low, out=codes)
        np.multiply(codes, by, out=codes)
        np.rint(codes, out=codes)
        np.minimum(codes, levels, out=codes)
        np.maximum(codes, np.float32(0), out=codes)

    def error(scale: NDArray[Any], minimum: NDArray[Any]) -> Floats:
        np.multiply(codes, scale, out=term)
        np.add(term, minimum, out=term)
        np.subtract(term, x, out=term)
        if absolute:
            np.abs(term, out=term)
        else:
            np.multiply(term, term, out=term)
        return total(np.multiply(term, weights, out=term))

    encode(inverse)
    best, origin = error(scale, low), low
    for number in range(steps + 1):
        by = (np.float32(first) + np.float32(step) * np.float32(number) + levels) / (high - low)
        encode(by)
        sum_l = total(np.multiply(weights, codes, out=wl))
        sum_l2 = total(np.multiply(wl, codes, out=term))
        sum_xl = total(np.multiply(wl, x, out=term))
        determinant = sum_w * sum_l2 - sum_l * sum_l
        fitted = (sum_w * sum_xl - sum_x * sum_l) / determinant
        minimum = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
        above = minimum > 0
        fitted = np.where(above, sum_xl / sum_l2, fitted)
        minimum = np.where(above, np.float32(0), minimum)
        found = error(fitted, minimum)
        better = (determinant > 0) & (found < best)
        best = np.where(better, found, best)
        scale, inverse = np.where(better, fitted, scale), np.where(better, by, inverse)
        origin, low = np.where(better, low, origin), np.where(better, minimum, low)
    flat = high == start
    nothing = np.float32(0)
    return Affine(
        np.where(flat, nothing, scale),
        np.where(flat, start, low),
        np.where(flat, nothing, inverse),
        np.where(flat, start, origin),
    )


def symmetric(x: Floats, weights: Floats, top: int, tries: int) -> tuple[Floats, Floats]:
    """x ≈ scale · code with codes −``top`` … ``top`` − 1, and the inverse scale that gave the codes.

    The weight of the largest magnitude becomes −``top`` at first, then −(``top`` + i/10) for i up to ``tries`` to both
    sides; the scale that goes with the codes, by weighted least squares, is kept where it explains more.
    """
    extreme = furthest(x)
    weighted = weights * x
    codes, term = np.empty_like(x), np.empty_like(x)

    def sums(by: Floats) -> tuple[Floats, Floats]:
        np.multiply(x, by, out=codes)
        np.rint(codes, out=codes)
        np.minimum(codes, np.float32(top - 1), out=codes)
        np.maximum(codes, np.float32(-top), out=codes)
        sum_xl = total(np.multiply(weighted, codes, out=term))
        np.multiply(weights, codes, out=term)
        return sum_xl, total(np.multiply(term, codes, out=term))

    inverse = np.float32(-top) / extreme
    sum_xl, sum_l2 = sums(inverse)
    scale = np.where(sum_l2 != 0, sum_xl / sum_l2, np.float32(0))
    best = scale * sum_xl
    for number in (*range(-tries, 0), *range(1, tries + 1)):
        by = -(np.float32(top) + np.float32(0.1) * np.float32(number)) / extreme
        sum_xl, sum_l2 = sums(by)
        better = (sum_l2 > 0) & (sum_xl * sum_xl > best * sum_l2)
        scale = np.where(better, sum_xl / sum_l2, scale)
        best, inverse = np.where(better, scale * sum_xl, best), np.where(better, by, inverse)
    nothing = np.abs(extreme) < NOTHING
    return np.where(nothing, np.float32(0), scale), np.where(nothing, np.float32(0), inverse)


def symmetric_codes(x: Floats, inverse: Floats, top: int) -> Floats:
    """What ``symmetric`` ended with; of blocks of zeros the lowest code, which ggml leaves there."""
    codes: Floats = np.clip(np.rint(inverse * x), -top, top - 1)
    codes[:, inverse == 0] = -top
    return codes


def positive(x: Floats, weights: Floats, top: int) -> tuple[Floats, Floats]:
    """x ≈ scale · code, x ≥ 0 and codes 0 … ``top``: scales and codes.

    Of nine scales around that which makes the largest value ``top`` the one with the least weighted squared error gives
    the first codes; then each is changed by itself as in ``descended``.
    """
    most = np.maximum(x.max(axis=0), np.float32(0))
    highest = np.float32(top)

    def error(by: Floats) -> Floats:
        difference = x - 1 / by * np.minimum(np.rint(by * x), highest)
        return total(weights * difference * difference)

    inverse = highest / most
    best = error(inverse)
    for number in (*range(-4, 0), *range(1, 5)):
        by = (np.float32(0.1) * np.float32(number) + highest) / most
        found = error(by)
        inverse = np.where(found < best, by, inverse)
        best = np.minimum(found, best)
    codes = np.minimum(np.rint(inverse * x), highest)
    scale = _descend(x, weights, codes, highest, np.float32(0), both=True)
    nothing = most < NOTHING
    codes[:, nothing] = 0
    return np.where(nothing, np.float32(0), scale), codes


def descended(x: Floats, top: int) -> tuple[Floats, Floats]:
    """x ≈ scale · code with codes −``top`` … ``top`` − 1: scales and codes, changed one code at a time.

    Begun as in ``symmetric``. Then each weight in turn takes the code that suits the scale of the others, where that
    explains more; up to five times round, until nothing changes.
    """
    extreme = furthest(x)
    bottom, highest = np.float32(-top), np.float32(top - 1)
    codes = np.clip(np.rint(bottom / extreme * x), bottom, highest)
    scale = _descend(x, x * x, codes, highest, bottom, both=False)
    nothing = np.abs(extreme) < NOTHING
    return np.where(nothing, np.float32(0), scale), np.where(nothing, bottom, codes)


def _descend(x: Floats, weights: Floats, codes: Floats, highest: np.float32, bottom: np.float32, both: bool) -> Floats:
    """Changes ``codes`` in place, one weight of all blocks at a time, up to five times round; the scales. ``both``:
    whether the scale of the others must have something to go by, and not the new one."""
    weighted = weights * x
    sum_xl, sum_l2 = total(weighted * codes), total(weights * codes * codes)
    for _ in range(5):
        changed = False
        for place in range(len(x)):
            value, weight, moment, code = x[place], weights[place], weighted[place], codes[place]
            others_xl = sum_xl - moment * code
            others_l2 = sum_l2 - weight * code * code
            other = np.clip(np.rint(value * others_l2 / others_xl), bottom, highest)
            new_xl = others_xl + moment * other
            new_l2 = others_l2 + weight * other * other
            better = (others_xl > 0) & (other != code) & ((others_l2 if both else new_l2) > 0)
            better &= new_xl * new_xl * sum_l2 > sum_xl * sum_xl * new_l2
            if better.any():
                changed = True
                codes[place] = np.where(better, other, code)
                sum_xl, sum_l2 = np.where(better, new_xl, sum_xl), np.where(better, new_l2, sum_l2)
        if not changed:
            break
    return np.where(sum_l2 > 0, sum_xl / sum_l2, np.float32(0))
