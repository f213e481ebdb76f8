"""Matrices that somebody types, and the course's own."""

import math

import numpy as np

from qfund.core.errors import InvalidInput
from qfund.features.quantizer.request.linear import Floats, checked

#: The matrix that the course quantises by hand ("Quantization in Depth").
COURSE = np.array([[191.6, -13.5, 728.6], [92.14, 295.5, -184], [0, 684.6, 245.5]], np.float32)
#: The course's first scale and zero-point, chosen at random, with 8 bits: its mean squared error is 170.88.
COURSE_SCALE, COURSE_ZERO_POINT = 3.5, -70
LONGEST = 20_000  # characters
MOST = 128  # rows and columns
_SHOWN = 40  # characters of a text that a message repeats


def parse(text: str) -> Floats:
    """Rows on lines of their own or between semicolons or brackets, numbers between spaces or commas.

    Raises:
        InvalidInput: something in it is no number, rows differ in length, or there are too many.
    """
    if len(text) > LONGEST:
        raise InvalidInput(f"The matrix has {len(text):,} characters.", f"Type at most {LONGEST:,}.")
    # Python's [[1, 2], [3, 4]] too: a bracket that closes ends a row.
    lines = text.replace("[", " ").replace("]", "\n").replace(";", "\n").splitlines()
    rows = [found for line in lines if (found := line.replace(",", " ").replace("−", "-").split())]
    if not rows:
        raise InvalidInput("No number is typed.", "Type rows of numbers, such as 1 2 3 and on the next line 4 5 6.")
    width = len(rows[0])
    for place, row in enumerate(rows, start=1):
        if len(row) != width:
            raise InvalidInput(
                f"Row {place} has {_numbers(len(row))}, row 1 has {_numbers(width)}.",
                "Give every row as many numbers.",
            )
    if len(rows) > MOST or width > MOST:
        raise InvalidInput(f"The matrix is {len(rows)} × {width}.", f"Type at most {MOST} rows and columns.")
    return checked(np.array([[_number(word) for word in row] for row in rows], np.float64))


def _numbers(count: int) -> str:
    return f"{count} number{'s' * (count > 1)}"


def _number(word: str) -> float:
    try:
        found = float(word)
    except ValueError:
        raise InvalidInput(
            f"{word[:_SHOWN]!r} is no number.", "Write numbers as 12, −0.5 or 1e-3, with a point for decimals."
        ) from None
    if math.isnan(found):
        raise InvalidInput("The matrix holds NaN: it has no range, so no scale.", "Replace it with a number.")
    return found
