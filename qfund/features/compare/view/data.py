"""The section *Data*: take the numbers along, and make them again elsewhere."""

import streamlit as st

from qfund.features.compare import link
from qfund.features.compare.document.page import page
from qfund.features.compare.request.report import Report, to_json
from qfund.features.compare.tables.export import export_csv, tensors_csv
from qfund.features.compare.words import calls
from qfund.ui.downloads import download
from qfund.ui.services import Answer


def draw(found: Answer) -> None:
    report: Report = found.result
    name = f"qfund-{found.key[:8]}"
    with st.container(horizontal=True):
        download(
            "Take it with you (HTML)",
            lambda: page(report, link.shown_margin()),
            f"{name}.html",
            "text/html",
            "article",
            "html",
        )
        download("Numbers (CSV)", lambda: export_csv(report), f"{name}.csv", "text/csv", "table", "csv")
        download("Tensors (CSV)", lambda: tensors_csv(report), f"{name}-tensors.csv", "text/csv", "list", "tensors")
        download(
            "Whole report (JSON)",
            lambda: to_json(report),
            f"{name}.json",
            "application/json",
            "data_object",
            "json",
        )
    st.markdown("**The link to this comparison**")
    link.draw(report.spec)
    st.markdown("**The same from the command line**")
    st.code(calls.shell(report.spec, link.shown_margin()), language="bash", wrap_lines=True)
    st.markdown("**The same from Python**")
    st.code(calls.python(report.spec), language="python", wrap_lines=True)
