"""The lesson's nine questions, each answered by a measurement of the model chosen."""

import streamlit as st

from qfund.features.lesson.view import page
from qfund.ui import shell

shell.require()
st.title("Nine questions", anchor=False)
st.caption("What a first lesson on data types and quantisation asks, answered by measuring the model you choose.")
page.draw()
