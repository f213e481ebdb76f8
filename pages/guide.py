"""What kinds of precision there are, what each metric means, and how to read the numbers."""

import streamlit as st

from qfund.features.guide import view as page
from qfund.ui import shell

shell.require()
st.title("Guide", anchor=False)
st.markdown(
    "qfund runs one model in several precisions on the same input and compares every output with the reference's. "
    "Nothing is estimated where it can be counted, and nothing is filled in where it could not be measured."
)
page.draw()
