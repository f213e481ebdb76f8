"""What comes out: the same prompt, sentence or picture in every precision, side by side."""

import streamlit as st

from qfund.features.outputs.link import ADDRESS
from qfund.features.outputs.view import choices, page
from qfund.ui import shell, states

shell.require()

st.title("Outputs, side by side", anchor=False)

st.caption("The same prompts, texts and sentences in every precision: what comes out, and where it parts.")

asked, new = ADDRESS.opened()

choices.follow(asked, new)

asked = choices.draw(asked)

ADDRESS.show(asked)

states.told(ADDRESS.problems())

page.draw(asked)
