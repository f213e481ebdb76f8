"""Linear quantisation by hand: a matrix, a scale, a zero-point, and what they make of it."""

import streamlit as st

from qfund.features.quantizer.link import ADDRESS
from qfund.features.quantizer.view import choices, page
from qfund.ui import shell, states

shell.require()

st.title("The linear quantiser", anchor=False)

st.caption(
    "A weight becomes a small integer by one division and one rounding. Drag the scale, and watch what it costs."
)

asked, new = ADDRESS.opened()

asked = choices.wanted() or asked

choices.follow(asked, new)

asked = choices.scheme(choices.numbers(asked))

ADDRESS.show(asked)

states.told(ADDRESS.problems())

if not asked.fits:
    st.caption("These numbers are too long for a link: it opens the page without them.")

if found := choices.read(asked):
    weight, first, what, stored = found
    st.caption(states.literal(f"Shown: {what}."))
    page.draw(weight, first, stored, page.name_of(weight))
