"""The weights that a page looks at, as query parameters: the same names on every page."""

from collections.abc import Mapping

from qfund.checkpoints.weights import Part
from qfund.core import parameters
from qfund.core.parameters import Meant, Parameter, Query, count, last, text

_FURTHEST = 10_000_000  # rows and columns
_EXTENTS = {"tile": False, "whole": True}


def _read_extent(short: str, values: list[str]) -> Meant:
    value, problems = text("whole", _EXTENTS).read(short, values)
    return _EXTENTS.get(value), problems


_PARAMETERS = {
    "model": text("model"),
    "rev": text("revision"),
    "tensor": text("tensor"),
    "part": Parameter("whole", lambda whole: ["whole" if whole else "tile"], _read_extent),
    "row": count("row", 0, _FURTHEST),
    "column": count("column", 0, _FURTHEST),
}


def to_query(part: Part) -> Query:
    return parameters.to_query(part, _PARAMETERS)


def from_query(query: Mapping[str, list[str]]) -> tuple[Part, list[str], set[str]]:
    """The weights that a link asks for, what had to be ignored, and the parameters that were understood."""
    mine = {name: values for name, values in query.items() if name in _PARAMETERS and last(values)}
    part, problems = parameters.from_query(Part(), _PARAMETERS, mine)
    return part, sorted(problems), set(_PARAMETERS)
