"""Every precision: what it is, whether it runs here, and what it did to the example model."""

import streamlit as st

from qfund.features.precisions import view as page
from qfund.ui import shell

shell.require()
st.title("Precisions", anchor=False)
st.caption("Fewer bits, more damage: where the line runs, and what every name stands for.")
page.draw()
