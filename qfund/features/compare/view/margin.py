"""What a visitor would put up with: a margin for each metric, chosen in widgets and kept in the address.

It is no part of the comparison: changing it measures nothing anew.
"""

from dataclasses import replace

import streamlit as st

from qfund.features.compare.link import show_margin, shown_margin
from qfund.features.compare.request.decision import Margin
from qfund.features.compare.request.link import MARGINS
from qfund.features.compare.request.report import Report

_BEGAN_AT = "margin_began_at"  # the margin that the widgets began at

#: The metric that each is a margin of.
METRIC = {"ppl": "perplexity_ratio", "changed": "top1_agreement", "kl": "kl_mean", "cos": "hidden_cosine"}


def draw(report: Report) -> Margin:
    """The widgets for what this report has measured; the margin that is chosen."""
    state, margin = st.session_state, shown_margin()
    if state.get(_BEGAN_AT) != margin:
        for name, (field, times, _, _) in MARGINS.items():
            value = getattr(margin, field)
            state[f"margin_{name}"] = None if value is None else round(times * value, 6)
        state[_BEGAN_AT] = margin
    labels = report.tokens is None and not any("perplexity_ratio" in row.fidelity for row in report.results)
    titles = {
        "ppl": ("Perplexity, at most … % worse", "%.4g", "Of a candidate, beside the reference's. Empty: any."),
        "changed": (
            f"Top {'class' if labels else 'token'} changed, at most …%",
            "%.4g",
            "How often its most likely output is another one than the reference's. Empty: any.",
        ),
        "kl": (
            "KL divergence, at most … nat",
            "%.4g",
            "Of the whole distribution, in the mean. Empty: any.",
        ),
        "cos": (
            "Cosine, at most … below 1",
            "%.4g",
            "Of the last hidden states with the reference's, in the mean. Empty: any.",
        ),
    }
    asked = [name for name in MARGINS if any(METRIC[name] in result.fidelity for result in report.results)]
    for name in asked:
        field, times, most, step = MARGINS[name]
        title, form, help_text = titles[name]
        value = st.number_input(
            title,
            min_value=0.0,
            max_value=most,
            value=None,
            step=step,
            format=form,
            key=f"margin_{name}",
            help=help_text,
            placeholder="any",
            width=232,
            persist_state="session",
        )
        margin = replace(margin, **{field: None if value is None else value / times})
    state[_BEGAN_AT] = margin
    show_margin(margin)
    return margin
