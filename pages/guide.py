"""What each precision is, what each metric means, and how to read the numbers."""

import streamlit as st

from qfund.ui import cards, shell

shell.require()

st.title("Guide", anchor=False)
st.markdown(
    "qfund runs one model in several precisions on the same input and compares every output with the reference's. "
    "Nothing is estimated where it can be counted, and nothing is filled in where it could not be measured."
)

st.header("How to read the numbers", anchor=False)
st.markdown(
    """
- **Memory** is the *footprint*: the bytes of all stored weights, scales and buffers, counted in the loaded model,
  tied weights once. Beside it stands what shapes and dtypes alone predict.
- **Top-1 agreement** says how often the most likely token stays the same. It moves even where little changes, because
  two tokens may have been nearly equally likely.
- **KL divergence** sees the whole distribution, so it finds damage that perplexity misses. It is 0 for equal
  distributions and has no upper bound.
- **Perplexity × 1.02** means that the candidate finds the text a little more surprising. Below 1 does not mean better:
  noise helps on some texts. Within two standard errors of 1, qfund says that no change was measured.
- **±** is one standard error over the measured positions, taken as independent. Neighbouring tokens are not quite
  independent, so read it as a lower bound.
- **Positions that are not finite** (NaN or infinity, mostly FP16 overflow) are counted, shown and left out of every
  average.
"""
)

st.header("Precisions", anchor=False)
cards.precisions()

st.header("Metrics", anchor=False)
cards.metrics()
