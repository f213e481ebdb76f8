"""Boxes for numbers of tokens and sequences: what is typed, what counts, and what is said of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from qfund.ui.pickers.counts import wrong


def _script():  # type: ignore[no-untyped-def]
    import streamlit as st

    from qfund.ui import pickers

    pickers.begin("box", {"context": 4096, "batch": None, "depths": [16]}, new=False)
    context = pickers.tokens("Context", "box_context", (2048, 8192), 150)
    batch = pickers.count("Batch", "box_batch", 5, most=65_536)
    st.text(f"{context} {batch} {pickers.several('Depths', 'box_depths', (16, 64), 3, 200)}")


def _typed(**values: object) -> AppTest:
    """A browser's first message: AppTest sends no text for a select box that is not on offer."""
    at = AppTest.from_function(_script)
    at.session_state["box_context_held"] = 4096
    for name, value in values.items():
        at.session_state[f"box_{name}"] = value
    return at.run()


@pytest.mark.parametrize(
    ("values", "counted"),
    [
        ({"context": "128k"}, "131072 None (16,)"),
        ({"context": "6,144", "batch": "2k"}, "6144 2048 (16,)"),
        ({"batch": "64k"}, "4096 65536 (16,)"),
        # Labels that a browser was shown before: what a box offers, and how long it takes, change meanwhile.
        ({"context": "6,144 tokens"}, "6144 None (16,)"),
        ({"context": "6,144 tokens · 7 seconds"}, "6144 None (16,)"),
        ({"depths": ["1k", 16, "1024"]}, "4096 None (16, 1024)"),
    ],
)
def test_numbers_are_typed_as_people_write_them(values: dict[str, object], counted: str) -> None:
    at = _typed(**values)
    assert at.text[0].value == counted and not at.markdown and not at.exception


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"context": "a lot"}, "is no whole number such as 8192 or 8k"),
        ({"context": "0"}, "0 is too small"),
        ({"batch": "65,537"}, "65,537 is too large: from 1 to 65,536"),
        ({"batch": "1.5"}, "is no whole number"),
        ({"depths": [16, "x"]}, "is no whole number"),
    ],
)
def test_what_is_no_number_is_said_and_the_one_before_counts(values: dict[str, object], said: str) -> None:
    at = _typed(**values)
    assert said in at.markdown[0].value.replace("\\", "")
    assert at.text[0].value == f"4096 {5 if 'batch' in values else None} (16,)"


@given(st.integers(1, 2**40), st.integers(1, 2**40))
def test_plain_numbers_are_taken_up_to_the_most(number: int, most: int) -> None:
    taken = number <= most and number < 10**9  # longer ones only with commas or a unit
    assert (wrong(number, 1, most) is None) == taken
