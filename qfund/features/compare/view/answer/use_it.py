"""*Use it*: the lines that load the model in a precision."""

from collections.abc import Sequence
from html import escape

import streamlit as st

from qfund.drawing.phrases import label
from qfund.features.compare.request.ranking import Ranked, chosen
from qfund.features.compare.request.report import Report
from qfund.features.compare.words.use_it import lines, of_file
from qfund.ui.states import literal


def draw(report: Report, rows: Sequence[Ranked]) -> None:
    names = [*(row.result.precision for row in rows), report.reference.precision]
    names = list(dict.fromkeys(names))
    best = chosen(rows, report.reference)
    usual = best.result.precision if best else report.reference.precision
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown("**Use it**", width="content")
        picked = st.selectbox(
            "Precision to use",
            names,
            index=names.index(usual),
            format_func=label,
            key=f"use_it_{usual}",  # another answer begins anew
            label_visibility="collapsed",
            width=220,
        )
    picked = picked if picked in names else usual
    file = next((row.file for row in (report.reference, *report.results) if row.precision == picked), None)
    spec, task = report.spec, report.model.task
    if file is not None:
        found = of_file(file.file, file.format, task)
    else:
        found = lines(spec.model, spec.revision, task, picked, spec.imatrix)
    if not found:
        st.caption(
            f"No library here has {literal(label(picked))} as it was measured here: what comes near is other "
            "arithmetic."
        )
        return
    if report.spec.also:
        st.caption("These lines leave output head and embeddings as they are, which this comparison quantised too.")
    for one in found:
        st.caption(f"**{one.library}**{': ' + literal(one.note) if one.note else ''}")
        st.html(_code(one.code))


def _code(text: str) -> str:
    """Lines to copy. Streamlit's own element colours them by a script that is a quarter of the bytes of a first
    visit."""
    button = '<button type="button" class="qfund-copy">Copy</button>'
    return f'<div class="qfund-code"><pre tabindex="0">{escape(text)}</pre>{button}</div>'
