"""The lesson's nine questions, each answered by a measurement of the model chosen."""

import streamlit as st

from qfund.features.lesson.link import ADDRESS
from qfund.features.lesson.view import page
from qfund.ui import shell, states

shell.require()

st.title("Nine questions", anchor=False)

st.caption("What a first lesson on data types and quantisation asks, answered by measuring the model you choose.")

asked, new = ADDRESS.opened()

page.follow(asked, new)

asked = page.choose(asked)

ADDRESS.show(asked)

states.told(ADDRESS.problems())

page.draw(asked)
