"""Which modules pay for the bits, and a recipe."""

import streamlit as st

from qfund.features.layers.view import page
from qfund.ui import shell

shell.require()
st.title("Layers", anchor=False)
st.caption("Which modules of a model pay for the bits, and a precision for each of them under a budget.")
page.draw()
