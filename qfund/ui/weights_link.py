"""The weights that a page looks at, as query parameters: the same names on every page."""

from collections.abc import Mapping
from dataclasses import replace

from qfund.ui.address import Query
from qfund.ui.parameters import whole_number
from qfund.weights import Part

_FURTHEST = 10_000_000  # rows and columns
TILE, WHOLE = "tile", "whole"


def to_query(part: Part) -> Query:
    query = {"model": [part.model], "rev": [part.revision or ""], "tensor": [part.tensor]}
    query["part"] = [WHOLE if part.whole else TILE]
    query |= {"row": [str(part.row)], "column": [str(part.column)]}
    return {name: values for name, values in query.items() if values != [""]}


def from_query(query: Mapping[str, list[str]]) -> tuple[Part, list[str], set[str]]:
    """The weights that a link asks for, what had to be ignored, and the parameters that were understood."""
    part, problems, known = Part(), [], {"model", "rev", "tensor", "part", "row", "column"}
    for name in known & set(query):
        value = query[name][-1][:1024] if query[name] else ""
        if not value:
            continue
        if name in ("row", "column"):
            if (found := whole_number(value, 0, _FURTHEST)) is None:
                problems.append(f"Ignored {name}={value[:40]!r}: no number from 0 to {_FURTHEST:,}.")
            else:
                part = replace(part, **{name: found})  # type: ignore[arg-type]
        elif name == "part":
            if value not in (TILE, WHOLE):
                problems.append(f"Ignored part={value[:40]!r}. Available: {TILE}, {WHOLE}.")
            part = replace(part, whole=value == WHOLE)
        else:
            part = replace(part, **{"revision" if name == "rev" else name: value})  # type: ignore[arg-type]
    return part, sorted(problems), known
