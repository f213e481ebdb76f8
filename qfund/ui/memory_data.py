"""The section *Data* of the page Memory: take the numbers along, and make them again elsewhere."""

import msgspec
import streamlit as st

from qfund import memory_tables
from qfund.errors import QfundError
from qfund.fits import Fits
from qfund.plan import HeaderPlan
from qfund.ui import commands, memory_fit, memory_loading
from qfund.ui.address import names_a_folder
from qfund.ui.data import download
from qfund.ui.memory_link import ADDRESS, Asked
from qfund.ui.services import Answer


def draw(asked: Asked, headers: HeaderPlan, exact: Answer, sized: Answer | None) -> None:
    plan, name = exact.result, f"qfund-memory-{exact.key[:8]}"
    with st.container(horizontal=True):
        download("Plan (CSV)", lambda: memory_tables.plan_csv(plan), f"{name}.csv", "text/csv", "table", "plan_csv")
        documents = {
            "Plan": plan,
            "Headers": headers,
            "Fits": _fits(asked, sized),
            "Load peaks": memory_loading.known(asked).get(asked.load),
        }
        for title, found in documents.items():
            if found is not None:
                download(
                    f"{title} (JSON)",
                    lambda found=found: msgspec.json.encode(found),  # type: ignore[misc]
                    f"{name}-{title.lower().replace(' ', '-')}.json",
                    "application/json",
                    "data_object",
                    f"{title.lower()}_json",
                )
    st.markdown("**The link to this page**")
    if names_a_folder(asked.model, asked.revision):
        st.caption("It names a folder on this machine and opens only here.")
    st.code(ADDRESS.complete(asked), language=None, wrap_lines=True)
    st.markdown("**The same from the command line**")
    st.code("\n".join(commands.memory(asked)), language="bash", wrap_lines=True)


def _fits(asked: Asked, sized: Answer | None) -> Fits | None:
    """Under the workload that is chosen, not the one that the job had."""
    if sized is None or sized.result is None:
        return None
    try:
        return memory_fit.under(sized.result, asked.workload())
    except QfundError:
        return None
