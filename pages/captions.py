"""Pictures beside their captions in every precision."""

import streamlit as st

from qfund.features.captions.view import page
from qfund.ui import shell

shell.require()
st.title("Captions, side by side", anchor=False)
st.caption("The same pictures, captioned in every precision: which words change, how often, and how far logits move.")
page.draw()
