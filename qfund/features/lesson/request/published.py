"""The course's published figures and what comes out today: measured data (``published.json``) and how they compare.

``python -m training.course`` computes what comes out; a test computes it again. No torch.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("published.json")
#: Relative difference up to which a figure comes out nearly.
NEAR = 1e-3
#: How a figure compares → what that means.
VERDICTS = {
    "exactly": "The same figure, to the last digit that was published.",
    "explained": "Another figure, and the published one to the last digit once the named differences are undone.",
    "nearly": f"Within {NEAR:.1%} of it.",
    "changed": "Something else comes out today.",
    "not run here": "It needs weights that do not ship with qfund.",
}


@dataclass(frozen=True, slots=True)
class CourseFigure:
    """One published figure.

    Attributes:
        question: id of the question that it belongs to.
        then: as published, a number or a text; a text that ends in … is its beginning.
        now: what comes out today; None where it needs weights that are not here.
        again: what comes out once the differences that ``why`` names are undone; None where nothing is to be undone.
        digits: decimals that were published, to which the others are rounded; None for all.
    """

    id: str
    question: str
    what: str
    then: int | float | str
    now: int | float | str | None
    again: int | float | None = None
    digits: int | None = None
    unit: str = ""
    why: str = ""

    @property
    def verdict(self) -> str:
        """One of ``VERDICTS``."""
        if self.now is None:
            return "not run here"
        if self._same(self.now):
            return "exactly"
        if self.again is not None and self._same(self.again):
            return "explained"
        close = (
            isinstance(self.then, float | int)
            and isinstance(self.now, float | int)
            and abs(self.now - self.then) <= NEAR * abs(self.then)
        )
        return "nearly" if close else "changed"

    def _same(self, value: int | float | str) -> bool:
        if isinstance(self.then, str) or isinstance(value, str):
            then, found = str(self.then), str(value)
            return found.startswith(then[:-1]) if then.endswith("…") else found == then
        return value == self.then if self.digits is None else round(value, self.digits) == self.then


@dataclass(frozen=True, slots=True)
class CourseFigures:
    """``versions`` of the packages that computed ``now``."""

    versions: dict[str, str]
    figures: tuple[CourseFigure, ...]


@cache
def load() -> CourseFigures:
    """The shipped table; read once in a process."""
    return msgspec.json.decode(FILE.read_bytes(), type=CourseFigures)
