"""What the page Number formats is asked for as one value, and that value as the address of the page."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from qfund.checkpoints.weights import Part
from qfund.core.errors import QfundError
from qfund.core.parameters import Query
from qfund.features.formats.request.formats import FORMATS, Format, number_format
from qfund.features.formats.request.numbers import Number, parse
from qfund.features.formats.request.rounding import decode, encode
from qfund.features.formats.tables import SCALED, SCALINGS
from qfund.ui import weights_link
from qfund.ui.address import Address

#: Names of the sections as they stand in an address, and their titles.
SECTIONS = {
    "bits": ":material/toggle_on: Bits and numbers",
    "ranges": ":material/show_chart: What each can hold",
    "weights": ":material/bar_chart: Where real weights fall",
}
_LONGEST = 120  # characters of a number in a link
_CHOICES = {"scaling": SCALINGS, "section": SECTIONS}


@dataclass(frozen=True, slots=True)
class Asked:
    """Every choice of the page.

    Attributes:
        code: the bits that the editor holds.
        number: as somebody typed it.
        scaling: a name of ``SCALINGS``.
        section: a name of ``SECTIONS``.
    """

    format: str = "fp16"
    code: int = 0x3555
    number: str = "1/3"
    part: Part = field(default_factory=Part)
    scaling: str = SCALED
    section: str = "bits"

    @property
    def row(self) -> Format:
        return number_format(self.format)

    @property
    def value(self) -> Number:
        """What the editor's bits stand for."""
        return decode(self.row, self.code).value


def in_format(asked: Asked, name: str) -> Asked:
    """The editor's number in another format, rounded to it; NaN becomes zero where there is none."""
    return replace(asked, format=name, code=encode(FORMATS[name], asked.value) or 0)


def holding(asked: Asked, value: Number) -> Asked:
    """The editor with the bits nearest to ``value``."""
    return replace(asked, code=encode(asked.row, value) or 0)


def to_query(asked: Asked) -> Query:
    query = {"format": [asked.format], "bits": [f"0x{asked.code:X}"], "number": [asked.number]}
    query |= weights_link.to_query(asked.part) | {"scaling": [asked.scaling], "section": [asked.section]}
    return {name: values for name, values in query.items() if values != [""]}


def from_query(query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """What a link asks for, and a sentence for each thing in it that had to be ignored."""
    part, problems, known = weights_link.from_query(query)
    asked = Asked(part=part)
    if "format" in query:
        name = query["format"][-1] if query["format"] else ""
        if name in FORMATS:
            asked = in_format(asked, name)
        elif name:
            problems.append(f"Ignored format={name[:40]!r}. Available: {', '.join(FORMATS)}.")
    for name, values in query.items():
        value = values[-1] if values else ""
        if name in known or name == "format" or not value:
            continue
        if name == "bits":
            if (code := _code(value, asked.row)) is None:
                problems.append(
                    f"Ignored bits={value[:40]!r}: no pattern of {asked.row.label}, which has {asked.row.bits} bits."
                )
            else:
                asked = replace(asked, code=code)
        elif name == "number":
            try:
                parse(value)
                asked = replace(asked, number=value)
            except QfundError as error:
                problems.append(f"Ignored number={value[:40]!r}: {error.message}")
        elif name in _CHOICES and value in _CHOICES[name]:
            asked = replace(asked, **{name: value})  # type: ignore[arg-type]
        elif name in _CHOICES:
            problems.append(f"Ignored {name}={value[:40]!r}. Available: {', '.join(_CHOICES[name])}.")
        else:
            problems.append(f"Ignored unknown link parameter: {name[:40]}.")
    if "bits" not in query:
        asked = holding(asked, parse(asked.number))
    return asked, problems


def _code(text: str, row: Format) -> int | None:
    try:
        found = int(text[:_LONGEST], 16 if text[:2].lower() == "0x" else 2)
    except ValueError:
        return None
    return found if 0 <= found < row.codes else None


ADDRESS = Address("formats", to_query, from_query)
