"""The lesson's nine questions, each answered by a measurement of the model chosen."""

import streamlit as st

from qfund.ui import lesson_page, shell, states
from qfund.ui.lesson_link import ADDRESS

shell.require()

st.title("Nine questions", anchor=False)
st.caption("What a first lesson on data types and quantisation asks, answered by measuring the model you choose.")

asked, new = ADDRESS.opened()
lesson_page.follow(asked, new)
asked = lesson_page.choose(asked)
ADDRESS.show(asked)
states.told(ADDRESS.problems())
lesson_page.draw(asked)
