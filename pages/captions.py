"""Pictures beside their captions in every precision."""

import streamlit as st

from qfund.ui import captions, shell

shell.require()

st.title("Captions, side by side", anchor=False)
st.caption("The same pictures, captioned in every precision: which words change, how often, and how far logits move.")
captions.draw()
