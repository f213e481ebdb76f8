"""Pairs of texts and how alike people find them, as sets of semantic textual similarity give them. No torch."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from qfund.core.errors import InvalidInput
from qfund.core.text import lines

MAX_PAIRS = 10_000
_SHAPE = (
    "Give CSV, TSV or JSON lines: two texts and a score, in columns sentence1, sentence2 and score "
    "(or, without such names, in this order; the seven columns of the STS benchmark are known too)."
)
#: Names of columns, of the first text, the second and the score.
_FIRST = ("sentence1", "sentence_1", "text1", "text_a", "first", "s1")
_SECOND = ("sentence2", "sentence_2", "text2", "text_b", "second", "s2")
_SCORE = ("score", "similarity_score", "similarity", "relatedness_score", "gold", "label")
_STS = (5, 6, 4)  # genre, file, year, number, score, first, second


@dataclass(frozen=True, slots=True)
class Pair:
    """``score``: the higher, the more alike."""

    first: str
    second: str
    score: float


_Rows = list[tuple[Sequence[object], int]]


def of_file(text: str) -> tuple[Pair, ...]:
    """The pairs of a document.

    Raises:
        InvalidInput: a line that holds none, or nothing at all.
    """
    each = [line for line in lines(text) if line.strip()]
    rows: _Rows = []
    if each:
        rows = _json(each) if each[0].lstrip()[:1] in "{[" else _columns(text, "\t" if "\t" in each[0] else ",")
    if not rows:
        raise InvalidInput("The file holds no pair.", _SHAPE)
    return tuple(_pair(row, number) for row, number in rows)


def _json(each: list[str]) -> _Rows:
    rows: _Rows = []
    for number, line in enumerate(each, 1):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"Line {number} of the pairs is no JSON.", _SHAPE) from error
        if isinstance(found, dict):
            found = [next((found[name] for name in names if name in found), None) for names in _NAMES]
        rows.append((found if isinstance(found, list) else (), number))
    return rows


_NAMES = (_FIRST, _SECOND, _SCORE)


def _columns(text: str, comma: str) -> _Rows:
    each = [f"{line}\n" for line in lines(text)]
    if comma == "\t":  # such files have quotes that never close
        reader = csv.reader(each, delimiter=comma, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(each, delimiter=comma)
    try:
        found = [(row, reader.line_num) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise InvalidInput(f"Line {reader.line_num} of the pairs cannot be read: {error}.", _SHAPE) from error
    if not found:
        return []
    head = [name.strip().lower() for name in found[0][0]]
    places = [next((head.index(name) for name in names if name in head), None) for names in _NAMES]
    if None not in places:
        order: Sequence[int | None] = places
        found = found[1:]
    else:
        order = _STS if len(head) >= 7 else (0, 1, 2)
    return [([row[at] if at is not None and at < len(row) else None for at in order], number) for row, number in found]


def _pair(row: Sequence[object], number: int) -> Pair:
    if len(row) != 3 or row[2] is None or not all(isinstance(part, str) and part.strip() for part in row[:2]):
        raise InvalidInput(f"Line {number} of the pairs holds no two texts and a score.", _SHAPE)
    try:
        score = float(str(row[2]))
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise InvalidInput(f"Line {number} of the pairs has no number as its score: {str(row[2])[:40]!r}.", _SHAPE)
    return Pair(str(row[0]), str(row[1]), score)


def check(pairs: Sequence[Pair], longest: int) -> None:
    """Raises ``InvalidInput`` for too many, a text that is empty or too long, or scores that order nothing."""
    if len(pairs) > MAX_PAIRS:
        raise InvalidInput(f"There are {len(pairs):,} pairs.", f"Give at most {MAX_PAIRS:,}.")
    for number, pair in zip(count(1), pairs, strict=False):
        for text in (pair.first, pair.second):
            if not text.strip() or len(text) > longest:
                raise InvalidInput(f"Pair {number} has a text of {len(text):,} characters.", f"Give 1 to {longest:,}.")
    if pairs and len({pair.score for pair in pairs}) < 2:
        raise InvalidInput("All pairs have the same score, so there is no order to agree with.", _SHAPE)
