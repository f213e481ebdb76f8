"""Headers of a checkpoint, read in the web process."""

from dataclasses import replace

import streamlit as st

from qfund.checkpoints import catalog
from qfund.core.errors import QfundError
from qfund.features.memory.request import plan
from qfund.features.memory.request.plan import HeaderPlan, PlanRequest


def headers(request: PlanRequest) -> HeaderPlan:
    """What the checkpoint's headers alone tell, in every float cast, read in this process: milliseconds on a disk.

    Raises:
        QfundError: the model is not there, or its headers are malformed.
    """
    if catalog.locate(request.model, request.revision).folder is not None:
        return plan.headers(replace(request, precisions=()), _silently)
    found = _hub_headers(request)
    if isinstance(found, QfundError):
        raise found
    return found


@st.cache_data(ttl=120, max_entries=32, show_spinner="Reading headers from the Hub")
def _hub_headers(request: PlanRequest) -> HeaderPlan | QfundError:
    """A failure is remembered too, so that a rerun asks the network nothing."""
    try:
        return plan.headers(replace(request, precisions=()), _silently)
    except QfundError as error:
        return error


def _silently(phase: str, share: float) -> None:
    """No progress: there is little to wait for."""
