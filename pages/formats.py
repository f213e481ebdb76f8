"""Number formats: bits and what they stand for, a number in each, what each holds, and where real weights fall."""

import streamlit as st

from qfund.ui import formats_view, shell, states
from qfund.ui.formats_link import ADDRESS

shell.require()

st.title("Number formats", anchor=False)
st.caption("The same weight in 64 bits, 16, 8 or 4: which numbers exist, and which one a number becomes.")

asked, new = ADDRESS.opened()
formats_view.follow(asked, new)
ADDRESS.show(asked)
states.told(ADDRESS.problems())
formats_view.sections()
