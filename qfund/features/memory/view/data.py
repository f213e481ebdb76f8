"""The section *Data* of the page Memory: take the numbers along, and make them again elsewhere."""

import shlex

import msgspec
import streamlit as st

from qfund.core.errors import QfundError
from qfund.features.memory import tables
from qfund.features.memory.link import ADDRESS, Asked
from qfund.features.memory.request.budgets import GPUS
from qfund.features.memory.request.fits import Fits
from qfund.features.memory.request.plan import HeaderPlan
from qfund.features.memory.view import fit, loading
from qfund.ui.address import names_a_folder
from qfund.ui.downloads import download
from qfund.ui.services import Answer


def command_lines(asked: Asked) -> list[str]:
    """``qfund plan …``, ``qfund fits …`` and ``qfund load-peak …`` of the page Memory."""
    of = ["--revision", asked.revision] if asked.revision else []
    also = ["--also", *asked.also] if asked.also else []
    precisions = ["--precision", *asked.precisions]
    work = ["--gpu" if asked.budget in GPUS else "--budget", asked.budget]
    work += ["--context", str(asked.context), "--batch", str(asked.batch), *(["--kv", asked.kv] if asked.kv else [])]
    return [
        shlex.join(["qfund", "plan", asked.model, *precisions, *also, *of]),
        shlex.join(["qfund", "fits", asked.model, *work, *precisions, *also, *of]),
        shlex.join(["qfund", "load-peak", asked.model, "--precision", asked.load, *of]),
    ]


def draw(asked: Asked, headers: HeaderPlan, exact: Answer, sized: Answer | None) -> None:
    plan, name = exact.result, f"qfund-memory-{exact.key[:8]}"
    with st.container(horizontal=True):
        download("Plan (CSV)", lambda: tables.plan_csv(plan), f"{name}.csv", "text/csv", "table", "plan_csv")
        documents = {
            "Plan": plan,
            "Headers": headers,
            "Fits": _fits(asked, sized),
            "Load peaks": loading.known(asked).get(asked.load),
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
    st.code("\n".join(command_lines(asked)), language="bash", wrap_lines=True)


def _fits(asked: Asked, sized: Answer | None) -> Fits | None:
    """Under the workload that is chosen, not the one that the job had."""
    if sized is None or sized.result is None:
        return None
    try:
        return fit.under(sized.result, asked.workload())
    except QfundError:
        return None
