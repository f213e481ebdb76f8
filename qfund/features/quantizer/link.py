"""What the page Linear quantiser is asked for as one value, and that value as the address of the page."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from qfund.checkpoints.weights import Part
from qfund.core.parameters import Query, whole_number
from qfund.features.quantizer.request import matrices
from qfund.features.quantizer.request.linear import BITS, CONVENTIONS, GRANULARITIES, Scheme
from qfund.ui import weights_link
from qfund.ui.address import Address

#: Where the numbers come from.
SOURCES = {"course": "The course's 3 × 3", "model": "Weights of a model", "typed": "My own numbers"}
_MAPPINGS = {"asymmetric": False, "symmetric": True}
_LONGEST = 2000  # characters of a typed matrix that go into a link
_FURTHEST = 10_000_000
EXAMPLE_TEXT = "0.5  -1.2   3.3  0.02\n1.7   0.9  -2.4  0.4"


@dataclass(frozen=True, slots=True)
class Asked:
    """Every choice of the page.

    Attributes:
        scale, zero_point: somebody's own, for the whole matrix; None for what the rule chooses.
        cell: row and column, within what is shown, of the weight that is worked through.
    """

    source: str = "course"
    part: Part = field(default_factory=Part)
    text: str = EXAMPLE_TEXT
    scheme: Scheme = field(default_factory=Scheme)
    scale: float | None = None
    zero_point: int | None = None
    cell: tuple[int, int] = (0, 0)

    @property
    def fits(self) -> bool:
        """Whether a link can hold the typed matrix."""
        return self.source != "typed" or len(self.text) <= _LONGEST


#: The course's first try: a scale and a zero-point out of the air.
COURSE = Asked(scheme=Scheme(convention="course"), scale=matrices.COURSE_SCALE, zero_point=matrices.COURSE_ZERO_POINT)


def to_query(asked: Asked) -> Query:
    """Query parameters that name every choice; of the weights only those that are looked at."""
    scheme = asked.scheme
    query = {"source": [asked.source]}
    if asked.source == "model":
        query |= weights_link.to_query(asked.part)
    if asked.source == "typed" and asked.fits:
        query["matrix"] = [";".join(" ".join(line.split()) for line in asked.text.splitlines() if line.strip())]
    query |= {
        "bits": [str(scheme.bits)],
        "mapping": ["symmetric" if scheme.symmetric else "asymmetric"],
        "per": [scheme.granularity],
        "as": [scheme.convention],
        "s": [] if asked.scale is None else [repr(asked.scale)],
        "z": [] if asked.zero_point is None else [str(asked.zero_point)],
        "cell": [f"{asked.cell[0]},{asked.cell[1]}"],
    }
    return {name: values for name, values in query.items() if values and values != [""]}


def from_query(query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """What a link asks for, and a sentence for each thing in it that had to be ignored."""
    part, problems, known = weights_link.from_query(query)
    asked = Asked(part=part)
    choices: dict[str, Collection[str]] = {
        "source": SOURCES,
        "bits": [str(bits) for bits in BITS],
        "mapping": _MAPPINGS,
        "per": GRANULARITIES,
        "as": CONVENTIONS,
    }
    for name, values in query.items():
        value = values[-1] if values else ""
        if name in known or not value:
            continue
        if name in choices and value not in choices[name]:
            problems.append(f"Ignored {name}={value[:40]!r}. Available: {', '.join(choices[name])}.")
        elif name == "source":
            asked = replace(asked, source=value)
        elif name in choices:
            asked = replace(asked, scheme=_with(asked.scheme, name, value))
        elif name == "matrix":
            if len(value) > 2 * _LONGEST:
                problems.append(f"Ignored matrix=: it has {len(value):,} characters; a link holds {_LONGEST:,}.")
            else:
                asked = replace(asked, text=value.replace(";", "\n"))
        elif name == "s":
            if (scale := _scale(value)) is None:
                problems.append(f"Ignored s={value[:40]!r}: a scale is a number above 0.")
            asked = replace(asked, scale=scale)
        elif name == "z":
            if (zero_point := whole_number(value, -128, 127)) is None:
                problems.append(f"Ignored z={value[:40]!r}: no zero-point from -128 to 127.")
            asked = replace(asked, zero_point=zero_point)
        elif name == "cell":
            row, _, column = value.partition(",")
            found = whole_number(row, 0, _FURTHEST), whole_number(column, 0, _FURTHEST)
            if found[0] is None or found[1] is None:
                problems.append(f"Ignored cell={value[:40]!r}: not a row and a column, such as 0,2.")
            else:
                asked = replace(asked, cell=(found[0], found[1]))
        else:
            problems.append(f"Ignored unknown link parameter: {name[:40]}.")
    scheme = asked.scheme
    if scheme.granularity != "tensor" and not (asked.scale is asked.zero_point is None):
        problems.append("Ignored s= and z=: only a whole tensor has one scale and one zero-point to choose.")
        asked = replace(asked, scale=None, zero_point=None)
    if asked.zero_point and (scheme.symmetric or not scheme.q_min <= asked.zero_point <= scheme.q_max):
        why = "symmetric quantisation has 0" if scheme.symmetric else f"no {scheme.bits}-bit integer"
        problems.append(f"Ignored z={asked.zero_point}: {why}.")
        asked = replace(asked, zero_point=None)
    return asked, problems


def _with(scheme: Scheme, name: str, value: str) -> Scheme:
    if name == "bits":
        return replace(scheme, bits=int(value))
    if name == "mapping":
        return replace(scheme, symmetric=_MAPPINGS[value])
    return replace(scheme, granularity=value) if name == "per" else replace(scheme, convention=value)


def _scale(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) and 1e-37 < found < 1e38 else None


ADDRESS = Address("quantiser", to_query, from_query)
