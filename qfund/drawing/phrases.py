"""Names, lists and dates in sentences."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from qfund.core.environment import Environment
from qfund.precisions.files import label_of
from qfund.precisions.precision import STORED
from qfund.precisions.table import PRECISIONS


def label(precision: str) -> str:
    """What a person reads for a precision or a file, and how it caches where that is rounded."""
    return label_of(precision)


def unoriginal(candidate: str, reference: str) -> str | None:
    """Why nothing is said of a candidate beside its reference: both are what a checkpoint stores, quantised."""
    if candidate != reference or candidate not in PRECISIONS or PRECISIONS[candidate].family != STORED:
        return None
    return (
        f"{label(candidate)} is compared with itself alone: the weights that it was made from are gone, so what "
        "quantising cost is not measured"
    )


def visible(piece: str) -> str:
    """A token with marks for what cannot be seen, as ``visible`` of ``token_map.js`` draws it."""
    shown = piece.replace("\n", "↵").replace("\t", "→")
    rest = shown.lstrip(" ")
    return "·" * (len(shown) - len(rest)) + rest or "∅"


_GLUE = re.compile(r"(?<=[×±]) | (?=[±%×])|(?<=\d) (?=[KMGT]?i?B\b)")

#: As many candidates are told one by one; more stand in a table.
FEW = 6


def unbroken(text: str) -> str:
    """The same words, with no line breaks within a number."""
    return _GLUE.sub("\u00a0", text)


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def against(reference: str, candidates: Sequence[str]) -> str:
    """``FP32 against BF16 and FP16``; only how many where they would fill a paragraph."""
    return f"{label(reference)} against {together(candidates)}"


def together(precisions: Iterable[str]) -> str:
    """``FP32, BF16 and FP16``, each once; only how many where they would fill a paragraph."""
    names = [label(name) for name in dict.fromkeys(precisions)]
    return listed(names) if len(names) <= FEW + 1 else f"{len(names)} precisions"


def listed(names: list[str]) -> str:
    """``a, b and c``."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def when(created: str) -> str:
    """An ISO time as a person writes it, in UTC; unreadable ones as they are."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


#: A metric's direction in words.
BETTER = {"lower": "lower", "higher": "higher", "one": "closer to 1", "zero": "closer to 0"}


class Measured(Protocol):
    """A result that says with what, when and where it came about."""

    @property
    def qfund(self) -> str: ...
    @property
    def created(self) -> str: ...
    @property
    def environment(self) -> Environment: ...
    @property
    def architecture(self) -> str: ...


def traced(found: Measured) -> str:
    """One line that says when, where and with what it was measured."""
    environment = found.environment
    parts = [
        f"Measured on {when(found.created)}",
        found.architecture,
        *(f"{name} {version}" for name, version in ({"qfund": found.qfund} | environment.versions).items()),
        environment.cpu if environment.device == "cpu" else environment.device,
        f"{environment.threads} thread{'s' * (environment.threads != 1)}",
        f"model {environment.model_id[:19]}" + (f" at {environment.revision[:12]}" if environment.revision else ""),
    ]
    return f"{' · '.join(parts)}."
