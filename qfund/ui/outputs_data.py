"""The end of a view of the page Outputs: take the numbers along, and make them again elsewhere."""

from collections.abc import Callable, Mapping

import streamlit as st

from qfund.ui import commands, outputs_link
from qfund.ui.address import names_a_folder
from qfund.ui.data import download
from qfund.ui.outputs_link import ADDRESS, Asked


def draw(
    key: str, asked: Asked, tables: Mapping[str, tuple[str, Callable[[], bytes]]], document: Callable[[], bytes]
) -> None:
    """``tables``: what a button says → name of the file's kind, and what makes it."""
    part = st.expander("Take it along", icon=":material/download:", key="outputs_data", on_change="rerun")
    if not part.open:
        return
    name = f"qfund-{asked.view}-{key[:8]}"
    with part:
        with st.container(horizontal=True):
            for title, (kind, make) in tables.items():
                download(title, make, f"{name}.{kind}", "text/csv", "table", f"outputs_{kind}")
            download("Everything (JSON)", document, f"{name}.json", "application/json", "data_object", "outputs_json")
        st.markdown("**The link to this page**")
        if not outputs_link.fits(asked):
            st.caption("The texts are too long for a link: send the JSON file instead.")
        else:
            if names_a_folder(asked.model, asked.revision):
                st.caption("It names a folder on this machine and opens only here.")
            st.code(ADDRESS.complete(asked), language=None, wrap_lines=True)
        st.markdown("**The same from the command line**")
        st.code(commands.outputs(asked), language="bash", wrap_lines=True)
