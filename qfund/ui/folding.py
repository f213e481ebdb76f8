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


def close() -> None:
    """What was to be changed has been."""
    st.session_state[_OPEN] = False


def fold(*containers: str) -> None:
    """Fold the containers of these keys, until somebody wants to change something. What is shown is a stored result."""
    folded = ",".join(f".st-key-{container}" for container in containers)
    hidden = "" if st.session_state.get(_OPEN) else f"{folded}{{display:none}}"
    st.html(f"<style>@media (max-width:640px){{.st-key-unfold{{display:flex}}{hidden}}}</style>")


def _turn() -> None:
    st.session_state[_OPEN] = not st.session_state.get(_OPEN)
