"""Every precision: what it is, whether it runs here, and what it did to the example model."""

import streamlit as st

from qfund.ui import precision_list, shell

shell.require()

st.title("Precisions", anchor=False)
st.caption("Fewer bits, more damage: where the line runs, and what every name stands for.")
precision_list.draw()
