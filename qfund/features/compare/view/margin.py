"""What a visitor would put up with: a margin for each metric, chosen in widgets and kept in the address.

It is no part of the comparison: changing it measures nothing anew.
"""

from dataclasses import replace

import streamlit as st

from qfund.features.compare.link import show_margin, shown_margin
from qfund.features.compare.request.decision import Margin
from qfund.features.compare.request.link import MARGINS
from qfund.features.compare.request.report import Report, predicts_tokens
from qfund.ui import pickers

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
    labels = not predicts_tokens(report) and not any("perplexity_ratio" in row.fidelity for row in report.results)
    top = f"top {'class' if labels else 'token'}"
    titles = {
        "ppl": (
            "Perplexity worse, %",
            "How much worse a candidate's perplexity may be than the reference's. Empty: any.",
        ),
        "changed": (
            f"{top.capitalize()}s changed, %",
            f"How often a candidate's {top} may be another one than the reference's. Empty: any.",
        ),
        "kl": ("KL divergence, nat", "How far the whole distribution may be, in the mean. Empty: any."),
        "cos": ("Cosine below 1 by", "How far the last hidden states may turn, in the mean. Empty: any."),
    }
    asked = [name for name in MARGINS if any(METRIC[name] in result.fidelity for result in report.results)]
    for name in asked:
        field, times, most, step = MARGINS[name]
        title, help_text = titles[name]
        value = pickers.bound(title, f"margin_{name}", most, step, f"Your margin, at most. {help_text}")
        margin = replace(margin, **{field: None if value is None else value / times})
    state[_BEGAN_AT] = margin
    show_margin(margin)
    return margin
