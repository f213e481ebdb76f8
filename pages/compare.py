"""The first page: choose a model and precisions, compare, and see what lower precision costs and buys."""

import streamlit as st

from qfund.features.compare.view import page
from qfund.ui import shell

shell.require()
st.title("What lower precision costs, and what it buys", anchor=False)
page.draw()
