"""Earlier comparisons: open one, take it along, or forget it."""

import streamlit as st

from qfund.errors import QfundError
from qfund.ui import saved_list, services, shell, states

shell.require()

st.title("Saved comparisons", anchor=False)
st.caption("Measured on this server, newest first. Opening one computes nothing.")
try:
    saved_list.draw(services.saved())
except QfundError as error:
    states.failed(error, "Saved comparisons cannot be read.")
