"""What is drawn of a result is made once and drawn for everybody."""

from dataclasses import dataclass, replace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from qfund.ui.services import Answer
from tests.ui import pages


@dataclass(frozen=True)
class Result:
    created: str = "2026-01-01"
    said: str = "eight"


FOUND = Answer(None, "key", Result())
MADE: list[str] = []


def _draw(result: Result) -> int:
    MADE.append(result.said)
    with st.container(border=True):
        st.markdown(result.said)
        st.dataframe({"bits": [len(result.said)]}, key="table")
    return len(result.said)


def _script(found):  # type: ignore[no-untyped-def]
    import streamlit as st

    from qfund.ui.drawn import once
    from tests.ui.test_drawn import _draw

    with st.expander("All of it"):
        st.text(str(once(found, "words", _draw)))


def test_elements_are_drawn_again_in_their_place_and_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    MADE.clear()
    with pages.server(monkeypatch):
        for _ in range(2):  # two visitors
            at = AppTest.from_function(_script, args=(FOUND,)).run().run()
            inside = at.expander[0]
            assert [inside.markdown[0].value, inside.text[0].value] == ["eight", "5"] and not at.exception
            assert inside.dataframe[0].value["bits"].tolist() == [5]
        assert MADE == ["eight"]
        again = replace(FOUND, result=Result("2026-01-02", "nineteen"))  # measured anew under its key
        assert AppTest.from_function(_script, args=(again,)).run().markdown[0].value == "nineteen"
