"""Linear quantisation by hand: a matrix, a scale, a zero-point, and what they make of it."""

import streamlit as st

from qfund.features.quantizer.view import page
from qfund.ui import shell

shell.require()
st.title("The linear quantiser", anchor=False)
st.caption(
    "A weight becomes a small integer by one division and one rounding. Drag the scale, and watch what it costs."
)
page.draw()
