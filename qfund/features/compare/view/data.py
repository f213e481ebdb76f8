"""The section *Data*: take the numbers along, and make them again elsewhere."""

import streamlit as st

from qfund.features.compare import link
from qfund.features.compare.request import report as report_request
from qfund.features.compare.tables import export
from qfund.features.compare.view import calls
from qfund.ui.downloads import download
from qfund.ui.services import Answer


def draw(found: Answer) -> None:
    report = found.result
    assert report is not None
    name = f"qfund-{found.key[:8]}"
    with st.container(horizontal=True):
        download("Numbers (CSV)", lambda: export.export_csv(report), f"{name}.csv", "text/csv", "table", "csv")
        download(
            "Tensors (CSV)", lambda: export.tensors_csv(report), f"{name}-tensors.csv", "text/csv", "list", "tensors"
        )
        download(
            "Whole report (JSON)",
            lambda: report_request.to_json(report),
            f"{name}.json",
            "application/json",
            "data_object",
            "json",
        )
    st.markdown("**The link to this comparison**")
    link.draw(report.spec)
    st.markdown("**The same from the command line**")
    st.code(calls.shell(report.spec), language="bash", wrap_lines=True)
    st.markdown("**The same from Python**")
    st.code(calls.python(report.spec), language="python", wrap_lines=True)
