"""How much memory a model takes in every precision: foretold, measured while loading, and whether it fits."""

import streamlit as st

from qfund.features.memory.link import ADDRESS
from qfund.features.memory.view import choices, page
from qfund.ui import shell, states

shell.require()

st.title("Memory, to the byte", anchor=False)

st.caption("What a model takes in every precision, before a weight is loaded, and whether it fits.")

asked, new = ADDRESS.opened()

choices.follow(asked, new)

asked = choices.model(asked)

ADDRESS.show(asked)

states.told(ADDRESS.problems())

page.draw(asked)
