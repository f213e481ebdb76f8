"""How much memory a model takes in every precision: foretold, measured while loading, and whether it fits."""

import streamlit as st

from qfund.features.memory.view import page
from qfund.ui import shell

shell.require()
st.title("Memory, to the byte", anchor=False)
st.caption("What a model takes in every precision, before a weight is loaded, and whether it fits.")
page.draw()
