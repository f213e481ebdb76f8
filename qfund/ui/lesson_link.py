"""The choices of the page *Nine questions* as its address: model, revision, question and guesses."""

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st

from qfund.questions import PREDICTIONS, QUESTIONS, THEN_AND_NOW, Asked

#: What can be opened, in order.
SECTIONS = (*QUESTIONS, THEN_AND_NOW)
_TEXTS = {"model": "model", "rev": "revision", "q": "question"}
_ASKED, _QUERY, _PROBLEMS = "lesson_asked", "lesson_query", "lesson_problems"


def to_query(asked: Asked) -> dict[str, list[str]]:
    """Query parameters that name every choice; a guess is ``guess=ratio.2``."""
    query = {short: [value] for short, name in _TEXTS.items() if (value := getattr(asked, name))}
    # An empty list of values would not come back.
    return query | ({"guess": [f"{name}.{option}" for name, option in asked.guesses]} if asked.guesses else {})


def from_query(query: Mapping[str, list[str]]) -> tuple[Asked, list[str]]:
    """What a link asks for, and a sentence for each thing in it that had to be ignored."""
    asked, problems = Asked(), []
    for short, values in query.items():
        value = values[-1][:1024] if values else ""
        if short == "guess":
            guesses = {}
            for guess in values[: 2 * len(PREDICTIONS)]:
                name, _, option = guess.partition(".")
                # One more than there are options: shown without a guess.
                allowed = map(str, range(len(PREDICTIONS[name].options) + 1)) if name in PREDICTIONS else ()
                if option in allowed:
                    guesses[name] = int(option)
                else:
                    problems.append(f"Ignored unknown guess={guess[:40]!r}.")
            asked = replace(asked, guesses=_ordered(guesses))
        elif short == "q" and value and value not in SECTIONS:
            problems.append(f"Ignored q={value[:40]!r}. Available: {', '.join(SECTIONS)}.")
        elif short in _TEXTS:
            asked = replace(asked, **{_TEXTS[short]: value}) if value else asked  # type: ignore[arg-type]
        else:
            problems.append(f"Ignored unknown link parameter: {short[:40]}.")
    return asked, problems


def _ordered(guesses: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple((name, guesses[name]) for name in PREDICTIONS if name in guesses)


def guess(name: str, option: int | None) -> None:
    """Make the address name a guess too, or none."""
    asked: Asked = st.session_state[_ASKED]
    others = {other: held for other, held in asked.guesses if other != name}
    show(replace(asked, guesses=_ordered(others if option is None else {**others, name: option})))


def _current() -> dict[str, list[str]]:
    return {name: st.query_params.get_all(name) for name in st.query_params}


def opened() -> tuple[Asked, bool]:
    """What the address asks for, and whether that is new, so that the widgets begin at it."""
    state, query = st.session_state, _current()
    if _ASKED in state and query in ({}, state[_QUERY]):
        return state[_ASKED], False
    asked, state[_PROBLEMS] = from_query(query)
    show(asked)
    return asked, True


def show(asked: Asked) -> None:
    """Make the address name these choices."""
    state, query = st.session_state, to_query(asked)
    if state.get(_ASKED) not in (None, asked) and _QUERY in state:
        state[_PROBLEMS] = []  # somebody has chosen something else than the link
    if _current() != query:
        st.query_params.from_dict(query)
    state[_ASKED], state[_QUERY] = asked, _current()


def problems() -> list[str]:
    """What had to be ignored in the link that was opened."""
    found: list[str] = st.session_state.get(_PROBLEMS, [])
    return found
