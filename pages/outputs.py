"""What comes out: the same prompt, sentence or picture in every precision, side by side."""

import streamlit as st

from qfund.ui import outputs_choices, outputs_view, shell, states
from qfund.ui.outputs_link import ADDRESS

shell.require()

st.title("Outputs, side by side", anchor=False)
st.caption("The same prompts, texts and sentences in every precision: what comes out, and where it parts.")

asked, new = ADDRESS.opened()
outputs_choices.follow(asked, new)
asked = outputs_choices.draw(asked)
ADDRESS.show(asked)
states.told(ADDRESS.problems())
outputs_view.draw(asked)
