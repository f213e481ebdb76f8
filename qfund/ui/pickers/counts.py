"""Boxes for whole numbers (of tokens, of sequences) as people write them: ``8192``, ``8,192``, ``8k``.

An address has the plain number. What is no such number is said under the box, and what it held before counts on.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import streamlit as st

from qfund.core.units import parse_count
from qfund.ui.states import literal

#: The largest that a box takes where its page names no other: what a page asks for is checked there.
MOST = 2**40


def wrong(typed: object, least: int, most: int) -> str | None:
    """Why this can be no number of a box; None where it is one, or the box is empty."""
    text = "" if typed is None else str(typed).strip()
    found = parse_count(text)
    if not text or (found is not None and least <= found <= most):
        return None
    if found is None:
        return f"“{text[:40]}” is no whole number such as 8192 or 8k."
    return f"{found:,} is too {'small' if found < least else 'large'}: from {least:,} to {most:,}."


def counted(key: str, least: int, most: int, held: int | None = None) -> int | None:
    """What the box ``key`` holds: None where it is empty, ``held`` where it is no number that it takes."""
    typed = st.session_state[key]
    if wrong(typed, least, most):
        return held
    return None if typed is None else parse_count(str(typed))


def count(
    heading: str,
    key: str,
    held: int | None,
    *,
    least: int = 1,
    most: int = MOST,
    width: int | None = None,
    explained: str | None = None,
    placeholder: str = "",
) -> int | None:
    """A box that is typed into.

    Args:
        held: what counts while it holds no number.
        placeholder: what an empty box means.
    """
    typed = st.session_state[key]
    if not isinstance(typed, str):  # of a link
        st.session_state[key] = "" if typed is None else str(typed)
    with _under(wrong(st.session_state[key], least, most), width):
        st.text_input(
            heading,
            key=key,
            width=width or "stretch",
            max_chars=20,
            help=explained,
            placeholder=placeholder,
            persist_state="session",
        )
    return counted(key, least, most, held)


def amount(key: str, offered: Collection[int]) -> int:
    """What a box of ``tokens`` holds. Of what is no such number, since a browser may send any text, the one before, or
    the first on offer."""
    state = st.session_state
    found = state[key]
    if type(found) is str:
        # A browser sends a label as it stood there; where that says how long it takes, it may have changed since.
        found = found.partition(" · ")[0].removesuffix(" tokens")
        found = found if wrong(found, 1, MOST) else parse_count(found)
    held = state.get(f"{key}_held", min(offered))
    if type(found) is not int or found < 1:
        state[f"{key}_wrong"] = wrong(found, 1, MOST)
        found = held
    elif found != held:
        state.pop(f"{key}_wrong", None)
    if found != state[key]:
        state[key] = found
    state[f"{key}_held"] = found
    return int(found)


def amounts(key: str, offered: Collection[int]) -> list[int]:
    """The options of such a box."""
    return sorted({*offered, amount(key, offered)})


@contextmanager
def _under(problem: str | None, width: int | None) -> Iterator[None]:
    """A box, and under it what is wrong with what was typed."""
    if not problem:
        yield
        return
    with st.container(width=width or "stretch", gap="xsmall"):
        yield
        st.markdown(f":small[:red[{literal(problem)}]]")


@contextmanager
def typed(key: str, width: int) -> Iterator[None]:
    """Around a box of ``amounts`` that may be typed into: said under it until another number is chosen."""
    with _under(st.session_state.get(f"{key}_wrong"), width):
        yield


def tokens(heading: str, key: str, offered: Collection[int], width: int, explained: str | None = None) -> int:
    """How many tokens: a select box of ``amounts``, in which any other may be typed."""
    options = amounts(key, offered)
    with typed(key, width):
        found = st.selectbox(
            heading,
            options,
            format_func=lambda count: f"{count:,} tokens",
            key=key,
            width=width,
            help=f"{explained or ''} Any number may be typed: 6144, 6k.".strip(),
            accept_new_options=True,
            persist_state="session",
        )
    return int(found or min(offered))


def several(heading: str, key: str, offered: Collection[int], most: int, width: int) -> tuple[int, ...]:
    """As ``tokens``, for at most ``most`` numbers."""
    given = st.session_state[key]
    problems = [problem for value in given if (problem := wrong(value, 1, MOST))]
    held = [parse_count(str(value)) for value in given if not wrong(value, 1, MOST)]
    if held != given:
        st.session_state[key] = held = list(dict.fromkeys(held))
    with _under(" ".join(problems), width):
        found = st.multiselect(
            heading,
            sorted({*offered, *(value for value in held if value)}),
            key=key,
            max_selections=most,
            accept_new_options=True,
            select_all=False,
            width=width,
            persist_state="session",
        )
    return tuple(sorted(int(value) for value in found))
