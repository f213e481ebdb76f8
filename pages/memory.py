"""How much memory a model takes in every precision: foretold, measured while loading, and whether it fits."""

import streamlit as st

from qfund.ui import memory_choices, memory_view, shell, states
from qfund.ui.memory_link import ADDRESS

shell.require()

st.title("Memory, to the byte", anchor=False)
st.caption("What a model takes in every precision, before a weight is loaded, and whether it fits.")

asked, new = ADDRESS.opened()
memory_choices.follow(asked, new)
asked = memory_choices.model(asked)
ADDRESS.show(asked)
states.told(ADDRESS.problems())
memory_view.draw(asked)
