"""The section *Data*: make the numbers again elsewhere."""

import streamlit as st

from qfund.features.compare import link
from qfund.features.compare.request.report import Report
from qfund.features.compare.words import calls
from qfund.ui.services import Answer


def draw(found: Answer) -> None:
    report: Report = found.result
    st.caption("Files (a page, pictures, a model card, JSON, CSV): *Take it with you*, above.")
    st.markdown("**The link to this comparison**")
    link.draw(report.spec)
    st.markdown("**The same from the command line**")
    st.code(calls.shell(report.spec, link.shown_margin()), language="bash", wrap_lines=True)
    st.markdown("**The same from Python**")
    st.code(calls.python(report.spec), language="python", wrap_lines=True)
