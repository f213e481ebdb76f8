"""The lesson's nine questions, each answered by a measurement of the model chosen."""

import streamlit as st

from qfund.ui import lesson_link, lesson_page, shell, states

shell.require()

st.title("Nine questions", anchor=False)
st.caption("What a first lesson on data types and quantisation asks, answered by measuring the model you choose.")

asked, new = lesson_link.opened()
lesson_page.follow(asked, new)
asked = lesson_page.choose(asked)
lesson_link.show(asked)
states.told(lesson_link.problems())
lesson_page.draw(asked)
