"""On a phone an answer that is there comes first: what was chosen lies behind a button."""

import streamlit as st

_OPEN = "choices_open"


def change() -> None:
    """The button, which is seen only where ``fold`` folds."""
    st.html("<style>.st-key-unfold{display:none}</style>")
    st.button(
        "Hide the choices" if st.session_state.get(_OPEN) else "Change",
        key="unfold",
        icon=":material/tune:",
        on_click=_turn,
    )


def fold(container: str) -> None:
    """Fold the container of that key, until somebody wants to change something. What is shown is a stored result."""
    hidden = "" if st.session_state.get(_OPEN) else f".st-key-{container}{{display:none}}"
    st.html(f"<style>@media (max-width:640px){{.st-key-unfold{{display:flex}}{hidden}}}</style>")


def _turn() -> None:
    st.session_state[_OPEN] = not st.session_state.get(_OPEN)
