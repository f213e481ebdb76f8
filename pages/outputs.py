"""What comes out: the same prompt, sentence or picture in every precision, side by side."""

import streamlit as st

from qfund.features.outputs.view import page
from qfund.ui import shell

shell.require()
st.title("Outputs, side by side", anchor=False)
st.caption("The same prompts, texts and sentences in every precision: what comes out, and where it parts.")
page.draw()
