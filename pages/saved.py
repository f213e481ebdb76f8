"""Earlier comparisons: open one, take it along, or forget it."""

import streamlit as st

from qfund.features.saved import view as page
from qfund.ui import shell

shell.require()
st.title("Saved comparisons", anchor=False)
st.caption("Measured on this server, newest first. Opening one computes nothing.")
page.draw()
