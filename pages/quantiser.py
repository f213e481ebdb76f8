"""Linear quantisation by hand: a matrix, a scale, a zero-point, and what they make of it."""

import streamlit as st

from qfund.ui import quantiser_choices, quantiser_view, shell, states
from qfund.ui.quantiser_link import ADDRESS

shell.require()

st.title("The linear quantiser", anchor=False)
st.caption(
    "A weight becomes a small integer by one division and one rounding. Drag the scale, and watch what it costs."
)

asked, new = ADDRESS.opened()
asked = quantiser_choices.wanted() or asked
quantiser_choices.follow(asked, new)
asked = quantiser_choices.scheme(quantiser_choices.numbers(asked))
ADDRESS.show(asked)
states.told(ADDRESS.problems())
if not asked.fits:
    st.caption("These numbers are too long for a link: it opens the page without them.")
if found := quantiser_choices.read(asked):
    weight, first, what, stored = found
    st.caption(states.literal(f"Shown: {what}."))
    quantiser_view.draw(weight, first, stored, quantiser_view.name_of(weight))
