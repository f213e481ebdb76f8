"""Number formats: bits and what they stand for, a number in each, what each holds, and where real weights fall."""

import streamlit as st

from qfund.features.formats.view import page
from qfund.ui import shell

shell.require()
st.title("Number formats", anchor=False)
st.caption("The same weight in 64 bits, 16, 8 or 4: which numbers exist, and which one a number becomes.")
page.draw()
