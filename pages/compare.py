"""The first page: choose a model and precisions, compare, and see what lower precision costs and buys."""

import streamlit as st

from qfund.core.errors import QfundError
from qfund.features.compare import link
from qfund.features.compare.view import choices, page
from qfund.ui import shell, states

shell.require()

st.title("What lower precision costs, and what it buys", anchor=False)

st.caption(
    "Pick a model and precisions: qfund runs them on the same text and shows memory, dtypes and how far outputs move."
)

shown, problems = link.opened()

choices.follow(shown)

states.told(problems)

said = None

if choices.draw():
    try:
        link.show(page.start(choices.asked()))
        st.rerun()
    except QfundError as error:
        said = error
        states.failed(error)

page.draw(shown, said)
