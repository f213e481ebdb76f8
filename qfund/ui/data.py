"""The section *Data*: take the numbers along, and make them again elsewhere."""

import streamlit as st

from qfund import report as reports
from qfund import tables
from qfund.ui import commands, link
from qfund.ui.services import Found


def draw(found: Found) -> None:
    report = found.report
    assert report is not None
    name = f"qfund-{found.key[:8]}"
    with st.container(horizontal=True):
        # Callables: nothing is encoded before somebody clicks.
        st.download_button(
            "Numbers (CSV)",
            data=lambda: tables.export_csv(report),
            file_name=f"{name}.csv",
            mime="text/csv",
            on_click="ignore",
            icon=":material/table:",
            key="download_csv",
        )
        st.download_button(
            "Tensors (CSV)",
            data=lambda: tables.tensors_csv(report),
            file_name=f"{name}-tensors.csv",
            mime="text/csv",
            on_click="ignore",
            icon=":material/list:",
            key="download_tensors",
        )
        st.download_button(
            "Whole report (JSON)",
            data=lambda: reports.to_json(report),
            file_name=f"{name}.json",
            mime="application/json",
            on_click="ignore",
            icon=":material/data_object:",
            key="download_json",
        )
    st.markdown("**The link to this comparison**")
    link.draw(report.spec)
    st.markdown("**The same from the command line**")
    st.code(commands.shell(report.spec), language="bash", wrap_lines=True)
    st.markdown("**The same from Python**")
    st.code(commands.python(report.spec), language="python", wrap_lines=True)
