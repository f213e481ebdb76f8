"""Earlier comparisons: open one, take it along, or forget it."""

import streamlit as st

from qfund.core.errors import QfundError
from qfund.features.saved import view as saved_view
from qfund.ui import shell, states

shell.require()

st.title("Saved comparisons", anchor=False)

st.caption("Measured on this server, newest first. Opening one computes nothing.")

try:
    saved_view.draw()
except QfundError as error:
    states.failed(error, "Saved comparisons cannot be read.")
