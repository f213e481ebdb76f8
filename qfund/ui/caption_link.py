"""What the page Captions is asked for as one value, and that value as the address of the page.

Given pictures are no part of an address: they stay in the session.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

import streamlit as st

from qfund.captions import (
    DEFAULT_PRECISIONS,
    DEFAULT_SAMPLES,
    DEFAULT_TOKENS,
    MAX_SAMPLES,
    MAX_TOKENS,
    MODEL,
    CaptionRequest,
    GivenPicture,
)
from qfund.precisions import PRECISIONS, STORED

OFFERED = tuple(
    sorted(
        (name for name, row in PRECISIONS.items() if row.family != STORED),
        key=lambda name: PRECISIONS[name].variant_of is not None,
    )
)
_SHOWN, _QUERY, _PROBLEMS = "captions_shown", "captions_query", "captions_problems"


@dataclass(frozen=True, slots=True)
class Asked:
    """Every choice of the page. With ``pictures`` the drawn ones are not asked for."""

    model: str = MODEL
    revision: str | None = None
    reference: str = "fp32"
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    samples: int = DEFAULT_SAMPLES
    tokens: int = DEFAULT_TOKENS
    pictures: tuple[GivenPicture, ...] = ()

    @property
    def request(self) -> CaptionRequest:
        return CaptionRequest(
            model=self.model,
            precisions=self.precisions,
            reference=self.reference,
            samples=0 if self.pictures else self.samples,
            pictures=self.pictures,
            max_new_tokens=self.tokens,
            revision=self.revision,
        )


_TEXTS = {"model": "model", "rev": "revision", "ref": "reference"}
_NUMBERS = {"samples": ("samples", MAX_SAMPLES), "tokens": ("tokens", MAX_TOKENS)}


def to_query(asked: Asked) -> dict[str, list[str]]:
    """Query parameters that name every choice but given pictures."""
    query = {short: [str(getattr(asked, name) or "")] for short, name in _TEXTS.items()}
    query |= {short: [str(getattr(asked, name))] for short, (name, _) in _NUMBERS.items()}
    query["p"] = list(asked.precisions)
    # An empty value would not come back.
    return {name: values for name, values in query.items() if values and values != [""]}


def from_query(query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """What a link asks for, and a sentence for each thing in it that had to be ignored."""
    asked, problems = Asked(), []
    for short, values in query.items():
        value = values[-1][:1024] if values else ""
        if short in _NUMBERS:
            name, most = _NUMBERS[short]
            if value.isascii() and value.isdigit() and 1 <= int(value[:20]) <= most:
                asked = replace(asked, **{name: int(value)})  # type: ignore[arg-type]
            else:
                problems.append(f"Ignored {short}={value[:40]!r}: no number from 1 to {most:,}.")
        elif short == "p":
            if ignored := [name for name in values if name not in OFFERED]:
                problems.append(f"Ignored unknown p={', '.join(repr(name[:40]) for name in ignored)}.")
            asked = replace(asked, precisions=in_order(values) or asked.precisions)
        elif short == "ref" and value not in OFFERED:
            problems.append(f"Ignored unknown ref={value[:40]!r}.")
        elif short in _TEXTS:
            if value.strip():
                asked = replace(asked, **{_TEXTS[short]: value.strip()})  # type: ignore[arg-type]
        else:
            problems.append(f"Ignored unknown link parameter: {short[:40]}.")
    return asked, problems


def in_order(names: list[str]) -> tuple[str, ...]:
    """Those that are offered, in the table's order."""
    return tuple(name for name in PRECISIONS if name in names and name in OFFERED)


def _current() -> dict[str, list[str]]:
    return {name: st.query_params.get_all(name) for name in st.query_params}


def opened() -> tuple[Asked, bool]:
    """What is shown, and whether the address has just asked for that, so that the widgets begin at it."""
    state, query = st.session_state, _current()
    if _SHOWN in state and query in ({}, state[_QUERY]):
        show(state[_SHOWN], state[_PROBLEMS])
        return state[_SHOWN], False
    asked, problems = from_query(query)
    show(asked, problems)
    return asked, True


def show(asked: Asked, problems: list[str] | None = None) -> None:
    """Show this, and make the address name it."""
    state, query = st.session_state, to_query(asked)
    if _current() != query:
        st.query_params.from_dict(query)
    state[_SHOWN], state[_PROBLEMS], state[_QUERY] = asked, problems or [], _current()


def problems() -> list[str]:
    """What had to be ignored in the link that was opened."""
    found: list[str] = st.session_state[_PROBLEMS]
    return found


def address(asked: Asked) -> str:
    """The complete link of this page."""
    base = (st.context.url or "").split("?")[0].rstrip("/")
    return f"{base}?{urlencode(to_query(asked), doseq=True)}"
