"""A guess before the numbers."""

from typing import Any

import streamlit as st

from qfund.features.lesson import link, words
from qfund.features.lesson.request import published
from qfund.features.lesson.request.questions import PREDICTIONS
from qfund.features.lesson.words import TRUTHS
from qfund.ui.states import literal


def predict(name: str, measured: Any) -> bool:
    """Ask for a guess, and tell what was measured once there is one; whether the numbers may be shown."""
    prediction, truth = PREDICTIONS[name], TRUTHS[name](measured)
    if truth is None:
        return True
    show_me = len(prediction.options)
    with st.container(border=True, gap="small"):
        st.markdown(f":material/psychology: **Predict:** {literal(prediction.question)}")
        guess = st.pills(
            prediction.question,
            range(show_me + 1),
            format_func=lambda option: prediction.options[option] if option < show_me else "just show me",
            key=f"guess_{name}",
            label_visibility="collapsed",
            persist_state="session",
        )
        link.guess(name, guess)
        if guess is None:
            return False
        said = literal(truth.sentence)
        if guess == truth.option:
            st.success(f"**Right.** {said}", icon=":material/check_circle:")
        elif guess == show_me:
            st.info(said, icon=":material/visibility:")
        else:
            guessed = literal(prediction.options[guess])
            st.info(f"You said {guessed}. **Measured:** {said}", icon=":material/lightbulb:")
        for figure in published.load().figures:
            if figure.id == prediction.course:
                st.caption(f":material/history_edu: {literal(words.published(figure))}")
    return True
