"""What comes out: the same prompt, sentence or picture in every precision, side by side."""

import streamlit as st

from qfund.ui import outputs_choices, outputs_link, outputs_view, shell, states

shell.require()

st.title("Outputs, side by side", anchor=False)
st.caption("The same prompts, texts and sentences in every precision: what comes out, and where it parts.")

asked, new = outputs_link.opened()
outputs_choices.follow(asked, new)
asked = outputs_choices.draw(asked)
outputs_link.show(asked)
states.told(outputs_link.problems())
outputs_view.draw(asked)
