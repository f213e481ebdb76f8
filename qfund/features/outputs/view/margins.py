"""What a visitor would put up with in vectors or classes, and what that makes of a candidate."""

from collections.abc import Iterable
from dataclasses import replace

import streamlit as st

from qfund.drawing.phrases import unbroken
from qfund.features.outputs.link import ADDRESS, MARGINS
from qfund.features.outputs.request.classes import Classes
from qfund.features.outputs.request.embeddings import Embeddings
from qfund.features.outputs.request.verdicts import verdict
from qfund.ui.states import literal

_TITLES = {
    "cos": ("Cosine, at most … below 1", "Of a text's vector with the reference's, in the mean."),
    "order": (
        "Neighbours reordered, at most …%",
        "Pairs of texts that stand in another order by nearness, with each text as the query in turn.",
    ),
    "rho": (
        "Rank correlation, at most … less",
        "Spearman's ρ of the cosines of scored pairs with their scores, beside the reference's.",
    ),
    "flips": ("Other classes, at most …%", "Items that are given another class."),
}


@st.fragment
def draw(found: Classes | Embeddings, names: Iterable[str]) -> None:
    """The widgets of that part of the margin, and a sentence for each candidate. A fragment: nothing else changes."""
    asked = ADDRESS.current()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="outputs_margin"):
        for name in names:
            field, times, most = MARGINS[name]
            title, help_text = _TITLES[name]
            value = st.number_input(
                title,
                min_value=0.0,
                max_value=most,
                step=0.001 if times == 1 else 0.5,
                format="%.4g",
                key=f"outputs_margin_{name}",
                help=help_text,
                width=232,
                persist_state="session",
            )
            asked = replace(asked, **{field: value / times})  # type: ignore[arg-type]
    ADDRESS.show(asked)
    sentences = (unbroken(verdict(found, name, asked.margin).sentence) for name in found.request.precisions)
    st.markdown("\n".join(f"- {literal(sentence)}" for sentence in sentences))
