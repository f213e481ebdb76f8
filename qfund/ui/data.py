"""The section *Data*: take the numbers along, and make them again elsewhere."""

from collections.abc import Callable

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
        download("Numbers (CSV)", lambda: tables.export_csv(report), f"{name}.csv", "text/csv", "table", "csv")
        download(
            "Tensors (CSV)", lambda: tables.tensors_csv(report), f"{name}-tensors.csv", "text/csv", "list", "tensors"
        )
        download(
            "Whole report (JSON)",
            lambda: reports.to_json(report),
            f"{name}.json",
            "application/json",
            "data_object",
            "json",
        )
    st.markdown("**The link to this comparison**")
    link.draw(report.spec)
    st.markdown("**The same from the command line**")
    st.code(commands.shell(report.spec), language="bash", wrap_lines=True)
    st.markdown("**The same from Python**")
    st.code(commands.python(report.spec), language="python", wrap_lines=True)


def download(label: str, make: Callable[[], bytes], file_name: str, mime: str, icon: str, key: str) -> None:
    """A button that saves what ``make`` gives; nothing is encoded before somebody clicks."""
    st.download_button(
        label,
        data=make,
        file_name=file_name,
        mime=mime,
        on_click="ignore",
        icon=f":material/{icon}:",
        key=f"download_{key}",
    )
